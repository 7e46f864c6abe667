import { parseArgs } from 'node:util'
import type { Config } from '../config/config.ts'
import { describeConfig } from '../config/describe-config.ts'
import { loadConfig, readTextFile } from '../config/load-config.ts'
import type { ReadFile } from '../config/read-file.ts'
import type { FlawOfSchema } from '../config/read-streams.ts'
import { warningsOfConfig } from '../config/warnings.ts'
import { compileEventSchema } from '../events/event-schema.ts'
import { warningOfFolder } from '../spool/ephemeral-folder.ts'
import { configOrExplain, readCommandLine, wholeNumber } from './command-line.ts'
import { writeOut } from './process.ts'

const checkUsage = `usage: chute check [--connect [--timeout-ms N]]

Prints the effective configuration with secrets masked, or all that is wrong with it. Exit code 1: it cannot be used.

  --connect             reaches Kafka as the gateway would, and says what it found: brokers, credentials, versions, topics,
                        their settings, rights, leaders. Nothing is created and no record is written. Exit code 1: the gateway would not be ready
  --timeout-ms N        longest wait for that (15000)
`

/**
 * `chute check`: prints the effective configuration with secrets masked, or every problem on stderr. It starts nothing. With
 * `--connect` it looks at Kafka as the gateway would, so that an init container finds a problem before the gateway starts.
 * @returns the exit code of the process: 0; 1 if the configuration cannot be used, or if the gateway would not be ready with it;
 * 2 for a wrong command line.
 */
export async function runCheckCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, checkUsage, readCheckArguments)
  if (typeof commandLine === 'number') return commandLine
  const config = readConfig(env)
  if (config === null) return 1
  for (const each of warningsOfConfig(config)) process.stderr.write(`warning: ${each}\n`)
  const warning = warningOfFolder(config)
  if (warning !== null) process.stderr.write(`warning: ${warning}\n`)
  if (commandLine.connectMs === null) {
    const { CHUTE_CONFIG = null, CHUTE_KEYS_FILE = null } = env
    await writeOut(describeConfig(config, { CHUTE_CONFIG, CHUTE_KEYS_FILE }))
    return 0
  }
  const { checkConnections } = await import('./check-connect.ts')
  const findings = await checkConnections(config, commandLine.connectMs)
  await writeOut(
    findings.map(({ ok, name, detail }) => `${ok ? 'ok  ' : 'FAIL'} ${name}: ${detail}\n`).join(''),
  )
  return findings.every(({ ok }) => ok) ? 0 : 1
}

interface CheckCommandLine {
  /** Longest look at Kafka, in milliseconds; null without `--connect`. */
  readonly connectMs: number | null
}

function readCheckArguments(argv: readonly string[]): CheckCommandLine {
  const { values } = parseArgs({
    args: [...argv],
    options: { connect: { type: 'boolean', default: false }, 'timeout-ms': { type: 'string' } },
  })
  const timeout = values['timeout-ms']
  if (!values.connect) {
    if (timeout !== undefined) throw new Error('--timeout-ms is given without --connect')
    return { connectMs: null }
  }
  return { connectMs: timeout === undefined ? 15_000 : wholeNumber('--timeout-ms', timeout, 1, 3_600_000) }
}

/**
 * Loads the configuration of the gateway, for `chute check` and `chute serve`, and compiles the JSON Schemas of the streams.
 * Every problem is written to stderr.
 * @returns null if the configuration cannot be used.
 */
export function readConfig(env: NodeJS.ProcessEnv, readFile: ReadFile = readTextFile): Config | null {
  return configOrExplain(() => loadConfig(env, readFile, flawOfSchema))
}

/** Compiles a JSON Schema, which is the only way to know whether it can be used. */
export const flawOfSchema: FlawOfSchema = (schema) => {
  try {
    compileEventSchema(schema)
    return null
  } catch (error) {
    return (error as Error).message
  }
}

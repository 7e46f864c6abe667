import { existsSync, readdirSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { lossesOf, spooledOf } from '../kafka/producer/account-log.ts'
import { readConfig } from './check-command.ts'
import { readCommandLine, wholeNumber } from './command-line.ts'
import { createLogger, StopSignals } from './process.ts'
import { build } from './serve-command.ts'
import { logEnd } from './serve-log.ts'

const drainUsage = `usage: chute drain [--data-dir D] [--timeout-ms N]

Sends what the data folder of a gateway that is gone holds, and ends. It takes no requests. The streams and the settings for
Kafka are those of the gateway: the environment, and the file in CHUTE_CONFIG. Never drain a folder and its copy.

  --data-dir D          the folder (CHUTE_DATA_DIR)
  --timeout-ms N        longest wait for Kafka (none)

Exit codes: 0 the folder holds no event any more; 1 it holds some, also in files *.damaged or of dead letters, which the log names, or
it cannot be used, or some were lost; 2 the command line is wrong.
`

/**
 * `chute drain`: sends what durable streams of a gateway that is gone for good have on disk. It holds the lock of the folder meanwhile.
 * A signal ends it, and what is left stays on disk.
 * @returns the exit code of the process: 0 if the folder holds no event any more; 1 if it holds some (dead letters and damaged parts are some,
 * which nobody sends), if it cannot be used, or if records were lost; 2 for a wrong command line.
 */
export async function runDrainCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, drainUsage, readDrainArguments)
  if (typeof commandLine === 'number') return commandLine
  const dataDir = commandLine.dataDir ?? env.CHUTE_DATA_DIR ?? ''
  const flaw = flawOfFolder(dataDir)
  if (flaw !== null) {
    process.stderr.write(`${flaw}\n`)
    return 1
  }
  // Nobody sends requests: no key is needed, and one process does it.
  const config = readConfig({
    ...env,
    CHUTE_DATA_DIR: dataDir,
    HOST: '127.0.0.1',
    WORKERS: '1',
    SPOOL_DRAIN_TIMEOUT_MS: '0',
    CHUTE_KEYS_FILE: '',
    LIVE_EVENTS: '',
  })
  if (config === null) return 1
  const durable = config.streams.filter(({ spool }) => spool !== null)
  if (durable.length === 0) {
    process.stderr.write(
      'No stream of the configuration is durable. Give the CHUTE_CONFIG of the gateway that wrote the folder.\n',
    )
    return 1
  }
  const logger = createLogger(config)
  const stopped = new StopSignals().next()
  // The topics of the other streams need not be there.
  const gateway = await Promise.race([build({ ...config, streams: durable }, logger), stopped])
  if (gateway === null || typeof gateway === 'string') return 1
  const records = spooledOf(gateway.stats)
  logger.info({ dataDir, records }, 'sending what the folder holds')
  const sent = gateway.drain(commandLine.timeoutMs ?? Infinity)
  const end = await Promise.race([sent, stopped])
  await gateway.stop()
  const left = spooledOf(gateway.stats)
  const lost = lossesOf(gateway.stats)
  if (left > 0) logger.error({ dataDir, records: left }, 'the folder still holds records: drain it again')
  const toLookAt = filesToLookAt(dataDir)
  if (toLookAt.length > 0)
    logger.warn({ dataDir, files: toLookAt }, 'look at these files before the folder is deleted')
  const exitCode = logEnd({ stats: gateway.stats, lost, interrupted: typeof end === 'string' }, logger)
  return left > 0 || toLookAt.length > 0 ? 1 : exitCode
}

function readDrainArguments(argv: readonly string[]): {
  readonly dataDir: string | undefined
  readonly timeoutMs: number | null
} {
  const { values } = parseArgs({
    args: [...argv],
    options: { 'data-dir': { type: 'string' }, 'timeout-ms': { type: 'string' } },
  })
  const timeout = values['timeout-ms']
  return {
    dataDir: values['data-dir'],
    timeoutMs: timeout === undefined ? null : wholeNumber('--timeout-ms', timeout, 1, 86_400_000),
  }
}

/** Without this look a folder that is not there would be made, and a wrong path would look like a folder that is empty. */
function flawOfFolder(dataDir: string): string | null {
  if (dataDir === '') return 'Name the folder: --data-dir D, or CHUTE_DATA_DIR.'
  if (existsSync(join(dataDir, 'version'))) return null
  return existsSync(dataDir)
    ? `${dataDir} is no data folder of Chute: it has no file "version".`
    : `There is no folder ${dataDir}.`
}

/** Files with events that are not sent: parts that could not be read, and dead letters. */
function filesToLookAt(dataDir: string): string[] {
  const files = readdirSync(dataDir, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  )
  return files
    .filter(({ parentPath, name }) => name.endsWith('.damaged') || hasLetters(relative(dataDir, parentPath)))
    .map(({ parentPath, name }) => join(parentPath, name))
}

/** @param folder below the data folder. That can have the name itself, and so can a stream, whose spool is a folder of `spool`. */
function hasLetters(folder: string): boolean {
  return basename(folder) === 'dead-letters' && basename(dirname(folder)) !== 'spool'
}

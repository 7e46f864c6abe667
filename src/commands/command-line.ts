import { parseArgs } from 'node:util'
import { ConfigError } from '../config/config.ts'
import { withoutSecrets } from './ask-gateway.ts'

/**
 * The folder has one file a command, and what the commands share. Read this file of the folder first. `main.ts` loads a command
 * when it is asked for. A command reads its words and its configuration, puts the parts together, and returns the exit code of
 * the process. No other folder knows this one.
 *
 * Reads the words behind a command. `--help` and `-h` print the usage of the command.
 * @param read reads the words, and throws an Error that says what is wrong with them.
 * @returns what `read` returned, or the exit code with which the process ends: 0 after the usage, 2 after an error.
 */
export function readCommandLine<T extends object>(
  argv: readonly string[],
  usage: string,
  read: (argv: readonly string[]) => T,
): T | number {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(usage)
    return 0
  }
  try {
    return read(argv)
  } catch (error) {
    // A word that was not expected may be a URL with a key in it.
    process.stderr.write(`${withoutSecrets((error as Error).message)}\n\n${usage}`)
    return 2
  }
}

/** Reads the command line of a command that takes no words. @throws Error that names the first word. */
export function readNoWords(argv: readonly string[]): object {
  return parseArgs({ args: [...argv], options: {} }).values
}

/**
 * Loads a configuration. Where it cannot be used, every problem is written to stderr.
 * @returns null if the configuration cannot be used.
 */
export function configOrExplain<T extends object>(load: () => T): T | null {
  const config = configOrExitCode(load)
  return typeof config === 'number' ? null : config
}

/**
 * As {@link configOrExplain}, for a command whose words are settings too.
 * @returns the exit code where the configuration cannot be used: 2 if a word of the command line is wrong, and else 1.
 */
export function configOrExitCode<T extends object>(load: () => T): T | number {
  try {
    return load()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    return error.problems.some(({ path }) => path.startsWith('--')) ? 2 : 1
  }
}

/** Reads a number of a command line. @throws Error that says what would be right. */
export function wholeNumber(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= least && value <= most) return value
  throw new Error(`${name} must be a whole number from ${least} to ${most}, got ${text}`)
}

/** The address at which a process that is no gateway shows its metrics. */
export interface MetricsAddress {
  readonly host: string
  readonly port: number
}

/** Reads `--metrics-port` and `--metrics-host`; null if neither is given. @throws Error that says what is wrong. */
export function readMetricsAddress(values: {
  readonly 'metrics-port'?: string | undefined
  readonly 'metrics-host'?: string | undefined
}): MetricsAddress | null {
  const { 'metrics-port': port, 'metrics-host': host = '127.0.0.1' } = values
  if (port !== undefined) return { host, port: wholeNumber('--metrics-port', port, 0, 65_535) }
  if (values['metrics-host'] !== undefined) throw new Error('--metrics-host is given without --metrics-port')
  return null
}

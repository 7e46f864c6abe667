import { parseArgs } from 'node:util'

/**
 * Reads the words behind a command: `--help` and `-h` print its usage; what the command does not know is an error.
 * @param read reads them, and throws an Error that says what is wrong.
 * @returns what was read, or the exit code with which the process ends: 0 after the usage, 2 after an error.
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
    process.stderr.write(`${(error as Error).message}\n\n${usage}`)
    return 2
  }
}

/** Reads the command line of a command that takes no words. @throws Error that names the first one. */
export function readNoWords(argv: readonly string[]): object {
  return parseArgs({ args: [...argv], options: {} }).values
}

/** Reads a number of a command line. @throws Error that says what would be right. */
export function wholeNumber(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= least && value <= most) return value
  throw new Error(`${name} must be a whole number from ${least} to ${most}, got ${text}`)
}

import { describeConfig } from '../config/describe-config.ts'
import { readCommandLine, readNoWords } from './command-line.ts'
import { readConfig } from './read-config.ts'

const checkUsage = `usage: chute check

Prints the effective configuration with secrets masked, or all that is wrong with it. Exit code 1: it cannot be used.
`

/**
 * `chute check`: prints the effective configuration with secrets masked, or every problem on stderr. Starts nothing.
 * @returns the process's exit code: 0; 1 if the configuration cannot be used; 2 for a command line that is wrong.
 */
export function runCheckCommand(argv: readonly string[], env: NodeJS.ProcessEnv): number {
  const commandLine = readCommandLine(argv, checkUsage, readNoWords)
  if (typeof commandLine === 'number') return commandLine
  const config = readConfig(env)
  if (config === null) return 1
  process.stdout.write(describeConfig(config))
  return 0
}

import { describeConfig } from '../config/describe-config.ts'
import { readConfig } from './read-config.ts'

/**
 * `chute check`: prints the effective configuration with secrets masked, or every problem on stderr. Starts nothing.
 * @returns the process's exit code: 0, or 1 if the configuration cannot be used.
 */
export function runCheckCommand(env: NodeJS.ProcessEnv): number {
  const config = readConfig(env)
  if (config === null) return 1
  process.stdout.write(describeConfig(config))
  return 0
}

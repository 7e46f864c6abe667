import { ConfigError, type ConfigProblem } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { loadConfig } from '../config/load-config.ts'
import { compileEventSchema } from '../events/event-schema.ts'

/**
 * Loads the configuration for a command, and tries the streams' JSON Schemas, which only show at compiling whether they
 * are any. What is wrong is written to stderr.
 * @returns null if the configuration cannot be used.
 */
export function readConfig(env: NodeJS.ProcessEnv): Config | null {
  try {
    const config = loadConfig(env)
    const problems = problemsOfSchemas(config)
    if (problems.length > 0) throw new ConfigError(problems)
    return config
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    return null
  }
}

function problemsOfSchemas(config: Config): ConfigProblem[] {
  return config.streams.flatMap((stream) => {
    try {
      compileEventSchema(stream.schema)
      return []
    } catch (error) {
      return {
        path: `streams.${stream.name}.schema`,
        problem: `cannot be used: ${(error as Error).message}`,
        remedy: 'Mend the JSON Schema (draft-07, or 2020-12 with its $schema).',
      }
    }
  })
}

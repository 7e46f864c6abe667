import { ConfigError, type Config } from '../config/config.ts'
import { loadConfig, readTextFile } from '../config/load-config.ts'
import type { FlawOfSchema } from '../config/read-streams.ts'
import { compileEventSchema } from '../events/event-schema.ts'

/**
 * Loads the configuration for a command, and tries the streams' JSON Schemas. Every problem is written to stderr.
 * @returns null if the configuration cannot be used.
 */
export function readConfig(env: NodeJS.ProcessEnv): Config | null {
  try {
    return loadConfig(env, readTextFile, flawOfSchema)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    return null
  }
}

const flawOfSchema: FlawOfSchema = (schema) => {
  try {
    compileEventSchema(schema)
    return null
  } catch (error) {
    return (error as Error).message
  }
}

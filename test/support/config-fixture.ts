import { type Config, ConfigError, type ConfigProblem, type StreamConfig } from '../../src/config/config.ts'
import { loadConfig } from '../../src/config/load-config.ts'

/** Files as the configuration finds them, by path. */
export type Files = Readonly<Record<string, string>>

/** An environment that starts a gateway, changed by `env`. */
export function load(env: NodeJS.ProcessEnv = {}, files: Files = {}): Config {
  return loadConfig({ KAFKA_BROKERS: 'kafka:9092', ...env }, (path) => {
    const content = files[path]
    if (content !== undefined) return content
    throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
  })
}

/** Loads a configuration file. */
export function loadFile(yaml: string, files: Files = {}): Config {
  return load({ CHUTE_CONFIG: 'chute.yaml' }, { 'chute.yaml': yaml, ...files })
}

/** Loads a file with one stream, `s`, written as a YAML flow map. */
export function loadStream(stream: string, files: Files = {}): StreamConfig {
  const [loaded] = loadFile(`streams: { s: ${stream} }`, files).streams
  if (loaded === undefined) throw new Error('no stream was loaded')
  return loaded
}

/** The problems that loading ends with; none if it succeeds. */
export function problemsOf(attempt: () => unknown): readonly ConfigProblem[] {
  try {
    attempt()
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
}

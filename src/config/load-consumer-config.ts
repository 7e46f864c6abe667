import { ConfigError, type ConfigProblem } from './config-error.ts'
import type { Config, ConsumerConfig, KafkaConfig } from './config.ts'
import type { Environment } from './environment-schema.ts'
import { kafkaConfig, readTextFile } from './load-config.ts'
import { consumerSection, readConsumer } from './read-consumer.ts'
import { readDocument } from './read-document.ts'
import { readEnvironment } from './read-environment.ts'
import { refuseUnknownKeys } from './read-fields.ts'
import type { ReadFile } from './read-file.ts'

/** What was said on the command line of `chute consume`. */
export interface ConsumeArguments {
  readonly topic: string | undefined
  readonly group: string | undefined
  readonly delivery: string | undefined
  /** Each `--set`, as it was written. */
  readonly set: readonly string[]
}

/** The whole configuration of one process that reads from Kafka. */
export interface ReaderProcessConfig extends Pick<Config, 'shutdownTimeoutMs' | 'logLevel'> {
  readonly kafka: KafkaConfig
}

/**
 * Reads the configuration of `chute consume`: the environment as the gateway does, `consumer:` of the file that it
 * names, and `--set`, which comes before the file.
 * @throws ConfigError with every problem, not only the first.
 */
export function loadConsumerConfig(
  args: ConsumeArguments,
  env: NodeJS.ProcessEnv,
  readFile: ReadFile = readTextFile,
): ReaderProcessConfig & { readonly consumer: ConsumerConfig } {
  const problems: ConfigProblem[] = []
  const values = readEnvironment(env, readFile, problems)
  const file = values.CHUTE_CONFIG ?? null
  const document = (file === null ? null : readDocument(file, { readFile, problems })) ?? {}
  refuseUnknownKeys(document, ['streams', 'consumer'], (key) => key, problems)
  const written = readSets(args.set, problems)
  const fromFile = consumerSection(document, problems)
  const consumer = readConsumer(
    {
      ...args,
      settings: { ...fromFile, ...written },
      at: (key) => (key in fromFile && !(key in written) ? `consumer.${key}` : `--set ${key}`),
      names: { topic: '--topic', group: '--group', delivery: '--delivery' },
    },
    problems,
  )
  if (consumer === null || problems.length > 0) throw new ConfigError(problems)
  return { ...readerProcessConfig(values as Environment), consumer }
}

/** Reads the environment of a process that only needs to reach Kafka. @throws ConfigError */
export function loadReaderConfig(
  env: NodeJS.ProcessEnv,
  readFile: ReadFile = readTextFile,
): ReaderProcessConfig {
  const problems: ConfigProblem[] = []
  const values = readEnvironment(env, readFile, problems)
  if (problems.length > 0) throw new ConfigError(problems)
  return readerProcessConfig(values as Environment)
}

function readerProcessConfig(environment: Environment): ReaderProcessConfig {
  return {
    kafka: kafkaConfig(environment),
    shutdownTimeoutMs: environment.SHUTDOWN_TIMEOUT_MS,
    logLevel: environment.LOG_LEVEL,
  }
}

function readSets(sets: readonly string[], problems: ConfigProblem[]): Record<string, string> {
  const settings: Record<string, string> = {}
  for (const text of sets) {
    const equals = text.indexOf('=')
    const key = text.slice(0, equals).trim()
    if (equals < 1) {
      problems.push({
        path: `--set ${text}`,
        problem: 'is not key=value',
        remedy: 'Write --set max.poll.records=500.',
      })
    } else if (key in settings) {
      problems.push({ path: `--set ${key}`, problem: 'is given twice', remedy: 'Give it once.' })
    } else {
      settings[key] = text.slice(equals + 1).trim()
    }
  }
  return settings
}

import { ConfigError, type ConfigProblem } from './config-error.ts'
import type { ConsumerConfig, ConsumerDelivery, ConsumerSection } from './config.ts'
import {
  consumerShape,
  refuseConsumerContradictions,
  refuseSlowHeartbeats,
  resolveConsumer,
  resolveConsumerSection,
  type ConsumerValues,
} from './consumer-schema.ts'
import { isMap, readFields, refuseUnknownKeys } from './read-fields.ts'
import { quote } from './setting.ts'
import { flawOfTopic } from './stream-schema.ts'

/** What a consumer is made of, before it was judged. */
export interface ConsumerInput {
  readonly topic: string | undefined
  readonly group: string | undefined
  /** `at-most-once` unless given. */
  readonly delivery?: string | undefined
  /** Kafka's settings by their own names. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Where a setting comes from, for problems. */
  readonly at: (key: string) => string
  /** Names of the other three, for problems. */
  readonly names: { readonly topic: string; readonly group: string; readonly delivery: string }
}

/**
 * Reads the settings of one consumer. What it returns is free of contradictions.
 * @returns null if there are problems, which are added to `problems`.
 */
export function readConsumer(input: ConsumerInput, problems: ConfigProblem[]): ConsumerConfig | null {
  const before = problems.length
  const { topic = '', group = '', delivery = 'at-most-once', at, names } = input
  const flaw = flawOfTopic(topic)
  if (input.topic === undefined) {
    problems.push({ path: names.topic, problem: 'is missing', remedy: 'Name the topic to read.' })
  } else if (flaw !== null) {
    problems.push({ path: names.topic, problem: flaw.problem, remedy: flaw.remedy })
  }
  if (group.trim() === '') {
    const remedy = 'Name the consumer group: members of one group share the partitions and the offsets.'
    problems.push({ path: names.group, problem: 'is missing', remedy })
  }
  if (!isDelivery(delivery)) {
    const remedy = `Give at-most-once (never twice), at-least-once (not lost) or auto-commit (neither).`
    problems.push({ path: names.delivery, problem: `is ${quote(delivery)}`, remedy })
  }
  const values = readSettings(input.settings, at, problems)
  if (!isDelivery(delivery)) return null
  const config = resolveConsumer(values, { topic, groupId: group, delivery })
  refuseConsumerContradictions(values, config, at, problems)
  return problems.length > before ? null : config
}

/** As {@link readConsumer}, for who calls it as a library. @throws ConfigError with every problem. */
export function readConsumerOrThrow(input: ConsumerInput): ConsumerConfig {
  const problems: ConfigProblem[] = []
  const config = readConsumer(input, problems)
  if (config === null) throw new ConfigError(problems)
  return config
}

/**
 * Reads `consumer:` of the file for commands that read the file for something else, and tells what is wrong in it by
 * itself.
 * @returns null where the file has none.
 */
export function readConsumerSection(
  document: Readonly<Record<string, unknown>>,
  problems: ConfigProblem[],
): ConsumerSection | null {
  if (document['consumer'] === undefined) return null
  const at = (key: string): string => `consumer.${key}`
  const values = readSettings(consumerSection(document, problems), at, problems)
  const section = resolveConsumerSection(values)
  refuseSlowHeartbeats(values, section, at, problems)
  return section
}

/** `consumer:` of the file as it is written; nothing where it is missing or no map. */
export function consumerSection(
  document: Readonly<Record<string, unknown>>,
  problems: ConfigProblem[],
): Readonly<Record<string, unknown>> {
  const section = document['consumer'] ?? {}
  if (!isMap(section)) {
    const remedy = 'Give a map: { max.poll.records: 500 }.'
    problems.push({ path: 'consumer', problem: `is ${quote(section)}`, remedy })
    return {}
  }
  return section
}

function readSettings(
  settings: Readonly<Record<string, unknown>>,
  at: (key: string) => string,
  problems: ConfigProblem[],
): ConsumerValues {
  const others: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(settings)) {
    const elsewhere = setElsewhere[key]
    if (elsewhere === undefined) others[key] = value
    else problems.push({ path: at(key), problem: 'is not set here', remedy: elsewhere })
  }
  refuseUnknownKeys(others, Object.keys(consumerShape), at, problems)
  return readFields(consumerShape, settings, at, problems)
}

const setElsewhere: Readonly<Record<string, string>> = {
  'group.id': 'Give it as --group.',
  'bootstrap.servers': 'Set KAFKA_BROKERS.',
  'client.id': 'Set KAFKA_CLIENT_ID.',
  'key.deserializer': 'Leave it out: keys are handed on as they are.',
  'value.deserializer': 'Leave it out: values are handed on as they are.',
}

function isDelivery(text: string): text is ConsumerDelivery {
  return text === 'at-most-once' || text === 'at-least-once' || text === 'auto-commit'
}

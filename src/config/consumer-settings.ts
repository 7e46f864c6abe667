import { z } from 'zod'
import { ConfigError, type ConfigProblem } from './config.ts'
import {
  autoOffsetResets,
  commitsByTheClock,
  isolationLevels,
  type AutoOffsetReset,
  type IsolationLevel,
  type ConsumerConfig,
  type ConsumerDelivery,
  type ConsumerSection,
} from './consumer-config.ts'
import { defaultsOf, type FieldValues, isMap, readFields, refuseUnknownKeys } from './read-fields.ts'
import {
  asCode,
  type Flaw,
  oneOf,
  quote,
  reference,
  refuseIf,
  trueOrFalse,
  wholeNumber,
  wordsWithMeanings,
} from './setting.ts'
import { flawOfTopic } from './topic-settings.ts'

/** The settings of `--set` and `consumer:`, with Kafka's own names, units and bounds (`ConsumerConfig.java`). */
export const consumerShape = {
  'enable.auto.commit': trueOrFalse.optional().register(reference, {
    what: 'may be said, and has to agree: `true` with `auto-commit`, `false` with the other two',
    byDefault: 'by `--delivery`',
  }),
  'auto.commit.interval.ms': wholeNumber('milliseconds', 1).optional().register(reference, {
    what: "pause between two commits by the clock; only with `--delivery auto-commit`. Kafka's default is 5000",
  }),
  'auto.offset.reset': autoOffsetReset()
    .default('latest')
    .register(reference, { what: 'where a group begins that has committed nothing' }),
  'max.poll.records': wholeNumber(null, 1)
    .default(500)
    .register(reference, { what: 'the most that is committed, and so put at stake, at a time' }),
  'max.poll.interval.ms': wholeNumber('milliseconds', 1).default(300_000).register(reference, {
    what: 'longest time that processing one poll may take before the group goes on without this member',
  }),
  'session.timeout.ms': wholeNumber('milliseconds', 1).default(45_000).register(reference, {
    what: 'a member that is not heard of for this long is taken for dead; brokers have limits for it',
  }),
  'heartbeat.interval.ms': wholeNumber('milliseconds', 1)
    .optional()
    .register(reference, { what: 'pause between two signs of life' }),
  'fetch.min.bytes': wholeNumber('bytes', 1)
    .default(1)
    .register(reference, { what: 'a broker answers a fetch when it has this much' }),
  'fetch.max.bytes': wholeNumber('bytes', 1)
    .default(52_428_800)
    .register(reference, { what: 'most that one fetch brings' }),
  'fetch.max.wait.ms': wholeNumber('milliseconds', 0)
    .default(500)
    .register(reference, { what: 'or when this time is up' }),
  'max.partition.fetch.bytes': wholeNumber('bytes', 1)
    .default(1_048_576)
    .register(reference, { what: 'most of one partition' }),
  'isolation.level': oneOf(Object.keys(isolationLevels) as IsolationLevel[])
    .default('read_uncommitted')
    .register(reference, { what: 'whether records of open transactions are read' }),
} satisfies z.ZodRawShape

/** The settings that could be read. */
export type ConsumerValues = FieldValues<typeof consumerShape>

/** Fills in the defaults: those of docs/delivery-model.md, and Kafka's. {@link refuseConsumerContradictions} judges the result. */
export function resolveConsumer(
  values: ConsumerValues,
  { topic, groupId, delivery }: Pick<ConsumerConfig, 'topic' | 'groupId' | 'delivery'>,
): ConsumerConfig {
  const set = { ...defaultsOf(consumerShape), ...values }
  return {
    topic,
    groupId,
    delivery,
    autoCommitIntervalMs: values['auto.commit.interval.ms'] ?? 100,
    autoOffsetReset: set['auto.offset.reset'],
    maxPollRecords: set['max.poll.records'],
    maxPollIntervalMs: set['max.poll.interval.ms'],
    sessionTimeoutMs: set['session.timeout.ms'],
    heartbeatIntervalMs: values['heartbeat.interval.ms'] ?? 3_000,
    fetchMinBytes: set['fetch.min.bytes'],
    fetchMaxBytes: set['fetch.max.bytes'],
    fetchMaxWaitMs: set['fetch.max.wait.ms'],
    maxPartitionFetchBytes: set['max.partition.fetch.bytes'],
    isolationLevel: set['isolation.level'],
  }
}

/** `consumer:` of the file, with the defaults of `chute consume`. */
export function resolveConsumerSection(values: ConsumerValues): ConsumerSection {
  const { topic: _, groupId: _of, delivery: _by, ...reading } = resolveConsumer(values, nobody)
  return {
    ...reading,
    enableAutoCommit: values['enable.auto.commit'] ?? null,
    autoCommitIntervalMs: values['auto.commit.interval.ms'] ?? null,
  }
}

/** Finds settings of a consumer that contradict each other. */
export function refuseConsumerContradictions(
  values: ConsumerValues,
  config: ConsumerConfig,
  at: (key: string) => string,
  problems: ConfigProblem[],
): void {
  const { delivery } = config
  const byTheClock = values['enable.auto.commit']
  if (byTheClock !== undefined && byTheClock !== commitsByTheClock(delivery)) {
    problems.push({
      path: at('enable.auto.commit'),
      problem: `is ${byTheClock} with --delivery ${delivery}${byTheClock ? `: commits by the clock know nothing of what was processed` : ''}`,
      remedy: `Leave it out (${autoCommitMeaning[delivery]}), or set --delivery ${byTheClock ? 'auto-commit' : 'at-most-once'}.`,
    })
  }
  if (values['auto.commit.interval.ms'] !== undefined && !commitsByTheClock(delivery)) {
    problems.push({
      path: at('auto.commit.interval.ms'),
      problem: `is set with --delivery ${delivery}, which commits each poll itself`,
      remedy: 'Leave it out.',
    })
  }
  refuseSlowHeartbeats(values, config, at, problems)
}

/** Finds heartbeats that come too late. They are a contradiction with every delivery. */
export function refuseSlowHeartbeats(
  values: ConsumerValues,
  { heartbeatIntervalMs, sessionTimeoutMs }: Pick<ConsumerConfig, 'heartbeatIntervalMs' | 'sessionTimeoutMs'>,
  at: (key: string) => string,
  problems: ConfigProblem[],
): void {
  if (heartbeatIntervalMs >= sessionTimeoutMs) {
    problems.push({
      path: at(
        values['heartbeat.interval.ms'] === undefined ? 'session.timeout.ms' : 'heartbeat.interval.ms',
      ),
      problem: `makes heartbeat.interval.ms (${heartbeatIntervalMs}) no shorter than session.timeout.ms (${sessionTimeoutMs}): every member would be taken for dead`,
      remedy: 'Set heartbeat.interval.ms to a third of session.timeout.ms at most.',
    })
  }
}

const deliveryMeanings: Readonly<Record<ConsumerDelivery, string>> = {
  'at-most-once': 'never twice',
  'at-least-once': 'not lost',
  'auto-commit': 'neither',
}

const autoCommitMeaning: Readonly<Record<ConsumerDelivery, string>> = {
  'at-most-once': 'it is false, each poll is committed before it is processed',
  'at-least-once': 'it is false, each poll is committed after it was processed',
  'auto-commit': 'it is true',
}

/** In place of the command line. No setting of reading depends on it. */
const nobody = { topic: '', groupId: '', delivery: 'at-most-once' } as const

function autoOffsetReset() {
  const give = 'latest (skip what is there when a group begins) or earliest'
  const flawOfNone = (word: string): Flaw | null =>
    word === 'none' ? { problem: 'is "none"', remedy: `Give ${give}. none is not offered.` } : null
  const words = z.enum(Object.keys(autoOffsetResets) as AutoOffsetReset[])
  const meta = { give, takes: asCode(words.options) }
  return z.string().check(refuseIf(flawOfNone)).pipe(words).register(reference, meta)
}

/** The settings of a consumer before they are judged. */
export interface ConsumerInput {
  readonly topic: string | undefined
  readonly group: string | undefined
  /** `at-most-once` unless given. */
  readonly delivery?: string | undefined
  /** Kafka's settings by their own names. */
  readonly settings: Readonly<Record<string, unknown>>
  /** The place of a setting, for problems. */
  readonly at: (key: string) => string
  /** The places of topic, group and delivery, for problems. */
  readonly names: { readonly topic: string; readonly group: string; readonly delivery: string }
}

/**
 * Reads the settings of one consumer. The result has no contradictions.
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
    const remedy = `Give ${wordsWithMeanings(deliveryMeanings)}.`
    problems.push({ path: names.delivery, problem: `is ${quote(delivery)}`, remedy })
  }
  const values = readSettings(input.settings, at, problems)
  if (!isDelivery(delivery)) return null
  const config = resolveConsumer(values, { topic, groupId: group, delivery })
  refuseConsumerContradictions(values, config, at, problems)
  return problems.length > before ? null : config
}

/** As {@link readConsumer}, for the library (kafka/consumer/consume.ts). @throws ConfigError with every problem. */
export function readConsumerOrThrow(input: ConsumerInput): ConsumerConfig {
  const problems: ConfigProblem[] = []
  const config = readConsumer(input, problems)
  if (config === null) throw new ConfigError(problems)
  return config
}

/**
 * Reads `consumer:` of the file for commands without a consumer. Only problems that show without a command line are found.
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

/** `consumer:` of the file as it is written. It is empty where the file has none, or where it is no map. */
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
  return Object.hasOwn(deliveryMeanings, text)
}

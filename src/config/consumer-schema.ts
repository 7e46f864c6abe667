import type { z } from 'zod'
import type { ConfigProblem } from './config-error.ts'
import type { ConsumerConfig, ConsumerDelivery, ConsumerSection } from './config.ts'
import type { FieldValues } from './read-fields.ts'
import { Refusal, oneOf, quote, setting, trueOrFalse, wholeNumber } from './setting.ts'

/** What `--set` and `consumer:` take: Kafka's own names, units and bounds (`ConsumerConfig.java`). */
export const consumerShape = {
  'enable.auto.commit': trueOrFalse().optional(),
  'auto.commit.interval.ms': wholeNumber('milliseconds', 1).optional(),
  'auto.offset.reset': autoOffsetReset().optional(),
  'max.poll.records': wholeNumber(null, 1).optional(),
  'max.poll.interval.ms': wholeNumber('milliseconds', 1).optional(),
  'session.timeout.ms': wholeNumber('milliseconds', 1).optional(),
  'heartbeat.interval.ms': wholeNumber('milliseconds', 1).optional(),
  'fetch.min.bytes': wholeNumber('bytes', 1).optional(),
  'fetch.max.bytes': wholeNumber('bytes', 1).optional(),
  'fetch.max.wait.ms': wholeNumber('milliseconds', 0).optional(),
  'max.partition.fetch.bytes': wholeNumber('bytes', 1).optional(),
  'isolation.level': oneOf(['read_uncommitted', 'read_committed']).optional(),
} satisfies z.ZodRawShape

/** What could be read of the settings. */
export type ConsumerValues = FieldValues<typeof consumerShape>

/** Fills in the source document's settings and Kafka's defaults. Does not judge. */
export function resolveConsumer(
  values: ConsumerValues,
  { topic, groupId, delivery }: Pick<ConsumerConfig, 'topic' | 'groupId' | 'delivery'>,
): ConsumerConfig {
  return {
    topic,
    groupId,
    delivery,
    autoCommitIntervalMs: values['auto.commit.interval.ms'] ?? 100,
    autoOffsetReset: values['auto.offset.reset'] ?? 'latest',
    maxPollRecords: values['max.poll.records'] ?? 500,
    maxPollIntervalMs: values['max.poll.interval.ms'] ?? 300_000,
    sessionTimeoutMs: values['session.timeout.ms'] ?? 45_000,
    heartbeatIntervalMs: values['heartbeat.interval.ms'] ?? 3_000,
    fetchMinBytes: values['fetch.min.bytes'] ?? 1,
    fetchMaxBytes: values['fetch.max.bytes'] ?? 52_428_800,
    fetchMaxWaitMs: values['fetch.max.wait.ms'] ?? 500,
    maxPartitionFetchBytes: values['max.partition.fetch.bytes'] ?? 1_048_576,
    isolationLevel: values['isolation.level'] ?? 'read_uncommitted',
  }
}

/** `consumer:` of the file, with what `chute consume` takes where the file says nothing. */
export function resolveConsumerSection(values: ConsumerValues): ConsumerSection {
  const { topic: _, groupId: _of, delivery: _by, ...reading } = resolveConsumer(values, nobody)
  return {
    ...reading,
    enableAutoCommit: values['enable.auto.commit'] ?? null,
    autoCommitIntervalMs: values['auto.commit.interval.ms'] ?? null,
  }
}

/** Finds what the settings promise and cannot keep together. */
export function refuseConsumerContradictions(
  values: ConsumerValues,
  config: ConsumerConfig,
  at: (key: string) => string,
  problems: ConfigProblem[],
): void {
  const { delivery } = config
  const byTheClock = values['enable.auto.commit']
  if (byTheClock !== undefined && byTheClock !== (delivery === 'auto-commit')) {
    problems.push({
      path: at('enable.auto.commit'),
      problem: `is ${byTheClock} with --delivery ${delivery}${byTheClock ? `: commits by the clock know nothing of what was processed` : ''}`,
      remedy: `Leave it out (${autoCommitMeaning[delivery]}), or set --delivery ${byTheClock ? 'auto-commit' : 'at-most-once'}.`,
    })
  }
  if (values['auto.commit.interval.ms'] !== undefined && delivery !== 'auto-commit') {
    problems.push({
      path: at('auto.commit.interval.ms'),
      problem: `is set with --delivery ${delivery}, which commits each poll itself`,
      remedy: 'Leave it out.',
    })
  }
  refuseSlowHeartbeats(values, config, at, problems)
}

/** Heartbeats that come too late are a contradiction whatever the command line says. */
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

const autoCommitMeaning: Readonly<Record<ConsumerDelivery, string>> = {
  'at-most-once': 'it is false, each poll is committed before it is processed',
  'at-least-once': 'it is false, each poll is committed after it was processed',
  'auto-commit': 'it is true',
}

/** Stands for what the command line says; no setting of reading depends on it. */
const nobody = { topic: '', groupId: '', delivery: 'at-most-once' } as const

function autoOffsetReset() {
  return setting<ConsumerConfig['autoOffsetReset']>((value) => {
    if (value === 'latest' || value === 'earliest') return value
    const known = 'Give latest (skip what is there when a group begins) or earliest.'
    return new Refusal(`is ${quote(value)}`, value === 'none' ? `${known} none is not offered.` : known)
  })
}

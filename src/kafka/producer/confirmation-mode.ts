import type { ProducerConfig } from '../../config/config.ts'

/** See {@link ConfirmationMode}. */
export const confirmationModes = ['log_end', 'acks_1', 'acks_all', 'off'] as const

/**
 * How a stream learns what became of its writes. `log_end`: writes go unanswered (acks=0), and barriers find out what all
 * in-sync replicas have. `acks_1`: each write is answered by its leader, and barriers find out what all in-sync replicas
 * have; so it is with `acks: 1`, and where a broker does not tell where its log ends. `acks_all`: each write is answered by
 * all in-sync replicas. `off`: with `confirm: off`, nobody learns it. A closed set, since it is a metric label.
 */
export type ConfirmationMode = (typeof confirmationModes)[number]

/** The mode of a stream of which all brokers tell what Kafka tells. */
export function configuredMode({
  acks,
  confirmIntervalMs,
}: Pick<ProducerConfig, 'acks' | 'confirmIntervalMs'>): ConfirmationMode {
  if (acks === -1) return 'acks_all'
  if (acks === 1) return 'acks_1'
  return confirmIntervalMs === null ? 'off' : 'log_end'
}

/** What is true of a stream of which parts are in different modes: the one that costs more. */
export function commonMode(one: ConfirmationMode, other: ConfirmationMode): ConfirmationMode {
  return confirmationModes[Math.max(confirmationModes.indexOf(one), confirmationModes.indexOf(other))]!
}

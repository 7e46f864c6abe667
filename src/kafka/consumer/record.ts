import type { KafkaMessage } from 'kafkajs'

/** A record as it was polled. Bytes are as they were written. */
export interface ConsumedRecord {
  readonly topic: string
  readonly partition: number
  /** A string, since offsets have 64 bits. */
  readonly offset: string
  readonly timestampMs: number
  readonly key: Buffer | null
  /** null: a tombstone. */
  readonly value: Buffer | null
  /** A name can come more than once; then its values are in their order. */
  readonly headers: Readonly<Record<string, Buffer | readonly Buffer[]>>
}

/** A record of kafkajs's, without what only kafkajs needs. */
export function consumedRecord(topic: string, partition: number, message: KafkaMessage): ConsumedRecord {
  return {
    topic,
    partition,
    offset: message.offset,
    timestampMs: Number(message.timestamp),
    key: message.key,
    value: message.value,
    // kafkajs's types allow for texts, which only its producer takes.
    headers: (message.headers ?? {}) as ConsumedRecord['headers'],
  }
}

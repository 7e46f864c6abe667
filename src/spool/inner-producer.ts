import type { ManagedProducer } from '../kafka/producer/producer.ts'

/** The producer behind a spool: it has what is in memory and takes it to Kafka. */
export interface InnerProducer extends ManagedProducer {
  /** Room that is left in `buffer.memory`. */
  readonly bufferAvailableBytes: number
}

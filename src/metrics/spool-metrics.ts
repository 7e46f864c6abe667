import type { ProducerStats, SpoolStats } from '../kafka/producer/producer.ts'
import type { Reading, StreamFamily } from './stream-family.ts'

/** What durable streams have on disk. Streams that answer from memory have no series here. */
export const spoolFamilies: readonly StreamFamily[] = [
  {
    name: 'chute_spool_records',
    help: 'Records on disk that Kafka has not acknowledged, those in the buffer and in flight among them.',
    type: 'gauge',
    read: reading(({ records }) => records),
  },
  {
    name: 'chute_spool_bytes',
    help: 'Bytes of the spool on disk. A file of it goes when all of its records are acknowledged.',
    type: 'gauge',
    read: reading(({ bytes }) => bytes),
  },
  {
    name: 'chute_spool_max_bytes',
    help: 'What the spool may take of the disk, spool.max.bytes; then events are refused.',
    type: 'gauge',
    read: reading(({ maxBytes }) => maxBytes),
  },
  {
    name: 'chute_spool_oldest_age_seconds',
    help: 'Age of the oldest record on disk that Kafka has not acknowledged; 0 if there is none.',
    type: 'gauge',
    read: reading(({ oldestAgeSeconds }) => oldestAgeSeconds),
  },
  {
    name: 'chute_spool_drained_total',
    help: 'Records that were on disk and got an outcome: its rate is the rate of drain.',
    type: 'counter',
    read: reading(({ drained }) => drained),
  },
  {
    name: 'chute_spool_failures_total',
    help: 'Operations that the disk refused: writes, after which events are refused for a moment, and reads.',
    type: 'counter',
    read: ({ spool }) =>
      spool === null
        ? []
        : [
            [{ operation: 'write' }, spool.writeFailures],
            [{ operation: 'read' }, spool.readFailures],
          ],
  },
  {
    name: 'chute_spool_available',
    help: '1 if the disk took the last write, 0 for a moment after it did not.',
    type: 'gauge',
    read: reading(({ available }) => Number(available)),
  },
]

function reading(of: (spool: SpoolStats) => number) {
  return ({ spool }: ProducerStats): readonly Reading[] => (spool === null ? [] : [[{}, of(spool)]])
}

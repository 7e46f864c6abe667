import type { StreamConfig } from '../../../config/config.ts'
import { DeadLetterFile } from './dead-letter-file.ts'
import { DeadLetterStamp } from './dead-letters.ts'
import { StreamProducer, type StreamProducerOptions } from '../stream-producer.ts'

/** Where refused records of a stream go: its dead-letter topic, by a producer of its own, and the data folder. */
export function openDeadLetters(
  stream: StreamConfig,
  dataDir: string | null,
  shared: Pick<StreamProducerOptions, 'metadata' | 'transport' | 'buffers' | 'logger'>,
): NonNullable<StreamProducerOptions['deadLetters']> {
  const file = dataDir === null ? null : new DeadLetterFile(dataDir, stream.name)
  const topic = stream.deadLetterTopic
  if (topic === null) return { producer: null, stamp: null, file }
  const stamp = new DeadLetterStamp()
  const deliveryTimeoutMs = Math.min(stream.producer.deliveryTimeoutMs, deadLetterTimeoutMs)
  const producer = new StreamProducer({
    ...shared,
    stream: {
      ...stream,
      topic,
      audit: false,
      deadLetterTopic: null,
      producer: { ...stream.producer, deliveryTimeoutMs },
    },
    stamp,
    telemetry: { batchWritten() {}, requestCompleted() {} },
    isForDeadLetters: true,
  })
  return { producer, stamp, file }
}

/** After it, what can't be written to a dead-letter topic goes to the file. */
const deadLetterTimeoutMs = 60_000

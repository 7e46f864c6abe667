import type { ConfigProblem } from './config-error.ts'
import type { DedupeConfig, Delivery, Preset, ProducerConfig, SpoolConfig } from './config.ts'
import type { StreamValues } from './stream-schema.ts'
import type { ProducerValues } from './producer-schema.ts'

/** A stream with its defaults filled in, and what of it was written in the file. */
export interface StreamUnderTest {
  /** Path of the stream in the file. */
  readonly path: string
  readonly delivery: Delivery
  readonly preset: Preset
  readonly producer: ProducerConfig
  readonly spool: SpoolConfig | null
  readonly hasDataDir: boolean
  readonly dedupe: DedupeConfig | null
  readonly written: StreamValues
  readonly writtenProducer: ProducerValues
  /** Processes that share the stream's `buffer.memory`. */
  readonly workers: number
  /** What one process accepted is known to all. */
  readonly hasSharedDedupe: boolean
}

/** Finds what a stream's settings promise and cannot keep together. */
export function refuseContradictions(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  if (stream.delivery === 'at-most-once') refuseAtMostOnce(stream, problems)
  else refuseAtLeastOnce(stream, problems)
  refuseConfirm(stream, problems)
  refuseDeadLetters(stream, problems)
  refuseSizes(stream, problems)
}

function refuseAtMostOnce(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { retries, enableIdempotence } = stream.producer
  if (retries > 0) {
    problems.push({
      path: originOf(stream, 'retries'),
      problem: `makes retries ${retries} on an at-most-once stream: what is sent again can arrive twice`,
      remedy: 'Set retries: 0, or delivery: at-least-once.',
    })
  }
  if (enableIdempotence) {
    problems.push({
      path: originOf(stream, 'enable.idempotence'),
      problem: 'is true on an at-most-once stream, which never sends again',
      remedy: 'Leave it out, or set delivery: at-least-once.',
    })
  }
}

function refuseDeadLetters(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  if (stream.delivery === 'at-least-once' || stream.written.deadLetterTopic === undefined) return
  problems.push({
    path: `${stream.path}.deadLetterTopic`,
    problem: 'is set on an at-most-once stream, which drops and counts what Kafka refuses',
    remedy: 'Leave it out, or set delivery: at-least-once.',
  })
}

function refuseAtLeastOnce(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { acks, retries, enableIdempotence, maxInFlight } = stream.producer
  if (acks === 0) {
    problems.push({
      path: originOf(stream, 'acks'),
      problem: 'makes acks 0 on an at-least-once stream: nobody would know what to send again',
      remedy: 'Set acks: all, or delivery: at-most-once.',
    })
  }
  if (retries === 0) {
    problems.push({
      path: originOf(stream, 'retries'),
      problem: 'makes retries 0 on an at-least-once stream: the first failure would lose the batch',
      remedy: 'Leave retries out (2147483647), or set delivery: at-most-once.',
    })
  }
  if (enableIdempotence && acks !== -1) {
    problems.push({
      path: originOf(stream, 'enable.idempotence'),
      problem: `is true with acks ${acks}`,
      remedy: 'Set acks: all, or enable.idempotence: false.',
    })
  }
  if (maxInFlight !== 1) {
    problems.push({
      path: originOf(stream, 'max.in.flight.requests.per.connection'),
      problem: `is ${maxInFlight} on an at-least-once stream, which has one batch a partition in flight to keep the order`,
      remedy: 'Leave it out.',
    })
  }
}

function refuseConfirm(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { written, writtenProducer } = stream
  const interval = writtenProducer['confirm.interval.ms']
  if (stream.producer.acks === -1 || stream.delivery === 'at-least-once') {
    const unasked = {
      problem: 'is set where the broker acknowledges each batch itself',
      remedy: 'Leave it out.',
    }
    if (written.confirm !== undefined) problems.push({ path: `${stream.path}.confirm`, ...unasked })
    if (interval !== undefined) problems.push({ path: originOf(stream, 'confirm.interval.ms'), ...unasked })
  } else if (written.confirm === false && interval !== undefined) {
    problems.push({
      path: originOf(stream, 'confirm.interval.ms'),
      problem: 'is set while confirm is off',
      remedy: 'Leave it out, or set confirm: on.',
    })
  }
}

function refuseSizes(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { workers } = stream
  const { batchSizeBytes, bufferMemoryBytes, maxRequestSizeBytes, lingerMs, deliveryTimeoutMs } =
    stream.producer
  if (bufferMemoryBytes < batchSizeBytes) {
    problems.push({
      path: originOf(stream, 'buffer.memory', 'batch.size'),
      problem: `makes buffer.memory (${bufferMemoryBytes}) smaller than batch.size (${batchSizeBytes}): no batch could fill`,
      remedy: `Raise buffer.memory to ${batchSizeBytes} at least (Kafka's default is 33554432), or lower batch.size.`,
    })
  }
  if (bufferMemoryBytes >= batchSizeBytes && bufferMemoryBytes / workers < batchSizeBytes) {
    problems.push({
      path: originOf(stream, 'buffer.memory', 'batch.size'),
      problem: `makes buffer.memory ${Math.floor(bufferMemoryBytes / workers)} for each of ${workers} workers, smaller than batch.size (${batchSizeBytes}): no batch could fill`,
      remedy: `Raise buffer.memory to ${batchSizeBytes * workers} at least, or lower batch.size or WORKERS.`,
    })
  }
  if (maxRequestSizeBytes < batchSizeBytes) {
    problems.push({
      path: originOf(stream, 'max.request.size'),
      problem: `is ${maxRequestSizeBytes}, smaller than batch.size (${batchSizeBytes}): a full batch would fit no request`,
      remedy: `Raise max.request.size to ${batchSizeBytes} at least, or lower batch.size.`,
    })
  }
  if (deliveryTimeoutMs <= lingerMs) {
    problems.push({
      path: originOf(stream, 'delivery.timeout.ms', 'linger.ms'),
      problem: `makes delivery.timeout.ms (${deliveryTimeoutMs}) no longer than linger.ms (${lingerMs}): records would expire while they wait`,
      remedy: 'Raise delivery.timeout.ms (120000 is the default), or lower linger.ms.',
    })
  }
}

/** Path of the first of the keys that was written; if none was, of the preset or the delivery that decided. */
function originOf(stream: StreamUnderTest, ...keys: (keyof ProducerValues)[]): string {
  const key = keys.find((each) => stream.writtenProducer[each] !== undefined)
  if (key !== undefined) return `${stream.path}.producer.${key}`
  return stream.written.preset === undefined ? `${stream.path}.delivery` : `${stream.path}.preset`
}

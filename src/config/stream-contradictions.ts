import {
  canShareConnections,
  losesWhenFull,
  resends,
  waitsForReplicas,
  type ConfigProblem,
  type DedupeConfig,
  type Delivery,
  type Preset,
  type ProducerConfig,
  type SpoolConfig,
  type StreamConfig,
} from './config.ts'
import { presetTraits } from './presets.ts'
import type { ProducerValues } from './producer-schema.ts'
import { refusesKeyless } from './record-sources.ts'
import type { StreamValues } from './stream-schema.ts'

/** A stream with its defaults filled in, and the settings that were written in the file. */
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
  /** Gateways share a store of the keys that they accepted. */
  readonly hasSharedDedupe: boolean
}

/** Finds settings of a stream that contradict each other. */
export function refuseContradictions(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  refuseByDelivery[stream.delivery](stream, problems)
  refuseConfirm(stream, problems)
  refuseConnection(stream, problems)
  refuseDeadLetters(stream, problems)
  refuseSizes(stream, problems)
}

const refuseByDelivery: Readonly<
  Record<Delivery, (stream: StreamUnderTest, problems: ConfigProblem[]) => void>
> = { 'at-most-once': refuseAtMostOnce, 'at-least-once': refuseAtLeastOnce }

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
  if (resends[stream.delivery] || stream.written.deadLetterTopic === undefined) return
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

function refuseConnection(
  { path, written, producer, delivery }: StreamUnderTest,
  problems: ConfigProblem[],
): void {
  if (written.connection !== 'shared' || canShareConnections(delivery, producer)) return
  problems.push({
    path: `${path}.connection`,
    ...(resends[delivery]
      ? {
          problem:
            'is shared without enable.idempotence: another stream that ends the connection would have records of this one stored twice',
          remedy: 'Leave it out, or set enable.idempotence: true.',
        }
      : {
          problem:
            'is shared where the stream waits for all in-sync replicas, which would hold up the other streams',
          remedy: 'Leave it out.',
        }),
  })
}

function refuseConfirm(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { written, writtenProducer } = stream
  const interval = writtenProducer['confirm.interval.ms']
  if (waitsForReplicas(stream.delivery, stream.producer)) {
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

/** The path of the first key that was written. If none was, the path of the preset or the delivery that set the value. */
function originOf(stream: StreamUnderTest, ...keys: (keyof ProducerValues)[]): string {
  const key = keys.find((each) => stream.writtenProducer[each] !== undefined)
  if (key !== undefined) return `${stream.path}.producer.${key}`
  return stream.written.preset === undefined ? `${stream.path}.delivery` : `${stream.path}.preset`
}

/**
 * Finds settings that `delivery: exactly-once` cannot have. Exactly-once is at-least-once with three things: de-duplication,
 * idempotent writes, and a 202 that is on disk. Without one of them a retry of a client, a lost answer or a crash of the
 * gateway could make two records of one event.
 */
export function refuseLessThanExactlyOnce(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { path, written, producer, hasDataDir, dedupe, spool, workers } = stream
  const refuse = (key: string, problem: string, remedy: string): void => {
    problems.push({ path: key === '' ? path : `${path}.${key}`, problem, remedy })
  }
  if (!hasDataDir) {
    const problem = 'is exactly-once, and there is no folder that survives a crash of the gateway'
    refuse('delivery', problem, 'Set CHUTE_DATA_DIR, or delivery: at-least-once.')
  } else if (spool === null) {
    refuse('durable', 'is off, and exactly-once needs a 202 that survives', 'Leave it out.')
  } else if (!spool.fsync) {
    refuse('fsync', 'is off, and exactly-once needs a 202 that survives a power cut', 'Leave it out.')
  }
  if (dedupe === null) {
    const [key, why] =
      written.dedupe === false
        ? ['dedupe', 'is off']
        : ['delivery', `is exactly-once with WORKERS ${workers}`]
    refuse(
      key,
      `${why}, and a client that sends a request again would make a second record`,
      'Leave dedupe out, and WORKERS at 1; or set CHUTE_DEDUPE_REDIS_URL, a store for all workers.',
    )
  }
  for (const key of ['onBufferFull', 'beaconOnBufferFull'] as const) {
    const action = written[key]
    if (action === undefined || !losesWhenFull[action]) continue
    refuse(key, 'answers 202 to what it drops, which is not once', 'Set reject or block.')
  }
  if (!producer.enableIdempotence || producer.acks !== -1) {
    const problem = 'is at odds with exactly-once, which needs acks all and idempotent writes'
    refuse(
      written.preset === undefined ? 'producer' : 'preset',
      problem,
      'Leave acks and enable.idempotence out.',
    )
  }
}

/** Finds de-duplication that could not work, and settings of it that would have no effect. */
export function refuseDedupeContradictions(
  { path, preset, dedupe, written, workers, hasSharedDedupe }: StreamUnderTest,
  problems: ConfigProblem[],
): void {
  // By default it is on with several workers for a preset only.
  if (dedupe !== null && workers > 1 && !hasSharedDedupe) {
    problems.push({
      path: written.dedupe === undefined ? `${path}.preset` : `${path}.dedupe`,
      problem: `${written.dedupe === undefined ? `is ${preset}, which tells duplicates,` : 'is on'} with WORKERS ${workers}: each process knows only what it accepted itself, and a retry can reach another`,
      remedy: 'Set WORKERS to 1, or leave it out; or set CHUTE_DEDUPE_REDIS_URL, a store for all of them.',
    })
  }
  for (const key of ['dedupe.window.ms', 'dedupe.max.entries'] as const) {
    if (written[key] === undefined || dedupe !== null) continue
    problems.push({
      path: `${path}.${key}`,
      problem: 'is set for a stream that does not tell duplicates',
      remedy: 'Set dedupe: on, or leave it out.',
    })
  }
}

/** Finds settings of records that could not work, or would have no effect. */
export function refuseRecordContradictions(
  { path, preset, written, spool }: Pick<StreamUnderTest, 'path' | 'preset' | 'written' | 'spool'>,
  problems: ConfigProblem[],
): void {
  if (written.topics !== undefined && written.topic !== undefined)
    problems.push({
      path: `${path}.topic`,
      problem: 'is set beside topics',
      remedy: 'Leave it out: topics.else has the events that no other topic is for.',
    })
  if (written.topics !== undefined && spool !== null)
    problems.push({
      path: `${path}.topics`,
      problem:
        'is set for a durable stream: its spool is that of one topic, and a request must be on disk as a whole',
      remedy: 'Set durable: off, or give each topic a stream of its own.',
    })
  if (written.timestampUnit !== undefined && (written.schema ?? presetTraits[preset].schema) !== 'telemetry')
    problems.push({
      path: `${path}.timestampUnit`,
      problem: 'is set for a stream with another schema than telemetry, which has no such setting',
      remedy: 'Leave it out, or schema out.',
    })
  if (written.invalidTopicMaxPerSecond !== undefined && written.invalidTopic === undefined)
    problems.push({
      path: `${path}.invalidTopicMaxPerSecond`,
      problem: 'is set for a stream that has no topic for invalid events',
      remedy: 'Set invalidTopic, or leave it out.',
    })
  const { key, keyMissing } = written
  if (key !== 'none' || keyMissing === undefined || !refusesKeyless[keyMissing]) return
  problems.push({
    path: `${path}.keyMissing`,
    problem: 'is reject for a stream with key: none, so each event would be refused',
    remedy: 'Leave keyMissing out, or give another key.',
  })
}

/** Finds a shared store that no stream uses. It is a mistake: the operator who set it expects duplicates to be told. */
export function refuseUnusedDedupeStore(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  if (streams.length === 0 || streams.some(({ dedupe }) => dedupe !== null)) return
  problems.push({
    path: 'CHUTE_DEDUPE_REDIS_URL',
    problem: 'is set, and no stream tells duplicates',
    remedy: 'Set dedupe: on for a stream, or leave it out.',
  })
}

/** Finds durability that is not possible, and settings of it that would have no effect. */
export function refuseSpoolContradictions(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { path, delivery, hasDataDir, producer, spool, written } = stream
  if (written.durable === true && !resends[delivery]) {
    problems.push({
      path: `${path}.durable`,
      problem:
        'is on for an at-most-once stream: after a crash nobody knows what was sent already, and to send it again is to send it twice',
      remedy: 'Leave it out, or set delivery: at-least-once.',
    })
  } else if (written.durable === true && !hasDataDir) {
    problems.push({
      path: `${path}.durable`,
      problem: 'is on, and there is no folder to keep events in',
      remedy: 'Set CHUTE_DATA_DIR to a folder on a disk that stays, or leave it out.',
    })
  }
  for (const key of ['fsync', 'spool.max.bytes'] as const) {
    if (written[key] === undefined || spool !== null) continue
    const why = !resends[delivery] ? delivery : hasDataDir ? 'durable: off' : 'no CHUTE_DATA_DIR'
    problems.push({
      path: `${path}.${key}`,
      problem: `is set for a stream that keeps nothing on disk (${why})`,
      remedy: 'Leave it out, or make the stream durable: delivery: at-least-once, and CHUTE_DATA_DIR.',
    })
  }
  if (spool !== null && spool.maxBytes < producer.bufferMemoryBytes) {
    problems.push({
      path:
        written['spool.max.bytes'] === undefined
          ? `${path}.producer.buffer.memory`
          : `${path}.spool.max.bytes`,
      problem: `makes spool.max.bytes (${spool.maxBytes}) smaller than buffer.memory (${producer.bufferMemoryBytes}): the disk would be full before memory is`,
      remedy: `Raise spool.max.bytes to ${producer.bufferMemoryBytes} at least, or lower buffer.memory.`,
    })
  }
}

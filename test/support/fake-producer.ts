import type { RecordBytes } from '../../src/kafka/protocol/record-bytes.ts'
import type { StreamConfig } from '../../src/config/config.ts'
import { eventTopics } from '../../src/config/record-sources.ts'
import {
  chargeOf,
  type PendingBatch,
  type Producer,
  type Settlement,
} from '../../src/kafka/producer/producer.ts'

/** A record as a test sees it. */
export interface TakenRecord {
  readonly key: string | null
  readonly value: string
  readonly timestampMs: number
}

/** A stream's configuration with the defaults of `metrics-realtime`. */
function fakeStream(overrides: Partial<StreamConfig> = {}): StreamConfig {
  return {
    name: 'metrics-realtime',
    topic: 'metrics-realtime',
    topics: null,
    delivery: 'at-most-once',
    preset: 'telemetry',
    schema: 'telemetry',
    timestampUnit: 'ms',
    key: 'source',
    keyMissing: 'accept',
    headers: {},
    onBufferFull: 'reject',
    beaconOnBufferFull: 'drop',
    audit: false,
    deadLetterTopic: null,
    invalid: null,
    dedupe: null,
    exactlyOnce: false,
    connection: 'own',
    producer: {
      acks: 0,
      retries: 0,
      retryBackoffMs: 100,
      lingerMs: 5,
      batchSizeBytes: 32_768,
      bufferMemoryBytes: 67_108_864,
      maxBlockMs: 60_000,
      maxInFlight: 1000,
      deliveryTimeoutMs: 120_000,
      requestTimeoutMs: 30_000,
      maxRequestSizeBytes: 1_048_576,
      compressionType: 'none',
      enableIdempotence: false,
      confirmIntervalMs: 100,
    },
    spool: null,
    ...overrides,
  }
}

/**
 * A producer without Kafka: it keeps what it is given, and its state is what the test sets. Its ledger is as strict as
 * the real one: an append without room reserved for it throws.
 */
export class FakeProducer implements Producer {
  readonly stream: StreamConfig
  durability: Producer['durability'] = null
  maxRecordBytes = 1_048_480
  needsKey = false
  /** The own headers of each record, encoded. */
  readonly headers: (Buffer | null)[] = []
  headerBytes = 0
  isConnected = true
  admission: Producer['admission'] = 'open'
  obstacle: Producer['obstacle'] = null
  readonly records: TakenRecord[] = []
  dropped = 0
  reservedBytes = 0
  /** Reserved and not appended. */
  openBytes = 0
  /** False: there is no room. */
  hasRoom = true
  retryAfter = 7
  readonly waiters: ((granted: boolean) => void)[] = []
  batch = new FakeBatch(0)

  constructor(stream: Partial<StreamConfig> = {}) {
    this.stream = fakeStream(stream)
  }

  get values(): string[] {
    return this.records.map(({ value }) => value)
  }

  reserve(sizeBytes: number): boolean {
    if (!this.hasRoom) return false
    this.reservedBytes += sizeBytes
    this.openBytes += sizeBytes
    return true
  }

  unreserve(sizeBytes: number): void {
    this.openBytes -= sizeBytes
  }

  /** Waits until the test calls what it finds in `waiters`. */
  async reserveOrWait(sizeBytes: number): Promise<boolean> {
    const granted = await new Promise<boolean>((resolve) => this.waiters.push(resolve))
    if (granted) this.openBytes += sizeBytes
    return granted
  }

  append(record: RecordBytes): PendingBatch {
    const { body, start, end, key, keyStart, keyEnd, timestampMs } = record
    this.openBytes -= chargeOf(record, this.headerBytes)
    if (this.openBytes < 0) throw new Error('append without room')
    const value = body.toString('utf8', start, end)
    this.headers.push(record.headers === null ? null : Buffer.from(record.headers))
    this.records.push({ key: key?.toString('utf8', keyStart, keyEnd) ?? null, value, timestampMs })
    this.batch.recordCount++
    return this.batch
  }

  drop(count: number): void {
    this.dropped += count
  }

  retryAfterSeconds(): number {
    return this.retryAfter
  }
}

/** The producer of a stream with several topics. Its room is that of the stream. */
export class FakeTopicsProducer extends FakeProducer {
  readonly topics: readonly FakeProducer[]

  /** @param stream has `topics`. */
  constructor(stream: Partial<StreamConfig>) {
    super(stream)
    this.topics = eventTopics(this.stream).map((topic) => new FakeProducer({ ...stream, topic }))
  }

  override append(record: RecordBytes): PendingBatch {
    super.append(record)
    const producer = this.topics[record.topic]!
    producer.openBytes += chargeOf(record, producer.headerBytes)
    return producer.append(record)
  }

  override drop(count: number, topic = 0): void {
    this.topics[topic]!.drop(count)
  }

  /** What each topic got, by its name. */
  get byTopic(): Record<string, string[]> {
    return Object.fromEntries(this.topics.map(({ stream, values }) => [stream.topic, values]))
  }
}

/** A batch that settles when the test says so. */
export class FakeBatch implements PendingBatch {
  readonly partition: number
  recordCount = 0
  isAwaited = false
  readonly #listeners: ((settlement: Settlement) => void)[] = []

  constructor(partition: number) {
    this.partition = partition
  }

  onSettled(listener: (settlement: Settlement) => void): void {
    this.#listeners.push(listener)
  }

  hurry(): void {
    this.isAwaited = true
  }

  /** Number of subscriptions. */
  get listeners(): number {
    return this.#listeners.length
  }

  settle(settlement: Partial<Settlement> = {}): void {
    const whole: Settlement = {
      outcome: 'confirmed',
      reason: null,
      partition: this.partition,
      baseOffset: null,
      firstPlace: 0,
      recordCount: this.recordCount,
      ...settlement,
    }
    // A settlement of a part is followed by others.
    const isPart = whole.recordCount < this.recordCount
    const listeners = isPart ? this.#listeners.slice() : this.#listeners.splice(0)
    for (const listener of listeners) listener(whole)
  }
}

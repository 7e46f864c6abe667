import type { ResumedBatch } from '../kafka/producer/batch-journal.ts'
import { recordSizeUpperBound, type PendingBatch, type Settlement } from '../kafka/producer/producer.ts'
import type { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import { EntryReader } from './frame.ts'
import { FrameSource } from './frame-source.ts'
import type { InnerProducer } from './inner-producer.ts'
import { Runs } from './runs.ts'
import type { PlacedGroup, SpoolLog } from './spool-log.ts'
import type { SpooledRecord } from './spooled-record.ts'

/**
 * Takes the records of a log to the producer, strictly in their order, and books them as done when Kafka has them. While
 * it keeps up, records go on from memory as they are committed; behind a backlog they are read back from disk, as many as
 * half of the producer's buffer takes: the other half is for what is on its way to the disk. What an earlier process had
 * sent, and had no answer for, goes before everything else, as the batches that it was.
 */
export class Feeder {
  readonly #log: SpoolLog
  readonly #producer: InnerProducer
  readonly #source: FrameSource
  readonly #events: FeederEvents
  /** The newest of each partition at its number and one more; the first one's records have no key. */
  readonly #flights: (Flight | undefined)[] = []
  readonly #open = new Map<PendingBatch, Flight>()
  /** Batches of an earlier process, until they are with the producer. */
  #resumable: ResumableBatch[]
  /** Records that are not to be fed: they are done, or in a batch of an earlier process. */
  readonly #taken: Set<number>
  readonly #waiters = new Map<number, SpooledRecord>()
  /** The frame that is being taken from, and the record in it that is next. */
  #entries: EntryReader | null = null
  #hasEntry = false
  #nextSeq: number
  #isStarted = false
  #isStopped = false
  #isPumpScheduled = false
  #retryTimer: NodeJS.Timeout | null = null

  /** @param options.done numbers of records that are done, though the log does not know it from its files. */
  constructor(options: {
    log: SpoolLog
    producer: InnerProducer
    events: FeederEvents
    resumable?: readonly ResumableBatch[]
    done?: readonly number[]
  }) {
    this.#resumable = [...(options.resumable ?? [])]
    this.#taken = new Set(options.done)
    this.#log = options.log
    this.#producer = options.producer
    this.#events = options.events
    this.#nextSeq = options.log.firstSeq
    this.#source = new FrameSource(options.log)
  }

  /** Starts with what was found on disk. Nothing goes to the producer before. */
  start(): void {
    this.#isStarted = true
    this.#schedule()
  }

  /** Takes no more records to the producer. What is on its way may still be settled. */
  stop(): void {
    this.#isStopped = true
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer)
  }

  /** Tells those who wait for records that were not fed: the next process sends these. */
  leaveWaiters(): void {
    for (const waiter of this.#waiters.values()) waiter.leave()
    this.#waiters.clear()
  }

  /** When the oldest record that is not done was accepted; null if there is none. */
  get oldestMs(): number | null {
    let oldest = this.#nextSeq < this.#log.nextSeq ? this.#source.nextTimeMs : null
    for (const { firstTimeMs } of this.#open.values())
      if (oldest === null || firstTimeMs < oldest) oldest = firstTimeMs
    return oldest
  }

  /**
   * Is told of each group once it is committed; its room in the producer's buffer is reserved. It goes on from memory if
   * everything before it has gone, and stays on disk otherwise.
   */
  offer({ group, segment, position }: PlacedGroup): void {
    for (const waiter of group.waiters)
      this.#waiters.set(group.firstSeq + waiter.place, waiter as SpooledRecord)
    const isNext = this.#entries === null && !this.#source.isReading && group.firstSeq === this.#nextSeq
    if (!isNext || !this.#hasRoom || this.#isStopped || !this.#isStarted) {
      this.#producer.unreserve(group.reservedBytes)
      this.#source.left(group.firstTimeMs)
      this.#schedule()
      return
    }
    const entries = new EntryReader(group.frame, 0, group.sizeBytes)
    while (entries.next()) if (entries.kind === 'record') this.#feed(entries.record)
    this.#source.skipTo(segment, position + group.sizeBytes)
  }

  /** Numbers of records of a batch that is on its way, in their order: `length` of them from a place on. */
  seqsOf(
    batch: PendingBatch,
    from: number,
    length: number,
    add: (first: number, count: number) => void,
  ): void {
    const flight = this.#open.get(batch)
    if (flight !== undefined) return flight.runs.each(add, from, length)
    // A batch that the producer made of others, since the topic has another number of partitions.
    for (const source of batch.sources ?? []) {
      const first = Math.max(from, source.targetPlace)
      const end = Math.min(from + length, source.targetPlace + source.count)
      if (first < end) this.seqsOf(source.batch, source.place + first - source.targetPlace, end - first, add)
    }
  }

  /** Kafka takes records of the stream, and half of the buffer is free. */
  get #hasRoom(): boolean {
    const { admission, bufferAvailableBytes, stream } = this.#producer
    return admission === 'open' && bufferAvailableBytes * 2 >= stream.producer.bufferMemoryBytes
  }

  #schedule(): void {
    if (this.#isPumpScheduled || this.#isStopped || !this.#isStarted) return
    this.#isPumpScheduled = true
    setImmediate(this.#pump)
  }

  /** Feeds what is read, for a moment at a time, so that requests are not held up. */
  readonly #pump = (): void => {
    this.#isPumpScheduled = false
    if (this.#isStopped) return
    const untilMs = performance.now() + turnMs
    for (let count = 1; ; count++) {
      if (!this.#advance()) return
      if (count % 64 === 0 && performance.now() > untilMs) return this.#schedule()
    }
  }

  /** One step. @returns false if there is nothing to do for now; whoever changes that pumps again. */
  #advance(): boolean {
    if (this.#resumable.length > 0) return this.#resume()
    if (this.#entries === null) {
      // While a frame is being read, its first record stays the next one, whatever becomes of its file.
      if (this.#source.isReading) return false
      // Files of which all records are done go without being read.
      this.#nextSeq = this.#log.seqFrom(this.#nextSeq)
      if (this.#nextSeq >= this.#log.nextSeq) return false
      this.#source.read(this.#nextSeq, (result) => {
        if ('failure' in result) {
          if (this.#log.seqFrom(this.#nextSeq) > this.#nextSeq) return this.#schedule()
          this.#events.readFailed(result.failure)
          return this.#retryLater()
        }
        if (result.firstSeq > this.#nextSeq) this.#lost(result.firstSeq - this.#nextSeq)
        this.#entries = result.entries
        this.#schedule()
      })
      return false
    }
    const entries = this.#entries
    this.#hasEntry ||= entries.next()
    if (!this.#hasEntry) {
      this.#entries = null
      return true
    }
    if (entries.kind === 'record' && !this.#take(entries)) {
      this.#retryLater()
      return false
    }
    this.#hasEntry = false
    return true
  }

  /** Hands over the batches of an earlier process, once their partitions are known. */
  #resume(): boolean {
    if (this.#producer.admission !== 'open') {
      this.#retryLater()
      return false
    }
    for (const { batch: noted, runs } of this.#resumable.splice(0)) {
      const batch = this.#producer.resume(noted)
      this.#events.resumed(noted, batch)
      if (batch === null) {
        this.#producer.unreserve(noted.chargedBytes)
        continue
      }
      runs.each(
        (first, count) => {
          for (let seq = first; seq < first + count; seq++) this.#taken.add(seq)
        },
        0,
        runs.count,
      )
      this.#track(batch, { slot: -1, firstTimeMs: noted.baseTimestampMs, runs })
    }
    return true
  }

  /** Takes one record that was read back. @returns false if there is no room for it now. */
  #take(entries: EntryReader): boolean {
    const segment = this.#log.segmentOf(this.#nextSeq)
    if (segment === null || segment.wasDone(this.#nextSeq) || this.#isTaken(this.#nextSeq)) {
      this.#nextSeq++
      return true
    }
    const { keyBytes, valueBytes } = entries.record
    const producer = this.#producer
    if (!this.#hasRoom) return false
    const sizeBytes = recordSizeUpperBound(keyBytes, valueBytes, producer.headerBytes)
    // What the topic turns out not to take goes all the same: the broker refuses it, and it becomes a dead letter.
    if (sizeBytes > producer.stream.producer.bufferMemoryBytes) {
      this.#refuse()
      return true
    }
    if (!producer.reserve(sizeBytes)) return false
    this.#feed(entries.record)
    return true
  }

  #feed(record: RecordBytes): void {
    const seq = this.#nextSeq++
    const batch = this.#producer.append(record)
    let flight = this.#flights[batch.partition + 1]
    if (flight === undefined || flight.batch !== batch) flight = this.#fly(batch, record.timestampMs)
    flight.runs.add(seq)
    flight.openRecords++
    if (this.#waiters.size === 0) return
    const waiter = this.#waiters.get(seq)
    if (waiter === undefined) return
    this.#waiters.delete(seq)
    waiter.follow(batch, batch.recordCount - 1, this.#isLeft)
  }

  #isTaken(seq: number): boolean {
    return this.#taken.size > 0 && this.#taken.delete(seq)
  }

  #fly(batch: PendingBatch, firstTimeMs: number): Flight {
    const slot = batch.partition + 1
    const flight = this.#track(batch, { slot, firstTimeMs, runs: new Runs() })
    this.#flights[slot] = flight
    return flight
  }

  #track(batch: PendingBatch, of: Pick<Flight, 'slot' | 'firstTimeMs' | 'runs'>): Flight {
    const flight: Flight = { batch, ...of, openRecords: of.runs.count }
    this.#open.set(batch, flight)
    batch.onSettled((settlement) => this.#settled(flight, settlement))
    return flight
  }

  #settled(flight: Flight, settlement: Settlement): void {
    const { firstPlace, recordCount } = settlement
    flight.openRecords -= recordCount
    if (flight.openRecords === 0) this.#open.delete(flight.batch)
    if (this.#flights[flight.slot] === flight) this.#flights[flight.slot] = undefined
    if (this.#isLeft(settlement)) return
    flight.runs.each((first, count) => this.#log.done(first, count), firstPlace, recordCount)
    this.#events.drained(recordCount)
    this.#schedule()
  }

  /** At the end of the process, what Kafka did not answer for stays on disk, and the next process sends it. */
  readonly #isLeft = ({ outcome, reason }: Settlement): boolean =>
    reason === 'shutdown' || (this.#isStopped && outcome === 'suspected_lost')

  /** A record that the buffer never has room for: an earlier run had a larger one. */
  #refuse(): void {
    const seq = this.#nextSeq++
    this.#waiters.get(seq)?.settle({ outcome: 'dropped', reason: 'message_too_large' })
    this.#waiters.delete(seq)
    this.#log.done(seq, 1)
    this.#events.dropped('message_too_large', 1)
  }

  /** Records that are on disk and cannot be read. */
  #lost(count: number): void {
    let lost = 0
    for (let left = count; left > 0; left--) {
      const seq = this.#nextSeq++
      const segment = this.#log.segmentOf(seq)
      if (segment === null || segment.wasDone(seq) || this.#isTaken(seq)) continue
      segment.isDamaged = true
      this.#log.done(seq, 1)
      lost++
    }
    if (lost > 0) this.#events.dropped('spool_damaged', lost)
  }

  /** Room comes with settlements, which pump; but a topic that comes back, or a disk, tells nobody. */
  #retryLater(): void {
    if (this.#isStopped) return
    this.#retryTimer ??= setTimeout(() => {
      this.#retryTimer = null
      this.#schedule()
    }, retryMs)
  }
}

/** What the feeder tells as it happens. */
export interface FeederEvents {
  /** Records got an outcome, and are done. */
  drained(count: number): void
  /** A batch of an earlier process is with the producer; null: it cannot be the same batch any more, and its records go as others do. */
  resumed(noted: ResumedBatch, batch: PendingBatch | null): void
  /** Records will never go to Kafka. */
  dropped(reason: 'message_too_large' | 'spool_damaged', count: number): void
  /** The disk could not be read; it is tried again. */
  readFailed(code: string): void
}

/** A batch of an earlier process, and the numbers of its records. Its room in the producer's buffer is reserved. */
export interface ResumableBatch {
  readonly batch: ResumedBatch
  readonly runs: Runs
}

/** The records of a log that are in one batch of the producer, in their order. */
interface Flight {
  readonly batch: PendingBatch
  /** Where the feeder keeps it. */
  readonly slot: number
  readonly firstTimeMs: number
  readonly runs: Runs
  /** Records of it without an outcome. */
  openRecords: number
}

const turnMs = 1
const retryMs = 50

import type { BatchJournal, ResumedBatch } from '../kafka/producer/batch-journal.ts'
import { isLeftAtEnd } from '../kafka/producer/outcome.ts'
import {
  chargeOf,
  type AccountedProducer,
  type PendingBatch,
  type Settlement,
} from '../kafka/producer/producer.ts'
import type { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import { EntryReader } from './frame.ts'
import type { SpooledRecord } from './group.ts'
import { LogReader } from './log-reader.ts'
import { Runs, type EachRun } from './sent-batch.ts'
import type { PlacedGroup, SpoolLog } from './spool-log.ts'

/** The producer behind a spool: it has what is in memory, and takes it to Kafka. */
export interface InnerProducer extends AccountedProducer {
  /** Room that is left in `buffer.memory`. */
  readonly bufferAvailableBytes: number
  /** From now on the journal is told of each batch before the batch is first written. */
  keepJournal(journal: BatchJournal): void
  /**
   * Sends a batch of an earlier process again, as it was. To be called while the stream's admission is open, and before anything is
   * appended.
   * @returns null if it cannot be the same batch any more. Then the producer took nothing.
   */
  resume(noted: ResumedBatch): PendingBatch | null
}

/**
 * Takes the records of a log to the producer, strictly in their order, and books them as done when they have an outcome.
 *
 * While the producer keeps up, records go to it from memory as they are committed. Behind a backlog they are read back from
 * disk, as long as half of the producer's buffer is free: the other half is for what is on its way to the disk. Batches that an
 * earlier process had sent, and had no answer for, go before everything else, as they were.
 */
export class Feeder {
  readonly #log: SpoolLog
  readonly #producer: InnerProducer
  readonly #reader: LogReader
  readonly #events: FeederEvents
  /** The newest batch of each partition, at the partition's number plus one. The batch at 0 has no partition yet. */
  readonly #newest: (FedBatch | undefined)[] = []
  /** All batches that have a record without an outcome. */
  readonly #open = new Map<PendingBatch, FedBatch>()
  /** Batches of an earlier process, until they are with the producer. */
  #resumable: ResumableBatch[]
  /** Records that are not fed: they are done, or in a batch of an earlier process. */
  readonly #taken: Set<number>
  /** Records that were not fed yet and whose outcome somebody waits for, by number. */
  readonly #awaited = new Map<number, SpooledRecord>()
  /** The frame that records are taken from. */
  #entries: EntryReader | null = null
  /** The entry that the frame's reader is at is still to be taken. */
  #hasEntry = false
  #nextSeq: number
  #isStarted = false
  #isStopped = false
  #isPumpScheduled = false
  #retryTimer: NodeJS.Timeout | null = null

  /** @param options.done numbers of records that are done, though no ack file says so. */
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
    this.#reader = new LogReader(options.log)
  }

  /** Starts with what was found on disk. Before this call nothing goes to the producer. */
  start(): void {
    this.#isStarted = true
    this.#schedule()
  }

  /** Takes no more records to the producer. Batches on their way may still be settled. */
  stop(): void {
    this.#isStopped = true
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer)
  }

  /** Tells those who wait for a record that was not fed that the next process sends the record. */
  leaveAwaited(): void {
    for (const record of this.#awaited.values()) record.leave()
    this.#awaited.clear()
  }

  /** When the oldest record that is not done was accepted; null if there is none. */
  get oldestMs(): number | null {
    let oldest = this.#nextSeq < this.#log.nextSeq ? this.#reader.nextTimeMs : null
    for (const { firstTimeMs } of this.#open.values())
      if (oldest === null || firstTimeMs < oldest) oldest = firstTimeMs
    return oldest
  }

  /**
   * Is told of each group once it is committed. Room for the group is reserved in the producer's buffer. The group goes to the
   * producer from memory if everything before it has gone there: a large group as what was read back goes, a part a turn. Otherwise
   * it stays on disk, and its room is given back.
   */
  offer({ group, segment, position }: PlacedGroup): void {
    for (const record of group.awaited) this.#awaited.set(group.firstSeq + record.place, record)
    const isNext = this.#entries === null && !this.#reader.isReading && group.firstSeq === this.#nextSeq
    if (!isNext || !this.#hasRoom || this.#isStopped || !this.#isStarted) {
      this.#producer.unreserve(group.reservedBytes)
      this.#reader.left(group.firstTimeMs)
      this.#schedule()
      return
    }
    const entries = new EntryReader(group.frame, 0, group.sizeBytes)
    if (group.recordCount > manyRecords) {
      this.#producer.unreserve(group.reservedBytes)
      this.#reader.skipTo(segment, position + group.sizeBytes)
      this.#entries = entries
      this.#schedule()
      return
    }
    while (entries.next()) if (entries.kind === 'record') this.#feed(entries.record)
    this.#reader.skipTo(segment, position + group.sizeBytes)
  }

  /** Calls back with the numbers of a batch's records, in their order: of `length` records from place `from` on. */
  eachSeq(batch: PendingBatch, { from, length }: Places, each: EachRun): void {
    const fed = this.#open.get(batch)
    if (fed !== undefined) return fed.runs.each(each, from, length)
    // A batch that the producer made of others, since the topic has another number of partitions.
    for (const source of batch.sources ?? []) {
      const first = Math.max(from, source.targetPlace)
      const end = Math.min(from + length, source.targetPlace + source.count)
      if (first >= end) continue
      const places = { from: source.place + first - source.targetPlace, length: end - first }
      this.eachSeq(source.batch, places, each)
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

  /** Feeds records for a millisecond at a time, so that requests are not held up. */
  readonly #pump = (): void => {
    this.#isPumpScheduled = false
    if (this.#isStopped) return
    const untilMs = performance.now() + turnMs
    for (let count = 1; ; count++) {
      if (!this.#advance()) return
      if (count % 64 === 0 && performance.now() > untilMs) return this.#schedule()
    }
  }

  /** Does one step. @returns false if there is nothing to do now. Whatever changes that calls {@link #schedule}. */
  #advance(): boolean {
    if (this.#resumable.length > 0) return this.#resume()
    if (this.#entries === null) {
      // While a frame is being read, its first record stays the next one, even if the segment goes meanwhile.
      if (this.#reader.isReading) return false
      // Segments of which all records are done are not read.
      this.#nextSeq = this.#log.seqFrom(this.#nextSeq)
      if (this.#nextSeq >= this.#log.nextSeq) return false
      this.#reader.read(this.#nextSeq, (result) => {
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

  /** Hands the batches of an earlier process to the producer, once their partitions are known. */
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
      runs.each((first, count) => {
        for (let seq = first; seq < first + count; seq++) this.#taken.add(seq)
      })
      this.#track({ batch, slot: -1, firstTimeMs: noted.baseTimestampMs, runs, openRecords: runs.count })
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
    const producer = this.#producer
    if (!this.#hasRoom) return false
    const sizeBytes = chargeOf(entries.record, producer.headerBytes)
    // A record that is too large for the topic goes all the same: the broker refuses it, and it becomes a dead letter.
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
    let fed = this.#newest[batch.partition + 1]
    if (fed === undefined || fed.batch !== batch) fed = this.#begin(batch, record.timestampMs)
    fed.runs.add(seq)
    fed.openRecords++
    if (this.#awaited.size === 0) return
    const awaited = this.#awaited.get(seq)
    if (awaited === undefined) return
    this.#awaited.delete(seq)
    awaited.follow(batch, batch.recordCount - 1, this.#isLeft)
  }

  #isTaken(seq: number): boolean {
    return this.#taken.size > 0 && this.#taken.delete(seq)
  }

  #begin(batch: PendingBatch, firstTimeMs: number): FedBatch {
    const slot = batch.partition + 1
    const fed: FedBatch = { batch, slot, firstTimeMs, runs: new Runs(), openRecords: 0 }
    this.#track(fed)
    this.#newest[slot] = fed
    return fed
  }

  #track(fed: FedBatch): void {
    this.#open.set(fed.batch, fed)
    fed.batch.onSettled((settlement) => this.#settled(fed, settlement))
  }

  #settled(fed: FedBatch, settlement: Settlement): void {
    const { firstPlace, recordCount } = settlement
    fed.openRecords -= recordCount
    if (fed.openRecords === 0) this.#open.delete(fed.batch)
    if (this.#newest[fed.slot] === fed) this.#newest[fed.slot] = undefined
    if (this.#isLeft(settlement)) return
    fed.runs.each((first, count) => this.#log.done(first, count), firstPlace, recordCount)
    this.#events.drained(recordCount)
    this.#schedule()
  }

  /** Whether records stay on disk for the next process: it ends, and Kafka did not answer for them. */
  readonly #isLeft = (settlement: Settlement): boolean => isLeftAtEnd(settlement, this.#isStopped)

  /** Gives up the next record: the buffer never has room for it. An earlier process had a larger buffer. */
  #refuse(): void {
    const seq = this.#nextSeq++
    this.#giveUp(seq, 'message_too_large')
    this.#events.dropped('message_too_large', 1)
  }

  /** Gives up the next records: they are on disk and cannot be read. */
  #lost(count: number): void {
    let lost = 0
    for (let left = count; left > 0; left--) {
      const seq = this.#nextSeq++
      const segment = this.#log.segmentOf(seq)
      if (segment === null || segment.wasDone(seq) || this.#isTaken(seq)) continue
      segment.acks.addDamage()
      this.#giveUp(seq, 'spool_damaged')
      lost++
    }
    if (lost > 0) this.#events.dropped('spool_damaged', lost)
  }

  #giveUp(seq: number, reason: LossOfFeeder): void {
    this.#awaited.get(seq)?.settle({ outcome: 'dropped', reason })
    this.#awaited.delete(seq)
    this.#log.done(seq, 1)
  }

  /** Tries again a moment later. A settlement, which makes room, schedules a step by itself. A topic or a disk that comes back does not. */
  #retryLater(): void {
    if (this.#isStopped) return
    this.#retryTimer ??= setTimeout(() => {
      this.#retryTimer = null
      this.#schedule()
    }, retryMs)
  }
}

/** Why records never go to Kafka. */
type LossOfFeeder = 'message_too_large' | 'spool_damaged'

/** What the feeder tells as it happens. */
export interface FeederEvents {
  /** Records got an outcome, and are done. */
  drained(count: number): void
  /** A batch of an earlier process is with the producer; null: it cannot be the same batch any more, and its records go in new batches. */
  resumed(noted: ResumedBatch, batch: PendingBatch | null): void
  /** Records will never go to Kafka. */
  dropped(reason: LossOfFeeder, count: number): void
  /** The disk could not be read. The read is tried again. */
  readFailed(code: string): void
}

/** A batch of an earlier process, and the numbers of its records. Its room in the producer's buffer is reserved. */
export interface ResumableBatch {
  readonly batch: ResumedBatch
  readonly runs: Runs
}

/** A batch of the producer, and the numbers of its records in the log, in their order. */
interface FedBatch {
  readonly batch: PendingBatch
  /** Its place in the feeder's list of newest batches; -1: it has none. */
  readonly slot: number
  readonly firstTimeMs: number
  readonly runs: Runs
  /** Records of the batch that have no outcome yet. */
  openRecords: number
}

/** Places in a batch: `length` of them, from `from` on. */
interface Places {
  readonly from: number
  readonly length: number
}

const turnMs = 1
/** To feed this many records takes about a millisecond. */
const manyRecords = 1_000
const retryMs = 50

import type { Account } from '../account.ts'
import type { RecordStamp } from '../accumulator.ts'
import type { DeadLetterQueue, Refusal } from '../sender.ts'
import type { DeadLetter, DeadLetterFile } from './dead-letter-file.ts'
import { kafkaErrorName } from '../../protocol/kafka-error.ts'
import type { Logger } from '../../../logger.ts'
import { recordSizeUpperBound, type ManagedProducer, type Settlement } from '../producer.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import { addHeaders, type RecordHeader, readRecords } from '../../protocol/record-format.ts'

/**
 * Where the records of one at-least-once stream go that Kafka refused for good: to the dead-letter topic with the reason
 * in their headers; to the file of the data folder where there is no such topic, or it refuses them too; else nowhere,
 * and then they are dropped and counted. Until it is known where, a batch keeps its room in the buffer and its place
 * under "in flight", and nothing waits for it.
 */
export class DeadLetters implements DeadLetterQueue {
  readonly #options: DeadLettersOptions
  readonly #open = new Set<Burial>()

  constructor(options: DeadLettersOptions) {
    this.#options = options
  }

  /** Takes a batch, and gives it its outcome now or later. */
  take(batch: ProducerBatch, refusal: Refusal): void {
    if (batch.state === 'open') batch.close()
    if (batch.state === 'closed') this.#options.account.written(batch)
    const burial: Burial = {
      batch,
      refusal,
      sinceMs: performance.now(),
      open: batch.recordCount,
      failed: 0,
      isSent: false,
      isFiled: false,
    }
    this.#open.add(burial)
    this.#send(burial)
  }

  /** Is called every second: tries again what found no room, until that took too long. */
  tend(nowMs: number): void {
    for (const burial of this.#open) {
      if (burial.isSent || burial.isFiled) continue
      if (nowMs - burial.sinceMs < patienceMs) this.#send(burial)
      else this.#keepInFile(burial)
    }
  }

  /** The end is near: what has not reached the topic goes to the file. */
  hurry(): void {
    for (const burial of this.#open) this.#keepInFile(burial)
  }

  /** Ends at once: what was not given to the file before goes there, or is given up. */
  stop(): void {
    for (const burial of this.#open) {
      try {
        if (burial.isFiled) throw new Error('the disk has not taken it in time')
        this.#options.file?.appendNow(this.#letters(burial))
        this.#end(burial, this.#options.file !== null)
      } catch (error) {
        this.#failed(error)
        this.#end(burial, false)
      }
    }
    this.#options.producer?.abort()
  }

  #send(burial: Burial): void {
    const { producer, stamp } = this.#options
    if (producer === null) return this.#keepInFile(burial)
    const { batch } = burial
    const records = batch.plainRecords()
    const status = producer.admission
    let sizeBytes = 0
    let isTakable = status !== 'unknown_topic' && status !== 'not_authorized'
    for (const { record } of readRecords(records, batch)) {
      sizeBytes += recordSizeUpperBound(record.keyBytes, record.valueBytes, stamp.headerBytes)
      if (record.keyBytes + record.valueBytes > producer.maxRecordBytes) isTakable = false
      if (producer.needsKey && record.key === null) isTakable = false
    }
    if (!isTakable) return this.#keepInFile(burial)
    if (status !== 'open' || !producer.reserve(sizeBytes)) return
    burial.isSent = true
    const headers = this.#headers(burial)
    for (const { record, headers: own } of readRecords(records, batch)) {
      stamp.headers = addHeaders(own, headers)
      const taken = producer.append(record)
      const place = taken.recordCount - 1
      taken.onSettled((settlement) => this.#settled(burial, place, settlement))
    }
  }

  #settled(burial: Burial, place: number, { outcome, firstPlace, recordCount }: Settlement): void {
    if (place < firstPlace || place >= firstPlace + recordCount || !this.#open.has(burial)) return
    if (burial.isFiled) return
    burial.open--
    if (outcome !== 'acked') burial.failed++
    if (burial.open > 0) return
    if (burial.failed > 0) this.#keepInFile(burial)
    else this.#end(burial, true)
  }

  /** Does not wait for the disk: until the letters are there, the batch keeps its place. */
  #keepInFile(burial: Burial): void {
    if (burial.isFiled) return
    const { file } = this.#options
    if (file === null) return this.#end(burial, false)
    burial.isFiled = true
    file.append(this.#letters(burial)).then(
      () => this.#end(burial, true),
      (error: unknown) => {
        this.#failed(error)
        this.#end(burial, false)
      },
    )
  }

  #failed(error: unknown): void {
    const { logger, stream } = this.#options
    const cause = (error as Error).message
    logger.error({ stream, cause }, 'dead letters could not be written to the file')
  }

  #end(burial: Burial, isKept: boolean): void {
    const { account, onReady } = this.#options
    const { batch, refusal } = burial
    if (!this.#open.delete(burial)) return
    if (isKept) account.settle(batch, 'dead_lettered', refusal.reason)
    else if (refusal.mayBeStored) account.settle(batch, 'suspected_lost')
    else account.settle(batch, 'dropped', refusal.reason)
    onReady()
  }

  #headers({ batch, refusal }: Burial): RecordHeader[] {
    const { stream, topic } = this.#options
    const texts = {
      stream,
      topic,
      partition: String(batch.partition),
      reason: refusal.reason,
      'kafka.error': labelOf(refusal) ?? '',
      'may.be.stored': String(refusal.mayBeStored),
    }
    return Object.entries(texts).map(([key, text]) => ({ key: headerPrefix + key, value: Buffer.from(text) }))
  }

  #letters({ batch, refusal }: Burial): DeadLetter[] {
    const { stream, topic } = this.#options
    const records = batch.plainRecords()
    const at = new Date().toISOString()
    const letters: DeadLetter[] = []
    for (const { record } of readRecords(records, batch)) {
      const { body, start, end, key, keyStart, keyEnd, timestampMs } = record
      letters.push({
        at,
        stream,
        topic,
        partition: batch.partition,
        reason: refusal.reason,
        kafkaError: labelOf(refusal),
        mayBeStored: refusal.mayBeStored,
        timestampMs,
        key: key?.toString('utf8', keyStart, keyEnd) ?? null,
        value: body.toString('utf8', start, end),
      })
    }
    return letters
  }
}

/** What a dead-letter topic asks of the producer that writes to it. */
export type LetterProducer = Pick<
  ManagedProducer,
  'admission' | 'maxRecordBytes' | 'needsKey' | 'reserve' | 'append' | 'abort'
>

/** See {@link DeadLetters}. */
export interface DeadLettersOptions {
  readonly stream: string
  readonly topic: string
  readonly account: Account
  /** Writes to the dead-letter topic, with the headers of {@link stamp}; null if there is none. */
  readonly producer: LetterProducer | null
  readonly stamp: DeadLetterStamp
  /** Null without a data folder. */
  readonly file: DeadLetterFile | null
  readonly logger: Logger
  /** A batch got its outcome. */
  readonly onReady: () => void
}

/** Gives each dead letter the headers that were set for it. */
export class DeadLetterStamp implements RecordStamp {
  headers: Buffer = Buffer.alloc(0)

  /** The most that they take: a few short texts, two names of 249 characters, and what the record had. */
  get headerBytes(): number {
    return 1_024
  }

  /** Dead letters have no numbers. */
  number(): void {}

  takeBack(): void {}

  get counts(): [] {
    return []
  }
}

/** A batch on its way out. */
interface Burial {
  readonly batch: ProducerBatch
  readonly refusal: Refusal
  readonly sinceMs: number
  /** Records whose end in the dead-letter topic is not known. */
  open: number
  failed: number
  /** They were handed to the producer of the dead-letter topic. */
  isSent: boolean
  /** They were handed to the file, and what becomes of them in the topic does not count any more. */
  isFiled: boolean
}

function labelOf({ errorCode }: Refusal): string | null {
  return errorCode === null ? null : kafkaErrorName(errorCode)
}

/** As Kafka Connect's `__connect.errors.`. */
const headerPrefix = '__chute.errors.'

/** How long a dead-letter topic that takes nothing is waited for. */
const patienceMs = 60_000

import type { Account } from '../account.ts'
import { type DropReason, outcomeTraits } from '../outcome.ts'
import type { RecordHeaders } from '../record-headers.ts'
import type { DeadLetterQueue, Refusal } from '../sender.ts'
import type { DeadLetter, DeadLetterFile } from './dead-letter-file.ts'
import { auditHeaderKey } from '../../protocol/audit-header.ts'
import { kafkaErrorName } from '../../protocol/kafka-error.ts'
import type { Logger } from '../../../logger.ts'
import { admissionTraits, chargeOf, type ManagedProducer, type Settlement } from '../producer.ts'
import type { ProducerBatch } from '../producer-batch.ts'
import {
  decodeHeaders,
  encodeHeaders,
  errorHeaders,
  hasNoHeaders,
  readRecords,
  type RecordHeader,
} from '../../protocol/record-format.ts'

/**
 * The place for records of one at-least-once stream that Kafka refused for good. They go to the dead-letter topic, with the reason in their
 * headers. They go to the file of the data folder if there is no such topic, or if it refuses them, too. They are dropped and counted if
 * there is no file either. Until the records have their place, their batch keeps its room in the buffer and counts as in flight. No other
 * batch waits for it.
 */
export class DeadLetters implements DeadLetterQueue {
  readonly #options: DeadLettersOptions
  readonly #open = new Set<RefusedBatch>()

  constructor(options: DeadLettersOptions) {
    this.#options = options
  }

  /** @inheritdoc */
  take(batch: ProducerBatch, refusal: Refusal): void {
    if (batch.state === 'open') batch.close()
    if (batch.state === 'closed') this.#options.account.written(batch)
    const refused: RefusedBatch = {
      batch,
      refusal,
      sinceMs: performance.now(),
      open: batch.recordCount,
      failed: 0,
      isSent: false,
      isFiled: false,
    }
    this.#open.add(refused)
    this.#send(refused)
  }

  /** @inheritdoc Tries again to send batches that found no room. If that has taken too long, they go to the file. */
  everySecond(nowMs: number): void {
    for (const refused of this.#open) {
      if (refused.isSent || refused.isFiled) continue
      if (nowMs - refused.sinceMs < patienceMs) this.#send(refused)
      else this.#keepInFile(refused)
    }
  }

  /** @inheritdoc */
  hurry(): void {
    for (const refused of this.#open) this.#keepInFile(refused)
  }

  /** Ends at once. Batches that were not handed to the file before are written to it now, or are given up. */
  stop(): void {
    for (const refused of this.#open) {
      try {
        if (refused.isFiled) throw new Error('the disk has not taken it in time')
        this.#options.file?.appendNow(this.#letters(refused))
        this.#end(refused, this.#options.file !== null)
      } catch (error) {
        this.#failed(error)
        // The end came first. A durable stream has the record on disk, and its next life tries again.
        this.#end(refused, false, 'shutdown')
      }
    }
    this.#options.producer?.abort()
  }

  #send(refused: RefusedBatch): void {
    const { producer, headers } = this.#options
    if (producer === null) return this.#keepInFile(refused)
    const { batch } = refused
    const records = batch.plainRecords()
    const status = producer.admission
    let sizeBytes = 0
    let isTakable = !admissionTraits[status].isFinal
    for (const { record, headers: own } of readRecords(records, batch)) {
      record.headed(hasNoHeaders(own) ? null : own)
      sizeBytes += chargeOf(record, headers.headerBytes)
      if (record.keyBytes + record.valueBytes + record.headerBytes > producer.maxRecordBytes)
        isTakable = false
      if (producer.needsKey && record.key === null) isTakable = false
    }
    if (!isTakable) return this.#keepInFile(refused)
    if (status !== 'open' || !producer.reserve(sizeBytes)) return
    refused.isSent = true
    headers.encoded = encodeHeaders(this.#reasonsOf(refused))
    for (const { record, headers: own } of readRecords(records, batch)) {
      record.headed(hasNoHeaders(own) ? null : own)
      const taken = producer.append(record)
      const place = taken.recordCount - 1
      taken.onSettled((settlement) => this.#settled(refused, place, settlement))
    }
  }

  #settled(refused: RefusedBatch, place: number, { outcome, firstPlace, recordCount }: Settlement): void {
    if (place < firstPlace || place >= firstPlace + recordCount || !this.#open.has(refused)) return
    if (refused.isFiled) return
    refused.open--
    if (outcome === 'pending' || outcomeTraits[outcome].inTopic !== 'yes') refused.failed++
    if (refused.open > 0) return
    if (refused.failed > 0) this.#keepInFile(refused)
    else this.#end(refused, true)
  }

  /** Hands a batch to the file, and does not wait for the disk. The batch gets its outcome when the disk has it. */
  #keepInFile(refused: RefusedBatch): void {
    if (refused.isFiled) return
    const { file } = this.#options
    if (file === null) return this.#end(refused, false)
    refused.isFiled = true
    file.append(this.#letters(refused)).then(
      () => this.#end(refused, true),
      (error: unknown) => {
        this.#failed(error)
        this.#end(refused, false)
      },
    )
  }

  #failed(error: unknown): void {
    const { logger, stream } = this.#options
    const cause = (error as Error).message
    logger.error({ stream, cause }, 'dead letters could not be written to the file')
  }

  #end(refused: RefusedBatch, isKept: boolean, reason: DropReason = refused.refusal.reason): void {
    const { account, onReady } = this.#options
    const { batch, refusal } = refused
    if (!this.#open.delete(refused)) return
    if (isKept) account.settle(batch, 'dead_lettered', refusal.reason)
    else if (refusal.mayBeStored) account.settle(batch, 'suspected_lost')
    else account.settle(batch, 'dropped', reason)
    onReady()
  }

  #reasonsOf({ batch, refusal }: RefusedBatch): RecordHeader[] {
    const { stream, topic } = this.#options
    const texts = {
      stream,
      topic,
      partition: String(batch.partition),
      reason: refusal.reason,
      'kafka.error': labelOf(refusal) ?? '',
      'may.be.stored': String(refusal.mayBeStored),
    }
    return errorHeaders(texts)
  }

  #letters({ batch, refusal }: RefusedBatch): DeadLetter[] {
    const { stream, topic } = this.#options
    const records = batch.plainRecords()
    const at = new Date().toISOString()
    const letters: DeadLetter[] = []
    for (const { record, headers } of readRecords(records, batch)) {
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
        // All headers of the record but the audit header, whose number means nothing outside of the topic.
        headers: Object.fromEntries(
          decodeHeaders(headers)
            .filter((header) => header.key !== auditHeaderKey)
            .map((header) => [header.key, header.value.toString()]),
        ),
      })
    }
    return letters
  }
}

/** The part of the dead-letter topic's producer that {@link DeadLetters} uses. */
export type LetterProducer = Pick<
  ManagedProducer,
  'admission' | 'maxRecordBytes' | 'needsKey' | 'reserve' | 'append' | 'abort'
>

/** See {@link DeadLetters}. */
export interface DeadLettersOptions {
  readonly stream: string
  readonly topic: string
  readonly account: Account
  /** Writes to the dead-letter topic, with the headers of {@link headers}; null if there is no such topic. */
  readonly producer: LetterProducer | null
  readonly headers: DeadLetterHeaders
  /** Null without a data folder. */
  readonly file: DeadLetterFile | null
  readonly logger: Logger
  /** A batch got its outcome. */
  readonly onReady: () => void
}

/** Gives each dead letter the headers that were set for it. */
export class DeadLetterHeaders implements RecordHeaders {
  encoded: Buffer = Buffer.alloc(0)
  readonly hasNumbers = false

  /** An upper bound: a few short texts, and two names of 249 characters at most. */
  get headerBytes(): number {
    return 1_024
  }

  /** A letter keeps its headers, which say why Kafka refused the record. */
  ofMoved(own: Buffer): Buffer {
    return own
  }

  /** Dead letters have no numbers. */
  number(): void {}

  takeBack(): void {}

  get counts(): [] {
    return []
  }
}

/** A batch that Kafka refused, until it has its outcome. */
interface RefusedBatch {
  readonly batch: ProducerBatch
  readonly refusal: Refusal
  readonly sinceMs: number
  /** Records that have no outcome in the dead-letter topic yet. */
  open: number
  /** Records that the dead-letter topic did not take. */
  failed: number
  /** The records were handed to the producer of the dead-letter topic. */
  isSent: boolean
  /** The records were handed to the file. Their outcome in the topic does not count any more. */
  isFiled: boolean
}

function labelOf({ errorCode }: Refusal): string | null {
  return errorCode === null ? null : kafkaErrorName(errorCode)
}

/** How long letters wait for a dead-letter topic that takes no records. */
const patienceMs = 60_000

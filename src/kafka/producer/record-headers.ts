import { randomBytes } from 'node:crypto'
import {
  auditHeaderKey,
  auditValueBytes,
  readAuditHeader,
  sequenceOffset,
  writeAuditHeader,
  type AuditHeader,
} from '../protocol/audit-header.ts'
import type { AuditCount } from './producer.ts'
import type { ProducerBatch } from './producer-batch.ts'
import { encodeHeaders } from '../protocol/record-format.ts'

/** Gives each record headers of its own: {@link AuditHeaders}, or those of dead letters (`at-least-once/dead-letters.ts`). */
export interface RecordHeaders {
  /** The most that a record gets more by it. */
  readonly headerBytes: number
  /** The headers of the next record, as `encodeHeaders` writes them, without its number. */
  readonly encoded: Buffer
  /** The headers of a record that moves to another batch, without a number. @param own the headers that the record has. */
  ofMoved(own: Buffer): Buffer
  /**
   * Numbers the records of a batch in its partition: of each batch once, in the order in which a partition's batches are
   * sent, and before it is compressed.
   */
  number(batch: ProducerBatch): void
  /** Takes back the numbers of a batch that was not sent: of all such batches of its partition, or of none. */
  takeBack(batch: ProducerBatch): void
  /** How many records of each partition have a number; empty where records get none. */
  readonly counts: readonly AuditCount[]
}

/**
 * Numbers the records of one stream, for `audit: true`: in each partition from 0 on, in the order in which they are
 * sent, and no number twice. A record that is dropped leaves its number unused, and so does one that is lost.
 *
 * To give each record another header, add it to {@link encoded} before the audit header, which has to be the last one
 * (`protocol/audit-header.ts`): the number is written at a fixed distance from the record's end.
 */
export class AuditHeaders implements RecordHeaders {
  /** Of this producer alone: another start has another, and so has another stream. */
  readonly instance = randomBytes(6).toString('hex')
  /** Encoded once; only the sequence in it changes from record to record, and it is written when the batch is numbered. */
  readonly encoded: Buffer
  /** The next sequence, by partition. */
  readonly #next: number[] = []
  /** Numbers that an earlier process gave, of records that this one sends again. */
  readonly #resumed: AuditCount[] = []

  constructor() {
    const value = writeAuditHeader({ instance: this.instance, sequence: 0 })
    this.encoded = encodeHeaders([{ key: auditHeaderKey, value }])
  }

  /** What each record gets more by it. */
  get headerBytes(): number {
    return this.encoded.length
  }

  /** The whole header is new: the record may be one of an earlier process, or have no header. */
  ofMoved(): Buffer {
    return this.encoded
  }

  /** @inheritdoc */
  number(batch: ProducerBatch): void {
    const { partition, recordCount } = batch
    const first = this.#next[partition] ?? 0
    // The value is the end of the headers, and the headers are the end of the record.
    batch.numberRecords(first, auditValueBytes - sequenceOffset)
    this.#next[partition] = first + recordCount
  }

  /** @inheritdoc */
  takeBack({ partition, recordCount, firstHeaders }: ProducerBatch): void {
    const mark = firstHeaders === null ? null : readAuditHeader(firstHeaders.subarray(-auditValueBytes))
    // Without a mark the batch is one of an earlier process, whose stream was not audited.
    if (mark === null) return
    if (mark.instance !== this.instance) return this.#leave(partition, mark)
    this.#next[partition] = (this.#next[partition] ?? 0) - recordCount
  }

  /** Records of a partition keep the numbers of an earlier process. @param headers of the first of them. */
  resume(partition: number, headers: Buffer, stamped: number): void {
    const mark = readAuditHeader(headers.subarray(-auditValueBytes))
    if (mark !== null)
      this.#resumed.push({ instance: mark.instance, partition, first: mark.sequence, stamped })
  }

  /** What an earlier process had numbered from a mark on goes under numbers of this process. */
  #leave(partition: number, { instance, sequence }: AuditHeader): void {
    const nth = this.#resumed.findIndex((each) => each.partition === partition && each.instance === instance)
    const { first = 0 } = this.#resumed[nth] ?? {}
    if (nth === -1 || sequence < first) return
    const left = sequence > first ? [{ instance, partition, first, stamped: sequence - first }] : []
    this.#resumed.splice(nth, 1, ...left)
  }

  /** How many records of each partition have a number. */
  get counts(): AuditCount[] {
    // By index: a partition that got no record yet has a hole in the list.
    const own = Array.from({ length: this.#next.length }, (_, partition) => ({
      instance: this.instance,
      partition,
      stamped: this.#next[partition] ?? 0,
    }))
    return [...own, ...this.#resumed]
  }
}

/** The headers of the record that is `nth` places behind another one in its partition, as the same writer numbers it. */
export function headersBehind(headers: Buffer, nth: number): Buffer {
  const mark = readAuditHeader(headers.subarray(-auditValueBytes))
  if (mark === null) return headers
  const behind = Buffer.from(headers)
  behind.writeUIntBE(mark.sequence + nth, headers.length - auditValueBytes + sequenceOffset, 6)
  return behind
}

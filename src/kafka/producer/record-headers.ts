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

/**
 * Gives each record headers of its own: {@link AuditHeaders}, or those of dead letters (`at-least-once/dead-letters.ts`). The headers that a
 * stream takes from a request are made in `routes/ingest/chosen-headers.ts`. They stand before these. Where else a header of Chute's own has to be
 * known: CONTRIBUTING.md ("A header on each record").
 */
export interface RecordHeaders {
  /** The most bytes that the headers add to a record. */
  readonly headerBytes: number
  /** The headers of the next record, as `encodeHeaders` writes them. The record's number is not in them yet. */
  readonly encoded: Buffer
  /** The headers hold a number of the record, so a batch without a partition has to get its partition before it is finished. */
  readonly hasNumbers: boolean
  /** The headers of a record that moves to another batch. A new number is not in them yet. @param own the headers that the record has. */
  ofMoved(own: Buffer): Buffer
  /**
   * Numbers the records of a batch. To be called once for each batch, before the batch is compressed, and in the order in which the
   * batches of a partition are sent.
   */
  number(batch: ProducerBatch): void
  /** Takes back the numbers of a batch that was not sent. To be called for all such batches of a partition, or for none of them. */
  takeBack(batch: ProducerBatch): void
  /** How many records of each partition have a number; empty where records get no numbers. */
  readonly counts: readonly AuditCount[]
}

/**
 * Numbers the records of one stream, for `audit: true`. In each partition the numbers begin at 0 and follow the order in which the records
 * are sent. No two records get the same number. A number whose record was dropped or lost is missing from the topic.
 *
 * The audit header has to be the last one (`protocol/audit-header.ts`): the number is written at a fixed distance from the record's end.
 * The record's own headers (`RecordBytes.headers`) stand before it.
 */
export class AuditHeaders implements RecordHeaders {
  /** The name of this producer. Each start of the gateway and each stream has another name. */
  readonly instance = randomBytes(6).toString('hex')
  /** Encoded once. Only the sequence in it changes from record to record. The sequence is written when the batch is numbered. */
  readonly encoded: Buffer
  readonly hasNumbers = true
  /** The next sequence, by partition. */
  readonly #next: number[] = []
  /** Numbers that an earlier process gave to records which this process sends again. */
  readonly #resumed: AuditCount[] = []

  constructor() {
    const value = writeAuditHeader({ instance: this.instance, sequence: 0 })
    this.encoded = encodeHeaders([{ key: auditHeaderKey, value }])
  }

  /** @inheritdoc */
  get headerBytes(): number {
    return this.encoded.length
  }

  /** The record's own headers, and a new audit header: an earlier process may have written the old one, or there may be none. */
  ofMoved(headers: Buffer): Buffer {
    const mark = markOf(headers)
    const ownCount = headers[0]! - (mark === null ? 0 : this.encoded[0]!)
    if (ownCount === 0) return this.encoded
    const end = mark === null ? headers.length : headers.length - auditEntry.length - auditValueBytes
    const count = Buffer.of(ownCount + this.encoded[0]!)
    return Buffer.concat([count, headers.subarray(1, end), this.encoded.subarray(1)])
  }

  /** @inheritdoc */
  number(batch: ProducerBatch): void {
    const { partition, recordCount } = batch
    const first = this.#next[partition] ?? 0
    // The audit header's value is the end of the headers, and the headers are the end of the record.
    batch.numberRecords(first, auditValueBytes - sequenceOffset)
    this.#next[partition] = first + recordCount
  }

  /** @inheritdoc */
  takeBack({ partition, recordCount, firstHeaders }: ProducerBatch): void {
    const mark = firstHeaders === null ? null : markOf(firstHeaders)
    // A batch without a mark comes from an earlier process, in which the stream was not audited.
    if (mark === null) return
    if (mark.instance !== this.instance) return this.#leave(partition, mark)
    this.#next[partition] = (this.#next[partition] ?? 0) - recordCount
  }

  /** Records of a partition keep the numbers that an earlier process gave them. @param headers the headers of the first of these records. */
  resume(partition: number, headers: Buffer, stamped: number): void {
    const mark = markOf(headers)
    if (mark !== null)
      this.#resumed.push({ instance: mark.instance, partition, first: mark.sequence, stamped })
  }

  /** The records that an earlier process had numbered from a mark on get numbers of this process. Their old numbers no longer count. */
  #leave(partition: number, { instance, sequence }: AuditHeader): void {
    const nth = this.#resumed.findIndex((each) => each.partition === partition && each.instance === instance)
    const { first = 0 } = this.#resumed[nth] ?? {}
    if (nth === -1 || sequence < first) return
    const left = sequence > first ? [{ instance, partition, first, stamped: sequence - first }] : []
    this.#resumed.splice(nth, 1, ...left)
  }

  /** @inheritdoc */
  get counts(): AuditCount[] {
    // By index, since the list has holes: partitions without a record yet.
    const own = Array.from({ length: this.#next.length }, (_, partition) => ({
      instance: this.instance,
      partition,
      stamped: this.#next[partition] ?? 0,
    }))
    return [...own, ...this.#resumed]
  }
}

/**
 * The audit header of the record that is `nth` places behind another record of its batch, as the same producer numbered it; null if the
 * other record has none.
 */
export function auditHeaderBehind(headers: Buffer, nth: number): Buffer | null {
  const mark = markOf(headers)
  if (mark === null) return null
  const value = writeAuditHeader({ instance: mark.instance, sequence: mark.sequence + nth })
  return encodeHeaders([{ key: auditHeaderKey, value }])
}

/** What the audit header says at the end of a record's headers; null if there is none. */
function markOf(headers: Buffer): AuditHeader | null {
  const at = headers.length - auditEntry.length - auditValueBytes
  if (at < 1 || !headers.subarray(at, at + auditEntry.length).equals(auditEntry)) return null
  return readAuditHeader(headers.subarray(-auditValueBytes))
}

/** What stands between the headers before the audit header and its value: its key, and the size of the value. */
const auditEntry = encodeHeaders([{ key: auditHeaderKey, value: Buffer.alloc(auditValueBytes) }]).subarray(
  1,
  -auditValueBytes,
)

import { randomBytes } from 'node:crypto'
import {
  auditHeaderKey,
  auditValueBytes,
  readAuditMark,
  sequenceOffset,
  writeAuditMark,
  type AuditMark,
} from '../protocol/audit-header.ts'
import type { AuditCount } from './producer.ts'
import type { ProducerBatch } from './producer-batch.ts'
import { encodeHeaders } from '../protocol/record-format.ts'

/**
 * Numbers the records of one stream, for `audit: true`: in each partition from 0 on, in the order in which they are
 * sent, and no number twice. A record that is dropped leaves its number unused, and so does one that is lost.
 */
export class AuditStamp {
  /** Of this producer alone: another start has another, and so has another stream. */
  readonly instance = randomBytes(6).toString('hex')
  /** Encoded once; only the sequence in it changes from record to record, and it is written when the batch is numbered. */
  readonly headers: Buffer
  /** The next sequence, by partition. */
  readonly #next: number[] = []
  /** Numbers that an earlier process gave, of records that this one sends again. */
  readonly #resumed: AuditCount[] = []

  constructor() {
    const value = writeAuditMark({ instance: this.instance, sequence: 0 })
    this.headers = encodeHeaders([{ key: auditHeaderKey, value }])
  }

  /** What each record gets more by it. */
  get headerBytes(): number {
    return this.headers.length
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
    const mark = firstHeaders === null ? null : readAuditMark(firstHeaders.subarray(-auditValueBytes))
    // Without a mark the batch is one of an earlier process, whose stream was not audited.
    if (mark === null) return
    if (mark.instance !== this.instance) return this.#leave(partition, mark)
    this.#next[partition] = (this.#next[partition] ?? 0) - recordCount
  }

  /** Records of a partition keep the numbers of an earlier process. @param headers of the first of them. */
  resume(partition: number, headers: Buffer, stamped: number): void {
    const mark = readAuditMark(headers.subarray(-auditValueBytes))
    if (mark !== null)
      this.#resumed.push({ instance: mark.instance, partition, first: mark.sequence, stamped })
  }

  /** What an earlier process had numbered from a mark on goes under numbers of this process. */
  #leave(partition: number, { instance, sequence }: AuditMark): void {
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
  const mark = readAuditMark(headers.subarray(-auditValueBytes))
  if (mark === null) return headers
  const behind = Buffer.from(headers)
  behind.writeUIntBE(mark.sequence + nth, headers.length - auditValueBytes + sequenceOffset, 6)
  return behind
}

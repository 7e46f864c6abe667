import { randomBytes } from 'node:crypto'
import { auditHeaderKey, auditValueBytes, sequenceOffset, writeAuditMark } from '../audit-header.ts'
import type { AuditCount } from './producer.ts'
import { encodeHeaders } from './record-headers.ts'

/**
 * Numbers the records of one stream, for `audit: true`: in each partition from 0 on, in the order in which they are
 * appended, and no number twice. A record that is dropped later leaves its number unused, and so does one that is lost.
 */
export class AuditStamp {
  /** Of this producer alone: another start has another, and so has another stream. */
  readonly instance = randomBytes(6).toString('hex')
  /** Encoded once; only the sequence in it changes from record to record. */
  readonly #headers: Buffer
  readonly #sequenceAt: number
  /** The next sequence, by partition. */
  readonly #next: number[] = []

  constructor() {
    const value = writeAuditMark({ instance: this.instance, sequence: 0 })
    this.#headers = encodeHeaders([{ key: auditHeaderKey, value }])
    this.#sequenceAt = this.#headers.length - auditValueBytes + sequenceOffset
  }

  /** What each record gets more by it. */
  get headerBytes(): number {
    return this.#headers.length
  }

  /** The headers of the next record of a partition, valid until the next call. */
  headersFor(partition: number): Buffer {
    this.#headers.writeUIntBE(this.#next[partition] ?? 0, this.#sequenceAt, 6)
    return this.#headers
  }

  /** The record with these headers was appended. */
  advance(partition: number): void {
    this.#next[partition] = (this.#next[partition] ?? 0) + 1
  }

  /** How many records of each partition have a number. */
  get counts(): AuditCount[] {
    // By index: a partition that got no record yet has a hole in the list.
    return Array.from({ length: this.#next.length }, (_, partition) => ({
      instance: this.instance,
      partition,
      stamped: this.#next[partition] ?? 0,
    }))
  }
}

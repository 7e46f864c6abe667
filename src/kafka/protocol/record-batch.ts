import { crc32c } from '@node-rs/crc32'
import type { IdentifiedBatch } from '../producer/batch-journal.ts'
import type { PendingBatch, RecordSource, Settlement } from '../producer/producer.ts'
import type { RecordBytes } from './record-bytes.ts'
import { readVarint, sizeOfVarint, writeVarint } from './varint.ts'

/**
 * A batch in Kafka's record format, version 2 (KIP-98, `org.apache.kafka.common.record.DefaultRecordBatch`), written as
 * its records arrive: an append copies the bytes of one record and leaves no object behind.
 *
 * open → closed (its header is filled in and nothing can be appended) → written → settled, where it ends. `account.ts`
 * moves it along the last two steps and is the only one that does.
 */
export class RecordBatch implements PendingBatch, IdentifiedBatch {
  /** -1: its records have no key, and no partition has taken it yet. */
  partition: number
  /** When the first record was appended, by `performance.now()`: linger and delivery timeout count from here. */
  createdAtMs: number
  state: 'open' | 'closed' | 'written' | 'settled' = 'open'
  recordCount = 0
  /** What the batch holds of its stream's buffer memory. Set back to its real size when it is closed. */
  chargedBytes = 0
  /** Size of the batch before compression; what `batch.size` limits. */
  uncompressedBytes = recordBatchHeaderBytes
  /** A client waits for the outcome. */
  isAwaited = false
  /** Set while a codec works on the batch; it is not sendable until then. */
  compressing = false
  /** How often it was written (at-least-once sends again). */
  attempts = 0
  /** Of a part of a batch that was split: the place that its first record had in the whole; else 0. */
  firstPlace = 0
  /** @inheritdoc */
  whole: PendingBatch = this
  /** @inheritdoc */
  firstHeaders: Buffer | null = null
  /** @inheritdoc */
  readonly sources: RecordSource[] = []

  #buffer: Buffer
  #recycle: ((buffer: Buffer) => void) | null
  #baseTimestampMs = 0
  #maxTimestampMs = 0
  #listeners: ((settlement: Settlement) => void)[] | null = null
  /** The records that went to another batch last. */
  #goesOn: Run | null = null
  readonly #onAwaited: (() => void) | null

  /**
   * @param buffer where the batch is written; it grows by doubling up to `sizeLimitBytes`.
   * @param recycle takes the buffer back when the batch needs it no more.
   * @param onAwaited is told, once, that a client waits for the outcome.
   */
  constructor(
    partition: number,
    createdAtMs: number,
    buffer: Buffer,
    recycle: (buffer: Buffer) => void,
    onAwaited: (() => void) | null = null,
  ) {
    this.partition = partition
    this.createdAtMs = createdAtMs
    this.#buffer = buffer
    this.#recycle = recycle
    this.#onAwaited = onAwaited
  }

  /**
   * Appends one record if it fits.
   * @param sizeLimitBytes `batch.size`. The first record is taken whatever its size, as Kafka's producer does.
   * @param headers the record's headers as `encodeHeaders` writes them; null for none.
   * @returns false if the batch is full.
   */
  append(record: RecordBytes, sizeLimitBytes: number, headers: Buffer | null = null): boolean {
    const { body, start, end, key, keyStart, keyEnd, timestampMs } = record
    const valueBytes = end - start
    const keyBytes = keyEnd - keyStart
    const offsetDelta = this.recordCount
    if (offsetDelta === 0) {
      this.#baseTimestampMs = this.#maxTimestampMs = timestampMs
      if (headers !== null) this.firstHeaders = Buffer.from(headers)
    }
    const timestampDelta = timestampMs - this.#baseTimestampMs
    const headerBytes = headers === null ? 1 : headers.length
    // attributes are one byte
    const recordBytes =
      1 +
      sizeOfVarint(timestampDelta) +
      sizeOfVarint(offsetDelta) +
      sizeOfVarint(key === null ? -1 : keyBytes) +
      keyBytes +
      sizeOfVarint(valueBytes) +
      valueBytes +
      headerBytes
    let offset = this.uncompressedBytes
    const needed = offset + sizeOfVarint(recordBytes) + recordBytes
    if (offsetDelta > 0 && (needed > sizeLimitBytes || Math.abs(timestampDelta) > maxTimestampDeltaMs))
      return false
    if (needed > this.#buffer.length) this.#grow(needed, sizeLimitBytes)

    const buffer = this.#buffer
    offset = writeVarint(buffer, recordBytes, offset)
    buffer[offset++] = 0
    offset = writeVarint(buffer, timestampDelta, offset)
    offset = writeVarint(buffer, offsetDelta, offset)
    if (key === null) {
      offset = writeVarint(buffer, -1, offset)
    } else {
      offset = writeVarint(buffer, keyBytes, offset)
      // A copy of so few bytes costs less than the view that `Buffer.copy` makes of its source.
      for (let at = keyStart; at < keyEnd; at++) buffer[offset++] = key[at]!
    }
    offset = writeVarint(buffer, valueBytes, offset)
    body.copy(buffer, offset, start, end)
    offset += valueBytes
    if (headers === null) buffer[offset] = 0
    else headers.copy(buffer, offset)
    offset += headerBytes

    this.uncompressedBytes = offset
    this.recordCount = offsetDelta + 1
    if (timestampMs > this.#maxTimestampMs) this.#maxTimestampMs = timestampMs
    return true
  }

  /**
   * Writes a number of 48 bits into each record, counting from `first`: `fromEnd` bytes before the record's end. Before
   * the records are compressed.
   */
  numberRecords(first: number, fromEnd: number): void {
    const buffer = this.#buffer
    let at = recordBatchHeaderBytes
    for (let i = 0; i < this.recordCount; i++) {
      const sizeBytes = readVarint(buffer, at)
      at += sizeOfVarint(sizeBytes) + sizeBytes
      buffer.writeUIntBE(first + i, at - fromEnd, 6)
    }
    const headers = this.firstHeaders
    headers?.writeUIntBE(first, headers.length - fromEnd, 6)
  }

  /** Bytes on the wire: the whole batch, compressed where it is. */
  get sizeBytes(): number {
    return this.#size
  }

  #size = 0

  /** Ends the batch: writes its header, without compression and idempotence. Its checksum is made by {@link seal}. */
  close(): void {
    const header = this.#buffer
    header.set(plainHeader)
    header.writeInt32BE(this.recordCount - 1, 23)
    writeTimestamp(header, this.#baseTimestampMs, 27)
    writeTimestamp(header, this.#maxTimestampMs, 35)
    header.writeInt32BE(this.recordCount, 57)
    this.#size = this.uncompressedBytes
    this.state = 'closed'
    this.#trim()
  }

  /** The records as they were appended: what a codec compresses. */
  get records(): Buffer {
    return this.#buffer.subarray(recordBatchHeaderBytes, this.#size)
  }

  /** The codec of {@link records}, 0 for none (bits 0–2 of the attributes). */
  get codecAttribute(): number {
    return this.#buffer.readInt16BE(21) & 7
  }

  /** The record timestamp that the records' deltas count from. */
  get baseTimestampMs(): number {
    return this.#baseTimestampMs
  }

  /** The latest record timestamp. */
  get maxTimestampMs(): number {
    return this.#maxTimestampMs
  }

  /**
   * Puts compressed records in the place of the plain ones.
   * @param attribute the codec's number (bits 0–2 of the attributes).
   */
  setCompressed(attribute: number, records: Buffer): void {
    const header = Buffer.allocUnsafeSlow(recordBatchHeaderBytes + records.length)
    this.#buffer.copy(header, 0, 0, recordBatchHeaderBytes)
    records.copy(header, recordBatchHeaderBytes)
    header.writeInt16BE(attribute, 21)
    this.release()
    this.#buffer = header
    this.#recycle = null
    this.#size = header.length
  }

  /** Enters the idempotent producer's identity (KIP-98): the same bytes can then be written again and are stored once. */
  setProducer(producerId: bigint, epoch: number, baseSequence: number): void {
    this.#buffer.writeBigInt64BE(producerId, 43)
    this.#buffer.writeInt16BE(epoch, 51)
    this.#buffer.writeInt32BE(baseSequence, 53)
  }

  /** -1 before {@link setProducer}. */
  get producerId(): bigint {
    return this.#buffer.readBigInt64BE(43)
  }

  /** -1 before {@link setProducer}. */
  get epoch(): number {
    return this.#buffer.readInt16BE(51)
  }

  /** -1 before {@link setProducer}. */
  get baseSequence(): number {
    return this.#buffer.readInt32BE(53)
  }

  /** Fills in length and CRC-32C and gives the batch's bytes, valid until {@link release}. */
  seal(): Buffer {
    const bytes = this.#buffer.subarray(0, this.#size)
    bytes.writeInt32BE(this.#size - 12, 8)
    bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17)
    return bytes
  }

  /** Lets go of the bytes: the kernel has them, or nobody will. */
  release(): void {
    const recycle = this.#recycle
    this.#recycle = null
    recycle?.(this.#buffer)
    this.#buffer = released
  }

  /** @inheritdoc */
  onSettled(listener: (settlement: Settlement) => void): void {
    this.#listeners ??= []
    this.#listeners.push(listener)
  }

  /** @inheritdoc */
  hurry(): void {
    if (this.isAwaited) return
    this.isAwaited = true
    this.#onAwaited?.()
  }

  /**
   * Gives its room in the buffer and those who wait to the parts that hold its records, in order, and closes these. The
   * account then gives the parts an outcome each, in the place of this batch.
   */
  handOverTo(parts: readonly RecordBatch[]): void {
    let { firstPlace } = this
    let chargedBytes = this.chargedBytes
    for (const [index, part] of parts.entries()) {
      part.close()
      // Its records were written once; that they are in parts uses up no retry.
      part.attempts = 1
      part.firstPlace = firstPlace
      part.whole = this.whole
      part.#listeners = this.#listeners
      // Decompressed, the parts can be larger than their room: one batch a partition at most, as in Kafka's own producer.
      part.chargedBytes = index === parts.length - 1 ? chargedBytes : Math.min(chargedBytes, part.sizeBytes)
      firstPlace += part.recordCount
      chargedBytes -= part.chargedBytes
    }
    this.#listeners = null
  }

  /**
   * The record at `place` goes on as the last one of another batch: who waits for it hears from that one. To be called for
   * each record in order.
   */
  goesOnIn(target: RecordBatch, place: number): void {
    if (this.isAwaited) target.hurry()
    const listeners = this.#listeners
    if (listeners === null) return
    const targetPlace = target.recordCount - 1
    const before = this.#goesOn
    const isNext =
      before !== null &&
      before.target === target &&
      before.place + before.count === place &&
      before.targetPlace + before.count === targetPlace
    if (isNext) {
      before.count++
      before.source.count++
      return
    }
    const source = { batch: this.whole, place: this.firstPlace + place, targetPlace, count: 1 }
    target.sources.push(source)
    const run: Run = { target, place, targetPlace, count: 1, source }
    this.#goesOn = run
    target.onSettled((settlement) => {
      const from = Math.max(run.targetPlace, settlement.firstPlace)
      const to = Math.min(run.targetPlace + run.count, settlement.firstPlace + settlement.recordCount)
      if (from >= to) return
      const { baseOffset } = settlement
      const own: Settlement = {
        ...settlement,
        baseOffset: baseOffset === null ? null : baseOffset + BigInt(from - settlement.firstPlace),
        firstPlace: this.firstPlace + run.place + from - run.targetPlace,
        recordCount: to - from,
      }
      for (const listener of listeners) listener(own)
    })
  }

  /** Tells those who wait. Called by the account, once. */
  notifySettled(settlement: Settlement): void {
    const listeners = this.#listeners
    if (listeners === null) return
    this.#listeners = null
    for (const listener of listeners) queueMicrotask(() => listener(settlement))
  }

  #grow(needed: number, sizeLimitBytes: number): void {
    const doubled = Math.min(this.#buffer.length * 2, sizeLimitBytes)
    const grown = Buffer.allocUnsafeSlow(Math.max(doubled, needed))
    this.#buffer.copy(grown, 0, 0, this.uncompressedBytes)
    this.#recycle?.(this.#buffer)
    this.#buffer = grown
  }

  /** Does not let a nearly empty batch keep a large buffer while it waits: memory is what the ledger says it is. */
  #trim(): void {
    if (this.#buffer.length < 2 * this.#size) return
    const exact = Buffer.allocUnsafeSlow(this.#size)
    this.#buffer.copy(exact, 0, 0, this.#size)
    this.release()
    this.#buffer = exact
  }
}

/** Records that follow each other in one batch and, from another place on, in the next. */
interface Run {
  readonly target: RecordBatch
  readonly place: number
  readonly targetPlace: number
  count: number
  /** The same, as the target knows it. */
  readonly source: { count: number }
}

/** Size of a record batch's header (version 2). */
export const recordBatchHeaderBytes = 61

/** A batch spans less than this; its deltas are 32-bit here, and nobody keeps a batch open for days. */
const maxTimestampDeltaMs = 1 << 30

const released = Buffer.alloc(0)

/**
 * What does not differ: base offset 0 (the broker assigns it); attributes 0 (no compression, create time, not transactional); no
 * partition leader epoch, producer id, epoch and sequence (-1).
 */
const plainHeader = Buffer.alloc(recordBatchHeaderBytes)
plainHeader.writeInt32BE(-1, 12)
plainHeader[16] = 2 // magic
plainHeader.fill(0xff, 43, 57)

/** A 64-bit integer without a BigInt, which would be garbage. */
function writeTimestamp(buffer: Buffer, timestampMs: number, offset: number): void {
  buffer.writeUInt32BE(Math.floor(timestampMs / 2 ** 32), offset)
  buffer.writeUInt32BE(timestampMs % 2 ** 32, offset + 4)
}

import { crc32c } from '@node-rs/crc32'
import { decompress } from './compression.ts'
import type { RecordBytes } from './record-bytes.ts'
import { readVarint, sizeOfVarint, writeVarint } from './record-format.ts'

/**
 * A batch in Kafka's record format, version 2 (KIP-98, `org.apache.kafka.common.record.DefaultRecordBatch`). It is written as its records
 * arrive: an append copies the bytes of one record and leaves no object behind. This class is only about the bytes. Its subclass
 * `producer/producer-batch.ts` has the age of the batch, its partition and its outcome.
 *
 * The states are open → closed (the header is filled in, and no record can be appended) → released (the bytes are gone).
 */
export class RecordBatch {
  recordCount = 0
  /** Size of the batch before compression. `batch.size` limits this size. */
  uncompressedBytes = recordBatchHeaderBytes
  /** The headers that the first record was appended with, as they were encoded, without those of its own; null: there were none. */
  firstHeaders: Buffer | null = null

  #buffer: Buffer
  #recycle: ((buffer: Buffer) => void) | null
  #baseTimestampMs = 0
  #maxTimestampMs = 0

  /**
   * @param buffer the batch is written here. If the buffer is too small, one of twice its size takes its place, up to `sizeLimitBytes`.
   * @param recycle takes the buffer back when the batch needs it no more.
   */
  constructor(buffer: Buffer, recycle: (buffer: Buffer) => void) {
    this.#buffer = buffer
    this.#recycle = recycle
  }

  /**
   * Appends one record if it fits.
   * @param sizeLimitBytes `batch.size`. The first record is taken whatever its size, as Kafka's producer does.
   * @param headers what stands behind the record's own headers, as `encodeHeaders` writes it; null for nothing. Together they are
   * fewer than 64.
   * @returns false if the batch is full.
   */
  append(record: RecordBytes, sizeLimitBytes: number, headers: Buffer | null = null): boolean {
    const { body, start, end, key, keyStart, keyEnd, headers: own, timestampMs } = record
    const valueBytes = end - start
    const keyBytes = keyEnd - keyStart
    const offsetDelta = this.recordCount
    if (offsetDelta === 0) {
      this.#baseTimestampMs = this.#maxTimestampMs = timestampMs
      if (headers !== null) this.firstHeaders = Buffer.from(headers)
    }
    const timestampDelta = timestampMs - this.#baseTimestampMs
    // Each encoding begins with the number of its headers, in a byte. Together they have one.
    const ownBytes = own === null ? 0 : record.headerBytes - 1
    const headerBytes = (headers === null ? 1 : headers.length) + ownBytes
    // 1 byte for the attributes.
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
      // For so few bytes this costs less than `Buffer.copy`, which makes a view of its source.
      for (let at = keyStart; at < keyEnd; at++) buffer[offset++] = key[at]!
    }
    offset = writeVarint(buffer, valueBytes, offset)
    body.copy(buffer, offset, start, end)
    offset += valueBytes
    // `set` takes half as long as a loop over 35 bytes. Of a part of a buffer it would have to make a view.
    if (headers !== null) buffer.set(headers, offset + ownBytes)
    if (own !== null) buffer.set(own, offset)
    buffer[offset] = (own === null ? 0 : own[0]!) + (headers === null ? 0 : headers[0]!)
    offset += headerBytes

    this.uncompressedBytes = offset
    this.recordCount = offsetDelta + 1
    if (timestampMs > this.#maxTimestampMs) this.#maxTimestampMs = timestampMs
    return true
  }

  /**
   * Writes a number of 48 bits into each record, `fromEnd` bytes before the record's end. The numbers begin at `first`. To be called before
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

  /** Size of the closed batch on the wire, compressed if it was compressed. */
  get sizeBytes(): number {
    return this.#size
  }

  #size = 0

  /** Closes the batch: writes its header, without codec and producer id. {@link seal} makes the checksum. */
  close(): void {
    const header = this.#buffer
    header.set(plainHeader)
    header.writeInt32BE(this.recordCount - 1, 23)
    writeTimestamp(header, this.#baseTimestampMs, 27)
    writeTimestamp(header, this.#maxTimestampMs, 35)
    header.writeInt32BE(this.recordCount, 57)
    this.#size = this.uncompressedBytes
    this.#trim()
  }

  /** The records as they are in the batch now: as they were appended, or compressed. */
  get records(): Buffer {
    return this.#buffer.subarray(recordBatchHeaderBytes, this.#size)
  }

  /** The records as they were appended. Decompresses them if need be, which blocks. */
  plainRecords(): Buffer {
    return decompress(this.codecAttribute, this.records)
  }

  /** The number of the codec of {@link records} (bits 0–2 of the attributes); 0: they are not compressed. */
  get codecAttribute(): number {
    return this.#buffer.readInt16BE(21) & 7
  }

  /** The timestamp of the first record. The timestamps in the batch are relative to it. */
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

  /** Writes the idempotent producer's identity into the header (KIP-98). A broker then stores the batch once, however often it comes. */
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

  /** Writes the length and the CRC-32C into the header. @returns the bytes of the batch. They are valid until {@link release}. */
  seal(): Buffer {
    const bytes = this.#buffer.subarray(0, this.#size)
    bytes.writeInt32BE(this.#size - 12, 8)
    bytes.writeUInt32BE(crc32c(bytes.subarray(21)), 17)
    return bytes
  }

  /** Gives up the bytes: the kernel has them, or they will not be written. */
  release(): void {
    const recycle = this.#recycle
    this.#recycle = null
    recycle?.(this.#buffer)
    this.#buffer = released
  }

  /** As {@link release}, but somebody may still read the bytes: a codec on its thread, or a socket. V8 takes the buffer once nobody has it. */
  abandon(): void {
    this.#recycle = null
    this.#buffer = released
  }

  #grow(needed: number, sizeLimitBytes: number): void {
    const doubled = Math.min(this.#buffer.length * 2, sizeLimitBytes)
    const grown = Buffer.allocUnsafeSlow(Math.max(doubled, needed))
    this.#buffer.copy(grown, 0, 0, this.uncompressedBytes)
    this.#recycle?.(this.#buffer)
    this.#buffer = grown
  }

  /**
   * Moves a batch that is small for its buffer to a buffer of its size. So the memory in use is not much more than `buffer-memory.ts` counts. A
   * small buffer stays: most small batches are written at once, and a buffer costs more than the rest of the batch.
   */
  #trim(): void {
    if (this.#buffer.length <= smallBufferBytes || this.#buffer.length < 2 * this.#size) return
    const exact = Buffer.allocUnsafeSlow(this.#size)
    this.#buffer.copy(exact, 0, 0, this.#size)
    this.release()
    this.#buffer = exact
  }
}

/** Size of a record batch's header (version 2). */
export const recordBatchHeaderBytes = 61

/** The timestamps of a batch span less than this, since their differences are 32-bit integers here. It is 12 days. */
const maxTimestampDeltaMs = 1 << 30

/** A buffer of this size or less is no memory to save. */
export const smallBufferBytes = 2_048

const released = Buffer.alloc(0)

/**
 * The fields that are the same in every batch: base offset 0 (the broker assigns it), attributes 0 (no compression, create time, not
 * transactional), and -1 for partition leader epoch, producer id, epoch and sequence (none).
 */
const plainHeader = Buffer.alloc(recordBatchHeaderBytes)
plainHeader.writeInt32BE(-1, 12)
plainHeader[16] = 2 // magic
plainHeader.fill(0xff, 43, 57)

/** Writes a 64-bit integer without a BigInt, which would be garbage. */
function writeTimestamp(buffer: Buffer, timestampMs: number, offset: number): void {
  buffer.writeUInt32BE(Math.floor(timestampMs / 2 ** 32), offset)
  buffer.writeUInt32BE(timestampMs % 2 ** 32, offset + 4)
}

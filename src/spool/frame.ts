import { crc32c } from '@node-rs/crc32'
import { RecordBytes } from '../kafka/protocol/record-bytes.ts'

/**
 * The unit that is on disk wholly or not at all: what was committed together, under one checksum. A frame is found again
 * behind damage by its magic, its checksum and its place in the count of records.
 *
 * header, big-endian: magic 4, CRC-32C of all that follows it 4, payload bytes 4, records 4, number of the first record 6,
 * flags 1, nothing 1. Payload: entries, each kind 1, time 6, key bytes + 1 (0: no key) 4, value bytes 4, key, value.
 */
export const frameHeaderBytes = 24
/** What an entry takes beside its key and value. Never more than a record's own bound (`recordSizeUpperBound`). */
export const entryHeaderBytes = 15

const magic = 0x43484631
const flagNotes = 1

/** A record goes to Kafka. A note stays: it is kept until its time has come (`notes.ts`). */
export type EntryKind = 'record' | 'note'

/** What a frame's header says. */
export interface FrameHeader {
  /** Of the whole frame, in bytes. */
  readonly frameBytes: number
  readonly recordCount: number
  /** Number of its first record; records of a stream are counted from 0, through all of its files. */
  readonly firstSeq: number
  readonly hasNotes: boolean
}

/** Builds one frame: an append copies the bytes and leaves no object behind. */
export class FrameWriter {
  sizeBytes = frameHeaderBytes
  recordCount = 0
  #hasNotes = false
  #buffer: Buffer

  /** @param buffer where the frame is written; it grows by doubling. */
  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  /** Adds a record, or a note whose timestamp is when it may be forgotten. */
  append(kind: EntryKind, { body, start, end, key, keyStart, keyEnd, timestampMs }: RecordBytes): void {
    const keyBytes = keyEnd - keyStart
    const needed = this.sizeBytes + entryHeaderBytes + keyBytes + end - start
    if (needed > this.#buffer.length) this.#grow(needed)
    const buffer = this.#buffer
    let offset = this.sizeBytes
    buffer[offset] = kind === 'record' ? 0 : 1
    buffer.writeUIntBE(timestampMs, offset + 1, 6)
    buffer.writeUInt32BE(key === null ? 0 : keyBytes + 1, offset + 7)
    buffer.writeUInt32BE(end - start, offset + 11)
    offset += entryHeaderBytes
    if (key !== null) for (let at = keyStart; at < keyEnd; at++) buffer[offset++] = key[at]!
    body.copy(buffer, offset, start, end)
    this.sizeBytes = offset + end - start
    if (kind === 'record') this.recordCount++
    else this.#hasNotes = true
  }

  /** The bytes that were appended so far, behind room for the header. */
  get frame(): Buffer {
    return this.#buffer.subarray(0, this.sizeBytes)
  }

  /** Fills in the header and gives the frame's bytes. */
  seal(firstSeq: number): Buffer {
    const { frame } = this
    frame.writeUInt32BE(magic, 0)
    frame.writeUInt32BE(this.sizeBytes - frameHeaderBytes, 8)
    frame.writeUInt32BE(this.recordCount, 12)
    frame.writeUIntBE(firstSeq, 16, 6)
    frame[22] = this.#hasNotes ? flagNotes : 0
    frame[23] = 0
    frame.writeUInt32BE(crc32c(frame.subarray(8)), 4)
    return frame
  }

  #grow(needed: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, needed))
    this.#buffer.copy(grown, 0, 0, this.sizeBytes)
    this.#buffer = grown
  }
}

/** Reads a header; null where there is none. Only {@link isWhole} says whether the frame is what was written. */
export function readFrameHeader(bytes: Buffer, offset: number): FrameHeader | null {
  if (offset + frameHeaderBytes > bytes.length || bytes.readUInt32BE(offset) !== magic) return null
  return {
    frameBytes: frameHeaderBytes + bytes.readUInt32BE(offset + 8),
    recordCount: bytes.readUInt32BE(offset + 12),
    firstSeq: bytes.readUIntBE(offset + 16, 6),
    hasNotes: (bytes[offset + 22]! & flagNotes) !== 0,
  }
}

/** Gives a frame the length in its header that it has. */
export function withLength(frame: Buffer): Buffer {
  frame.writeUInt32BE(frame.length - frameHeaderBytes, 8)
  return frame
}

/** Whether the frame's bytes are all there and as they were written. */
export function isWhole(bytes: Buffer, offset: number, { frameBytes }: FrameHeader): boolean {
  const end = offset + frameBytes
  return end <= bytes.length && crc32c(bytes.subarray(offset + 8, end)) === bytes.readUInt32BE(offset + 4)
}

/**
 * Whether a frame's entries end where the frame does, and are as many as its header says. A frame that was sealed here
 * always is; bytes that somebody made up need not be.
 */
export function isWellFormed(bytes: Buffer, offset: number, header: FrameHeader): boolean {
  const end = offset + header.frameBytes
  let [at, records] = [offset + frameHeaderBytes, 0]
  while (at < end) {
    if (at + entryHeaderBytes > end || bytes[at]! > 1) return false
    if (bytes[at] === 0) records++
    at += entryHeaderBytes + Math.max(0, bytes.readUInt32BE(at + 7) - 1) + bytes.readUInt32BE(at + 11)
  }
  return at === end && records === header.recordCount
}

/** Where the next magic is at or behind `offset`, or -1. */
export function findMagic(bytes: Buffer, offset: number): number {
  return bytes.indexOf(magicBytes, offset)
}

const magicBytes = Buffer.alloc(4)
magicBytes.writeUInt32BE(magic)

/** Walks the entries of one frame, one object for all of them. */
export class EntryReader {
  /** The entry; a note's timestamp is when it may be forgotten. */
  readonly record = new RecordBytes()
  kind: EntryKind = 'record'
  readonly #bytes: Buffer
  readonly #end: number

  /** @param offset where the frame begins in `bytes`. */
  constructor(bytes: Buffer, offset: number, frameBytes: number) {
    this.#bytes = bytes
    this.record.end = offset + frameHeaderBytes
    this.#end = offset + frameBytes
  }

  /** Goes to the next entry. @returns false behind the last one. */
  next(): boolean {
    const { record } = this
    const bytes = this.#bytes
    const offset = record.end
    if (offset >= this.#end) return false
    this.kind = bytes[offset] === 0 ? 'record' : 'note'
    record.timestampMs = bytes.readUIntBE(offset + 1, 6)
    const keyField = bytes.readUInt32BE(offset + 7)
    const keyStart = offset + entryHeaderBytes
    const keyEnd = keyStart + Math.max(0, keyField - 1)
    record.keyed(keyField > 0 ? bytes : null, keyStart, keyEnd)
    record.value(bytes, keyEnd, keyEnd + bytes.readUInt32BE(offset + 11))
    return true
  }

  /** The key as text. */
  key(): string | null {
    const { key, keyStart, keyEnd } = this.record
    return key?.toString('utf8', keyStart, keyEnd) ?? null
  }
}

import { crc32c } from '@node-rs/crc32'
import { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import type { Disk } from './disk.ts'

/**
 * The frame of the log: a group of requests under one checksum, which is on disk wholly or not at all. Behind damage, a frame
 * is found by its magic, its checksum, and the number of its first record.
 *
 * Numbers are big-endian. Header: magic 4, CRC-32C of all that follows the checksum 4, payload bytes 4, records 4, number of the
 * first record 6, flags 1, unused 1. Payload: entries, each of them kind 1, time 6, key bytes + 1 (0: no key) 4, value bytes 4,
 * key, value. Kinds: 0 a record, 1 a note, 2 headers. An entry of headers has no key, and its value (`encodeHeaders`) is the own headers of
 * the records behind it, up to the next such entry.
 */
export const frameHeaderBytes = 24
/** Size of an entry without its key and value, in bytes. `recordSizeUpperBound` never takes a record for less. */
export const entryHeaderBytes = 15

const magic = 0x43484631
const flagNotes = 1

/** A record goes to Kafka. A note never does: it stays on disk until the time that it is kept for is over (`notes.ts`). */
export type EntryKind = 'record' | 'note'

/** What a frame's header says. */
export interface FrameHeader {
  /** Size of the whole frame, in bytes. */
  readonly frameBytes: number
  readonly recordCount: number
  /** Number of its first record. The records of a stream are numbered through all of its segments. */
  readonly firstSeq: number
  readonly hasNotes: boolean
}

/** The kinds of entries, as a frame has them. */
const kinds = { record: 0, note: 1, headers: 2 } as const satisfies Record<EntryKind | 'headers', number>
const highestKind = Math.max(...Object.values(kinds))
/** The kinds that {@link EntryReader} shows, by number. */
const kindOf = { 0: 'record', 1: 'note' } as const satisfies Record<(typeof kinds)[EntryKind], EntryKind>

/** Builds one frame in memory. An append copies the bytes and makes no object. */
export class FrameBuilder {
  sizeBytes = frameHeaderBytes
  recordCount = 0
  #hasNotes = false
  /** The own headers of the records that are appended now. */
  #headers: Buffer | null = null
  #buffer: Buffer

  /** @param buffer holds the frame. When it is full, a buffer of twice its size takes its place. */
  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  /** Adds a record or a note. The timestamp of a note is the time when it may be forgotten. */
  append(kind: EntryKind, record: RecordBytes): void {
    if (kind === 'record') {
      if (record.headers !== this.#headers) this.#head(record.headers)
      this.recordCount++
    } else {
      this.#hasNotes = true
    }
    this.#add(kinds[kind], record)
  }

  /** All records of a request have the same headers, so that they are written once. */
  #head(headers: Buffer | null): void {
    this.#headers = headers
    const value = headers ?? noHeaders
    this.#add(kinds.headers, headersEntry.value(value, 0, value.length))
  }

  #add(kind: number, { body, start, end, key, keyStart, keyEnd, timestampMs }: RecordBytes): void {
    const keyBytes = keyEnd - keyStart
    const needed = this.sizeBytes + entryHeaderBytes + keyBytes + end - start
    if (needed > this.#buffer.length) this.#grow(needed)
    const buffer = this.#buffer
    let offset = this.sizeBytes
    buffer[offset] = kind
    buffer.writeUIntBE(timestampMs, offset + 1, 6)
    buffer.writeUInt32BE(key === null ? 0 : keyBytes + 1, offset + 7)
    buffer.writeUInt32BE(end - start, offset + 11)
    offset += entryHeaderBytes
    if (key !== null) for (let at = keyStart; at < keyEnd; at++) buffer[offset++] = key[at]!
    body.copy(buffer, offset, start, end)
    this.sizeBytes = offset + end - start
  }

  /** Adds the entries of another builder behind its own. The other one has only notes. */
  addNotes({ frame, sizeBytes }: FrameBuilder): void {
    if (sizeBytes === frameHeaderBytes) return
    const needed = this.sizeBytes + sizeBytes - frameHeaderBytes
    if (needed > this.#buffer.length) this.#grow(needed)
    frame.copy(this.#buffer, this.sizeBytes, frameHeaderBytes)
    this.sizeBytes = needed
    this.#hasNotes = true
  }

  /** Room for the header, and the entries that were appended so far. */
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

/** Reads a header; null where there is none. Only {@link isWhole} says whether the whole frame is as it was written. */
export function readFrameHeader(bytes: Buffer, offset: number): FrameHeader | null {
  if (offset + frameHeaderBytes > bytes.length || bytes.readUInt32BE(offset) !== magic) return null
  return {
    frameBytes: frameHeaderBytes + bytes.readUInt32BE(offset + 8),
    recordCount: bytes.readUInt32BE(offset + 12),
    firstSeq: bytes.readUIntBE(offset + 16, 6),
    hasNotes: (bytes[offset + 22]! & flagNotes) !== 0,
  }
}

/** Writes the length of a frame to its header. */
export function withLength(frame: Buffer): Buffer {
  frame.writeUInt32BE(frame.length - frameHeaderBytes, 8)
  return frame
}

/** Whether all bytes of a frame are there, and are as they were written. */
export function isWhole(bytes: Buffer, offset: number, { frameBytes }: FrameHeader): boolean {
  const end = offset + frameBytes
  return end <= bytes.length && crc32c(bytes.subarray(offset + 8, end)) === bytes.readUInt32BE(offset + 4)
}

/**
 * Whether a frame's entries end where the frame does, and its records are as many as its header says. This is so in every frame
 * that {@link FrameBuilder} made. It need not be so in bytes that somebody else made up.
 */
export function isWellFormed(bytes: Buffer, offset: number, header: FrameHeader): boolean {
  const end = offset + header.frameBytes
  let [at, records] = [offset + frameHeaderBytes, 0]
  while (at < end) {
    if (at + entryHeaderBytes > end || bytes[at]! > highestKind) return false
    if (bytes[at] === kinds.record) records++
    at += entryHeaderBytes + Math.max(0, bytes.readUInt32BE(at + 7) - 1) + bytes.readUInt32BE(at + 11)
  }
  return at === end && records === header.recordCount
}

/** Place of the next magic at or behind `offset`, or -1. */
function findMagic(bytes: Buffer, offset: number): number {
  return bytes.indexOf(magicBytes, offset)
}

const magicBytes = Buffer.alloc(4)
magicBytes.writeUInt32BE(magic)

/** Goes through the entries of one frame. One object serves for all of them. */
export class EntryReader {
  /**
   * The entry that the reader is at. The timestamp of a note is the time when it may be forgotten, and its headers are those of the record
   * before it.
   */
  readonly record = new RecordBytes()
  kind: EntryKind = 'record'
  readonly #bytes: Buffer
  readonly #end: number

  /** @param offset where in `bytes` the frame begins. */
  constructor(bytes: Buffer, offset: number, frameBytes: number) {
    this.#bytes = bytes
    this.record.end = offset + frameHeaderBytes
    this.#end = offset + frameBytes
  }

  /** Goes to the next entry. @returns false behind the last one. */
  next(): boolean {
    const { record } = this
    const bytes = this.#bytes
    let offset = record.end
    while (offset < this.#end && bytes[offset] === kinds.headers) {
      const start = offset + entryHeaderBytes
      offset = start + bytes.readUInt32BE(offset + 11)
      record.headed(bytes[start] === 0 ? null : bytes.subarray(start, offset))
    }
    if (offset >= this.#end) return false
    this.kind = kindOf[bytes[offset] as keyof typeof kindOf]
    record.timestampMs = bytes.readUIntBE(offset + 1, 6)
    const keyField = bytes.readUInt32BE(offset + 7)
    const keyStart = offset + entryHeaderBytes
    const keyEnd = keyStart + Math.max(0, keyField - 1)
    record.keyed(keyField > 0 ? bytes : null, keyStart, keyEnd)
    record.value(bytes, keyEnd, keyEnd + bytes.readUInt32BE(offset + 11))
    return true
  }

  /** The entry's key as text. */
  key(): string | null {
    const { key, keyStart, keyEnd } = this.record
    return key?.toString('utf8', keyStart, keyEnd) ?? null
  }
}

/** A frame that was found in a file. */
export interface FoundFrame {
  readonly header: FrameHeader
  /** Holds the frame at `offset`. Valid until the next frame is asked for. */
  readonly bytes: Buffer
  readonly offset: number
  /** Where the frame begins in the file. */
  readonly position: number
}

/** The part of a file that is searched for frames. */
export interface ScanRange {
  /** Where the scan ends. */
  readonly sizeBytes: number
  /** Where the scan begins; 0 unless given. */
  readonly position?: number
  /** Number of the record that is expected at the position. */
  readonly seq: number
  /** Number of the first record behind the file's own. A frame that goes beyond it was refused. Without it there is no such end. */
  readonly endSeq?: number
}

/**
 * Finds the whole frames of a file, in order. Steps over everything else: damage, and the torn end that a crash leaves. Reads
 * step by step, so that a file of any size takes little memory. Waits for the disk.
 */
export function* scanFrames(disk: Disk, fd: number, range: ScanRange): Generator<FoundFrame, void> {
  const steps = scan(range)
  for (let step = steps.next(); step.done !== true;) {
    if ('header' in step.value) {
      yield step.value
      step = steps.next(0)
    } else step = steps.next(disk.readNow(fd, step.value.buffer, step.value.from))
  }
}

/** As {@link scanFrames}, and does not block. */
export async function* scanFramesLater(
  disk: Disk,
  fd: number,
  range: ScanRange,
): AsyncGenerator<FoundFrame, void> {
  const steps = scan(range)
  for (let step = steps.next(); step.done !== true;) {
    if ('header' in step.value) {
      yield step.value
      step = steps.next(0)
      continue
    }
    const { buffer, from } = step.value
    const read = await new Promise<number>((resolve, reject) => {
      disk.read(fd, buffer, from, (error, count) => (error === null ? resolve(count) : reject(error)))
    })
    step = steps.next(read)
  }
}

/** Asks for a read. The answer is the number of bytes that were read. */
interface ReadStep {
  readonly buffer: Buffer
  readonly from: number
}

/**
 * The value of a record can hold bytes that look like a frame, which somebody made up. So behind damage a frame counts only where
 * a frame of the log can be:
 * - Behind the bytes that the damaged frame's header claims, or where that header is gone too, the frame must have a number
 *   that fits: the damaged bytes must have room for as many records as are missing.
 * - Inside those bytes, the frame counts only if the damaged frame becomes whole when its length is set so that it ends where
 *   this frame begins. Then nothing but the length was damaged.
 *
 * Numbers begin at random (`nextFreeSeq` in segment.ts), so nobody outside can know which numbers fit.
 */
function* scan(range: ScanRange): Generator<ReadStep | FoundFrame, void, number> {
  const { sizeBytes, endSeq = Infinity } = range
  let held = Buffer.alloc(0)
  let position = range.position ?? 0
  let seq = range.seq
  /** Where damage began, and the header of the damaged frame if it can be read; null: nothing is damaged here. */
  let damage: { from: number; header: FrameHeader | null } | null = null

  // Reads on until `wanted` bytes are held. Gives false if the file ends before.
  function* hold(wanted: number): Generator<ReadStep, boolean, number> {
    while (held.length < wanted) {
      const size = Math.min(sizeBytes - position, Math.max(wanted, stepBytes))
      if (size < wanted) return false
      const buffer = Buffer.allocUnsafe(size)
      held.copy(buffer)
      const read = yield { buffer: buffer.subarray(held.length), from: position + held.length }
      if (read === 0) return false
      held = buffer.subarray(0, held.length + read)
    }
    return true
  }

  // Whether a frame of the log can be at this position.
  function* isInPlace(header: FrameHeader): Generator<ReadStep, boolean, number> {
    if (header.firstSeq >= endSeq || header.firstSeq + header.recordCount > endSeq) return false
    if (damage === null) return header.firstSeq <= seq
    if (header.firstSeq < seq) return false
    const { from, header: lost } = damage
    if (lost === null || position >= from + lost.frameBytes)
      return header.firstSeq - seq <= (position - from) / entryHeaderBytes
    if (header.firstSeq !== lost.firstSeq + lost.recordCount) return false
    const frameBytes = position - from
    const frame = Buffer.alloc(frameBytes)
    if ((yield { buffer: frame, from }) < frameBytes) return false
    return isWhole(withLength(frame), 0, { ...lost, frameBytes })
  }

  while (yield* hold(frameHeaderBytes)) {
    const header = readFrameHeader(held, 0)
    if (
      header !== null &&
      (yield* isInPlace(header)) &&
      (yield* hold(header.frameBytes)) &&
      isWhole(held, 0, header) &&
      isWellFormed(held, 0, header)
    ) {
      damage = null
      seq = Math.max(seq, header.firstSeq + header.recordCount)
      yield { header, bytes: held, offset: 0, position }
      position += header.frameBytes
      held = held.subarray(header.frameBytes)
      continue
    }
    damage ??= { from: position, header: header?.firstSeq === seq ? header : null }
    const next = findMagic(held, 1)
    // The next magic may begin in the last three bytes that are held.
    const skip = next === -1 ? Math.max(1, held.length - 3) : next
    position += skip
    held = held.subarray(skip)
  }
}

const stepBytes = 256 * 1024

/** Own headers of records that have none: their number. */
const noHeaders = Buffer.of(0)
const headersEntry = new RecordBytes()

import { crc32c } from '@node-rs/crc32'
import type { BatchIdentity, IdentifiedBatch } from '../kafka/producer/batch-journal.ts'
import { readVarint, sizeOfVarint, writeVarint } from '../kafka/protocol/record-format.ts'
import type { Runs } from './runs.ts'

/**
 * What the journal of sent batches has on disk: frames of notes, a note a batch.
 *
 * A note says which records a batch holds and under which identity it goes.
 *
 * frame, big-endian: magic 4, CRC-32C of all that follows it 4, payload bytes 4, kind 1 (0: more notes; 1: all that is open,
 * and nothing before it counts). Payload: notes, each its own size 4, flags 1, scope 4, time 6, partition 4, producer id 8,
 * epoch 2, base sequence 4, records 4, uncompressed bytes 4, base and max timestamp 6 each, header bytes 2, headers, number of
 * the first record 6, then runs of records as varints: how many, how many are left out behind them, how many, and so on.
 */
export interface SentNote extends BatchIdentity {
  /** See `BatchJournal.note`. */
  readonly scope: number
  readonly notedAtMs: number
  /** The note of the same partition before this one is of a batch that is done. */
  readonly isPreviousDone: boolean
  /** The batch itself is done. */
  readonly isDone: boolean
  /** Numbers of the records, in their order. */
  readonly runs: readonly (readonly [firstSeq: number, count: number])[]
  /** The note as it stands in its frame. */
  readonly bytes: Buffer
}

/** Writes the note of one batch. @param runs of its records. */
export function encodeNote(
  batch: IdentifiedBatch,
  runs: Runs,
  { scope, isPreviousDone }: { scope: number; isPreviousDone: boolean },
): Buffer {
  const headers = batch.firstHeaders ?? none
  const pairs: number[] = []
  let [firstSeq, endSeq] = [-1, -1]
  runs.each(
    (first, count) => {
      if (firstSeq === -1) firstSeq = first
      else pairs.push(first - endSeq)
      pairs.push(count)
      endSeq = first + count
    },
    0,
    runs.count,
  )
  let sizeBytes = fixedBytes + headers.length + 6
  for (const number of pairs) sizeBytes += sizeOfVarint(number)
  const bytes = Buffer.allocUnsafe(sizeBytes)
  bytes.writeUInt32BE(sizeBytes, 0)
  bytes[flagsAt] = (isPreviousDone ? flagPreviousDone : 0) | (batch.firstHeaders === null ? 0 : flagHeaders)
  bytes.writeUInt32BE(scope, 5)
  bytes.writeUIntBE(Date.now(), 9, 6)
  bytes.writeInt32BE(batch.partition, 15)
  bytes.writeBigInt64BE(batch.producerId, 19)
  bytes.writeInt16BE(batch.epoch, 27)
  bytes.writeInt32BE(batch.baseSequence, 29)
  bytes.writeUInt32BE(batch.recordCount, 33)
  bytes.writeUInt32BE(batch.uncompressedBytes, 37)
  bytes.writeUIntBE(batch.baseTimestampMs, 41, 6)
  bytes.writeUIntBE(batch.maxTimestampMs, 47, 6)
  bytes.writeUInt16BE(headers.length, 53)
  headers.copy(bytes, fixedBytes)
  let offset = bytes.writeUIntBE(firstSeq, fixedBytes + headers.length, 6)
  for (const number of pairs) offset = writeVarint(bytes, number, offset)
  return bytes
}

/** The same note for the first frame of a journal, which has none before it. */
export function carriedNote(note: Buffer, isDone: boolean): Buffer {
  const bytes = Buffer.from(note)
  bytes[flagsAt] = (bytes[flagsAt]! & ~(flagPreviousDone | flagDone)) | (isDone ? flagDone : 0)
  return bytes
}

/** Puts notes into a frame. @param isSnapshot nothing before the frame counts. */
export function encodeFrame(notes: readonly Buffer[], isSnapshot: boolean): Buffer {
  const frame = Buffer.concat([Buffer.alloc(frameHeaderBytes), ...notes])
  frame.writeUInt32BE(magic, 0)
  frame.writeUInt32BE(frame.length - frameHeaderBytes, 8)
  frame[12] = isSnapshot ? 1 : 0
  frame.writeUInt32BE(crc32c(frame.subarray(8)), 4)
  return frame
}

/** What a file of the journal says. */
export interface JournalFile {
  /** It has its first frame, so that nothing in older files counts. */
  readonly isWhole: boolean
  readonly notes: readonly SentNote[]
}

/** Reads a file up to where it ends, or is torn: what is behind that was never sent. */
export function decodeFrames(bytes: Buffer): JournalFile {
  const notes: SentNote[] = []
  let [offset, isWhole] = [0, false]
  while (offset + frameHeaderBytes <= bytes.length) {
    const end = offset + frameHeaderBytes + bytes.readUInt32BE(offset + 8)
    if (bytes.readUInt32BE(offset) !== magic || end > bytes.length) break
    if (crc32c(bytes.subarray(offset + 8, end)) !== bytes.readUInt32BE(offset + 4)) break
    if (offset === 0) isWhole = bytes[12] === 1
    for (let at = offset + frameHeaderBytes; at < end; at += bytes.readUInt32BE(at))
      notes.push(decodeNote(bytes.subarray(at, at + bytes.readUInt32BE(at))))
    offset = end
  }
  return { isWhole, notes }
}

function decodeNote(bytes: Buffer): SentNote {
  const flags = bytes[flagsAt]!
  const headerBytes = bytes.readUInt16BE(53)
  const headers = bytes.subarray(fixedBytes, fixedBytes + headerBytes)
  const recordCount = bytes.readUInt32BE(33)
  return {
    bytes,
    isPreviousDone: (flags & flagPreviousDone) !== 0,
    isDone: (flags & flagDone) !== 0,
    scope: bytes.readUInt32BE(5),
    notedAtMs: bytes.readUIntBE(9, 6),
    partition: bytes.readInt32BE(15),
    producerId: bytes.readBigInt64BE(19),
    epoch: bytes.readInt16BE(27),
    baseSequence: bytes.readInt32BE(29),
    recordCount,
    uncompressedBytes: bytes.readUInt32BE(37),
    baseTimestampMs: bytes.readUIntBE(41, 6),
    maxTimestampMs: bytes.readUIntBE(47, 6),
    firstHeaders: (flags & flagHeaders) === 0 ? null : headers,
    runs: decodeRuns(bytes, fixedBytes + headerBytes),
  }
}

function decodeRuns(bytes: Buffer, at: number): [number, number][] {
  const runs: [number, number][] = []
  let seq = bytes.readUIntBE(at, 6)
  let offset = at + 6
  const varint = (): number => {
    const value = readVarint(bytes, offset)
    offset += sizeOfVarint(value)
    return value
  }
  while (offset < bytes.length) {
    if (runs.length > 0) seq += varint()
    const count = varint()
    runs.push([seq, count])
    seq += count
  }
  return runs
}

const magic = 0x43484232
const frameHeaderBytes = 13
const flagsAt = 4
const flagPreviousDone = 1
const flagHeaders = 2
const flagDone = 4
/** Of a note, in front of its headers. */
const fixedBytes = 55
const none = Buffer.alloc(0)

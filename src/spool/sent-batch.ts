import { crc32c } from '@node-rs/crc32'
import type { BatchIdentity, IdentifiedBatch } from '../kafka/producer/batch-journal.ts'
import { readVarint, sizeOfVarint, writeVarint } from '../kafka/protocol/record-format.ts'

/**
 * What the journal of sent batches says of one batch: which records it holds, and under which identity it goes to Kafka.
 *
 * On disk the journal is a row of frames. Numbers are big-endian. Frame: magic 4, CRC-32C of all that follows the checksum 4,
 * payload bytes 4, kind 1 (0: more batches; 1: all batches that are open, and nothing before the frame counts), payload.
 * Payload: batches, each of them its own size 4, flags 1, scope 4, time 6, partition 4, producer id 8, epoch 2, base sequence 4,
 * records 4, uncompressed bytes 4, base timestamp 6, max timestamp 6, header bytes 2, headers, number of the first record 6,
 * runs. Runs are varints: the records of a run, the numbers that are left out behind it, the records of the next run, and so on.
 */
export interface SentBatch extends BatchIdentity {
  /** See `BatchJournal.note`. */
  readonly scope: number
  readonly notedAtMs: number
  /** The batch that the journal has for the same partition before this one is done. */
  readonly isPreviousDone: boolean
  /** This batch is done. */
  readonly isDone: boolean
  /** Numbers of the records, in their order. */
  readonly runs: readonly (readonly [firstSeq: number, count: number])[]
  /** The bytes of the batch in its frame. */
  readonly bytes: Buffer
}

/** Encodes what the journal says of a batch. @param runs the numbers of its records. */
export function encodeSentBatch(
  batch: IdentifiedBatch,
  runs: Runs,
  { scope, isPreviousDone }: { scope: number; isPreviousDone: boolean },
): Buffer {
  const headers = batch.firstHeaders ?? none
  const pairs: number[] = []
  let [firstSeq, endSeq] = [-1, -1]
  runs.each((first, count) => {
    if (firstSeq === -1) firstSeq = first
    else pairs.push(first - endSeq)
    pairs.push(count)
    endSeq = first + count
  })
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

/** Takes a batch over into the first frame of a new file, where no batch of its partition stands before it. */
export function carryOver(batch: Buffer, isDone: boolean): Buffer {
  const bytes = Buffer.from(batch)
  bytes[flagsAt] = (bytes[flagsAt]! & ~(flagPreviousDone | flagDone)) | (isDone ? flagDone : 0)
  return bytes
}

/** Makes a frame of batches. @param isSnapshot nothing before the frame counts. */
export function encodeJournalFrame(batches: readonly Buffer[], isSnapshot: boolean): Buffer {
  const frame = Buffer.concat([Buffer.alloc(frameHeaderBytes), ...batches])
  frame.writeUInt32BE(magic, 0)
  frame.writeUInt32BE(frame.length - frameHeaderBytes, 8)
  frame[12] = isSnapshot ? 1 : 0
  frame.writeUInt32BE(crc32c(frame.subarray(8)), 4)
  return frame
}

/** The content of a file of the journal. */
export interface JournalFile {
  /** The file has its first frame, so nothing in older files counts. */
  readonly isWhole: boolean
  readonly batches: readonly SentBatch[]
}

/** Decodes a file up to its end, or to the place where it is torn: no batch behind that place was ever sent. */
export function decodeJournal(bytes: Buffer): JournalFile {
  const batches: SentBatch[] = []
  let [offset, isWhole] = [0, false]
  while (offset + frameHeaderBytes <= bytes.length) {
    const end = offset + frameHeaderBytes + bytes.readUInt32BE(offset + 8)
    if (bytes.readUInt32BE(offset) !== magic || end > bytes.length) break
    if (crc32c(bytes.subarray(offset + 8, end)) !== bytes.readUInt32BE(offset + 4)) break
    if (offset === 0) isWhole = bytes[12] === 1
    for (let at = offset + frameHeaderBytes; at < end; at += bytes.readUInt32BE(at))
      batches.push(decodeSentBatch(bytes.subarray(at, at + bytes.readUInt32BE(at))))
    offset = end
  }
  return { isWhole, batches }
}

function decodeSentBatch(bytes: Buffer): SentBatch {
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

/** Numbers of records, in the order in which they were added. Numbers that follow each other are kept as one run. */
export class Runs {
  readonly #firsts: number[] = []
  readonly #counts: number[] = []
  count = 0

  add(seq: number): void {
    this.addRun(seq, 1)
  }

  addRun(first: number, count: number): void {
    const last = this.#firsts.length - 1
    if (last >= 0 && first === this.#firsts[last]! + this.#counts[last]!) {
      this.#counts[last]! += count
    } else {
      this.#firsts.push(first)
      this.#counts.push(count)
    }
    this.count += count
  }

  /** Calls back with each run of the records at places [from, from + length); of all records unless these are given. */
  each(run: EachRun, from = 0, length = this.count): void {
    let [skip, left] = [from, length]
    for (let nth = 0; nth < this.#firsts.length && left > 0; nth++) {
      const count = Math.min(this.#counts[nth]! - skip, left)
      if (count > 0) {
        run(this.#firsts[nth]! + skip, count)
        left -= count
      }
      skip = Math.max(0, skip - this.#counts[nth]!)
    }
  }
}

/** Is given a run of records. */
export type EachRun = (firstSeq: number, count: number) => void

const magic = 0x43484232
const frameHeaderBytes = 13
const flagsAt = 4
const flagPreviousDone = 1
const flagHeaders = 2
const flagDone = 4
/** Size of a batch in the journal without headers and runs, in bytes. */
const fixedBytes = 55
const none = Buffer.alloc(0)

import { crc32c } from '@node-rs/crc32'
import fs from 'node:fs'

/**
 * Which records of one segment are done, in a file beside it: entries of 12 bytes, each a run of records and its own
 * checksum, which also names the segment. An entry that is damaged, torn or lost makes duplicates at the next start and
 * loses nothing, so nothing waits for this file and it is never synced.
 */
export class AckFile {
  readonly #path: string
  readonly #baseSeq: number
  #fd: number | null = null
  #position: number
  #runs: [first: number, count: number][] = []
  #isWriting = false
  #isClosed = false

  /** @param sizeBytes what of the file is kept: new entries go behind it. */
  constructor(path: string, baseSeq: number, sizeBytes = 0) {
    this.#path = path
    this.#baseSeq = baseSeq
    this.#position = sizeBytes
  }

  /** Adds records, counted from the segment's first. */
  add(first: number, count: number): void {
    const last = this.#runs.at(-1)
    if (last !== undefined && last[0] + last[1] === first) last[1] += count
    else this.#runs.push([first, count])
  }

  /** Something was added and not yet given to a write. */
  get isDirty(): boolean {
    return this.#runs.length > 0
  }

  /** A write is under way. */
  get isWriting(): boolean {
    return this.#isWriting
  }

  /**
   * Writes what was added since, unless a write is under way: then it is for the next flush.
   * @param done is called when the write has ended. What could not be written is for the next flush.
   */
  flush(done: (error: NodeJS.ErrnoException | null) => void): void {
    if (this.#isWriting || this.#isClosed || !this.isDirty) return
    this.#isWriting = true
    const runs = merged(this.#runs)
    this.#runs = []
    const finish = (error: NodeJS.ErrnoException | null): void => {
      this.#isWriting = false
      if (error !== null) this.#runs.unshift(...runs)
      if (this.#isClosed) this.#closeNow()
      done(error)
    }
    this.#open((error, fd) => {
      if (error !== null) return finish(error)
      const bytes = encodeRuns(runs, this.#baseSeq)
      fs.write(fd, bytes, 0, bytes.length, this.#position, (failure, written) => {
        if (failure === null && written === bytes.length) this.#position += written
        finish(failure ?? (written === bytes.length ? null : new Error('written in part')))
      })
    })
  }

  close(): void {
    this.#isClosed = true
    if (!this.#isWriting) this.#closeNow()
  }

  #open(done: (error: NodeJS.ErrnoException | null, fd: number) => void): void {
    if (this.#fd !== null) return done(null, this.#fd)
    fs.open(this.#path, this.#position === 0 ? 'w' : 'r+', 0o600, (error, fd) => {
      if (error === null) this.#fd = fd
      done(error, fd)
    })
  }

  #closeNow(): void {
    if (this.#fd !== null) fs.closeSync(this.#fd)
    this.#fd = null
  }
}

/** The records of a segment that are done, a bit each, and how many they are. */
export interface DoneRecords {
  readonly bits: Uint8Array
  readonly count: number
  /** What of the file is in whole entries. */
  readonly sizeBytes: number
}

/** Reads an ack file. What it says of records that the segment does not have is left out. */
export function readAcks(path: string, baseSeq: number, recordCount: number): DoneRecords {
  const bits = new Uint8Array(Math.ceil(recordCount / 8))
  const bytes = fs.existsSync(path) ? fs.readFileSync(path) : Buffer.alloc(0)
  let count = 0
  const sizeBytes = bytes.length - (bytes.length % entryBytes)
  for (let offset = 0; offset < sizeBytes; offset += entryBytes) {
    if (bytes.readUInt32BE(offset + 8) !== checksum(bytes, offset, baseSeq)) continue
    const first = bytes.readUInt32BE(offset)
    const end = Math.min(recordCount, first + bytes.readUInt32BE(offset + 4))
    for (let nth = first; nth < end; nth++) {
      const bit = 1 << (nth & 7)
      if ((bits[nth >> 3]! & bit) !== 0) continue
      bits[nth >> 3]! |= bit
      count++
    }
  }
  return { bits, count, sizeBytes }
}

function encodeRuns(runs: readonly (readonly [number, number])[], baseSeq: number): Buffer {
  const bytes = Buffer.allocUnsafe(runs.length * entryBytes)
  runs.forEach(([first, count], nth) => {
    const offset = nth * entryBytes
    bytes.writeUInt32BE(first, offset)
    bytes.writeUInt32BE(count, offset + 4)
    bytes.writeUInt32BE(checksum(bytes, offset, baseSeq), offset + 8)
  })
  return bytes
}

/** Batches of several partitions are acknowledged side by side, and their runs fit together. */
function merged(runs: [number, number][]): [number, number][] {
  const result: [number, number][] = []
  for (const [first, count] of runs.toSorted((a, b) => a[0] - b[0])) {
    const last = result.at(-1)
    if (last !== undefined && last[0] + last[1] === first) last[1] += count
    else result.push([first, count])
  }
  return result
}

function checksum(bytes: Buffer, offset: number, baseSeq: number): number {
  return crc32c(bytes.subarray(offset, offset + 8), baseSeq % 2 ** 32)
}

const entryBytes = 12

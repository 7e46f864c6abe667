import { crc32c } from '@node-rs/crc32'
import { letGo, writeAll, type Disk, type DiskDone } from './disk.ts'

/**
 * Which records of one segment are done, in a file beside it: entries of 12 bytes, each a run of records and its own
 * checksum, which also names the segment. An entry that is damaged, torn or lost makes duplicates at the next start and
 * loses nothing, so nothing waits for this file and it is never synced.
 */
export class AckFile {
  readonly #disk: Disk
  readonly #path: string
  readonly #baseSeq: number
  #fd: number | null = null
  #position: number
  #runs: [first: number, count: number][] = []
  #isWriting = false
  #isClosed = false

  /** @param sizeBytes what of the file is kept: new entries go behind it. */
  constructor(disk: Disk, path: string, baseSeq: number, sizeBytes = 0) {
    this.#disk = disk
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
  flush(done: DiskDone): void {
    if (this.#isWriting || this.#isClosed || !this.isDirty) return
    this.#isWriting = true
    const runs = merged(this.#runs)
    this.#runs = []
    const finish: DiskDone = (error) => {
      this.#isWriting = false
      if (error !== null) this.#runs.unshift(...runs)
      if (this.#isClosed) this.#letGo()
      done(error)
    }
    this.#open((error, fd) => {
      if (error !== null) return finish(error)
      const bytes = encodeRuns(runs, this.#baseSeq)
      writeAll(this.#disk, fd, [bytes], this.#position, (failure) => {
        if (failure === null) this.#position += bytes.length
        finish(failure)
      })
    })
  }

  close(): void {
    this.#isClosed = true
    if (!this.#isWriting) this.#letGo()
  }

  #open(done: (error: NodeJS.ErrnoException | null, fd: number) => void): void {
    if (this.#fd !== null) return done(null, this.#fd)
    const opened = (error: NodeJS.ErrnoException | null, fd: number): void => {
      if (error === null) this.#fd = fd
      done(error, fd)
    }
    this.#disk.open(this.#path, (error, fd) => {
      if (error?.code === 'ENOENT') this.#disk.create(this.#path, opened)
      else opened(error, fd)
    })
  }

  #letGo(): void {
    if (this.#fd !== null) letGo(this.#disk, this.#fd)
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

/** Reads the bytes of an ack file. What they say of records that the segment does not have is left out. */
export function readAcks(bytes: Buffer, baseSeq: number, recordCount: number): DoneRecords {
  const bits = new Uint8Array(Math.ceil(recordCount / 8))
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

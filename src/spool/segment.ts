import fs from 'node:fs'
import { AckFile, readAcks, type DoneRecords } from './ack-file.ts'

/**
 * One file of a stream's log, and which of its records are done. Bytes that were committed never change, so a copy of the
 * file is good whenever it is made. A file goes when all of its records are done.
 */
export class Segment {
  /** Number of its first record; also its name, so that the number of records in a file is known from the next one's. */
  readonly baseSeq: number
  readonly path: string
  readonly acks: AckFile
  /** What is committed, in bytes. */
  sizeBytes = 0
  recordCount = 0
  doneCount = 0
  /** Nothing is appended any more. */
  isSealed = false
  /** Some of it could not be read: it is kept when it is done, under another name. */
  isDamaged = false
  /** When the last of its notes may be forgotten; 0: it has none. */
  notesUntilMs = 0
  /** Open while it is written to. */
  writeFd: number | null = null
  readonly #doneAtStart: DoneRecords | null
  #readFd: number | null = null

  constructor(folder: string, baseSeq: number, found: DoneRecords | null = null) {
    this.baseSeq = baseSeq
    this.path = `${folder}/${segmentName(baseSeq)}`
    this.acks = new AckFile(acksPath(this.path), baseSeq, found?.sizeBytes ?? 0)
    this.#doneAtStart = found
  }

  /** A file that was there at start. Whatever is behind its records is the torn end of a crash. */
  static found(folder: string, baseSeq: number, size: { recordCount: number; sizeBytes: number }): Segment {
    const { recordCount, sizeBytes } = size
    const path = `${folder}/${segmentName(baseSeq)}`
    const done = readAcks(acksPath(path), baseSeq, recordCount)
    const segment = new Segment(folder, baseSeq, done)
    segment.sizeBytes = sizeBytes
    segment.recordCount = recordCount
    segment.doneCount = done.count
    segment.isSealed = true
    return segment
  }

  /** Number of the first record behind it. */
  get endSeq(): number {
    return this.baseSeq + this.recordCount
  }

  /** It has no work left. */
  get isDone(): boolean {
    return this.doneCount >= this.recordCount
  }

  /** Whether a record was done when the process started. */
  wasDone(seq: number): boolean {
    if (this.#doneAtStart === null) return false
    const nth = seq - this.baseSeq
    return (this.#doneAtStart.bits[nth >> 3]! & (1 << (nth & 7))) !== 0
  }

  /** Reads what is there at a position, up to the buffer's size. */
  read(
    buffer: Buffer,
    position: number,
    done: (error: NodeJS.ErrnoException | null, read: number) => void,
  ): void {
    const length = Math.min(buffer.length, this.sizeBytes - position)
    if (this.#readFd !== null) {
      fs.read(this.#readFd, buffer, 0, length, position, done)
      return
    }
    fs.open(this.path, 'r', (error, fd) => {
      if (error !== null) return done(error, 0)
      this.#readFd = fd
      fs.read(fd, buffer, 0, length, position, done)
    })
  }

  /** Closes its files; those that are being read or written to are closed by who does so. */
  close(): void {
    this.acks.close()
    if (this.#readFd !== null) fs.closeSync(this.#readFd)
    if (this.writeFd !== null) fs.closeSync(this.writeFd)
    this.#readFd = this.writeFd = null
  }

  /**
   * Takes its files away, the records first: were the acks to go first, a crash in between would bring all records back.
   * What is damaged is kept for whoever wants to look at it.
   */
  remove(): void {
    this.close()
    if (this.isDamaged) fs.renameSync(this.path, `${this.path}.damaged`)
    else fs.rmSync(this.path, { force: true })
    fs.rmSync(acksPath(this.path), { force: true })
  }
}

/** Where the acks of a segment are. */
export function acksPath(segmentPath: string): string {
  return segmentPath.replace(/\.log$/, '.ack')
}

/** Numbers have 48 bits in a frame, 15 digits. */
export function segmentName(baseSeq: number): string {
  return `${String(baseSeq).padStart(15, '0')}.log`
}

/** @returns null if a file is no segment. */
export function baseSeqOf(name: string): number | null {
  return /^\d{15}\.log$/.test(name) ? Number(name.slice(0, 15)) : null
}

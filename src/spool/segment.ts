import { randomInt } from 'node:crypto'
import { AckFile, type DoneRecords } from './ack-file.ts'
import { letGo, type Disk, type DiskDone } from './disk.ts'

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
  /**
   * Its name is on the disk, and it holds nothing but what is committed: a group can be written to it. Not so a file that
   * an earlier life left without a record in it, which is made ready before its first group.
   */
  isReady = false
  /** Some of it could not be read: it is kept when it is done, under another name. */
  isDamaged = false
  /** When the last of its notes may be forgotten; 0: it has none. */
  notesUntilMs = 0
  /** Open while it is written to. */
  writeFd: number | null = null
  readonly #disk: Disk
  readonly #doneAtStart: DoneRecords | null
  #readFd: number | null = null

  /** @param found what was done when the process started; left out for a file that is made now. */
  constructor(disk: Disk, folder: string, baseSeq: number, found: DoneRecords | null = null) {
    this.#disk = disk
    this.baseSeq = baseSeq
    this.path = `${folder}/${segmentName(baseSeq)}`
    this.acks = new AckFile(disk, acksPath(this.path), baseSeq, found?.sizeBytes ?? 0)
    this.#doneAtStart = found
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
    this.open((error, fd) => {
      if (error !== null) return done(error, 0)
      const length = Math.min(buffer.length, this.sizeBytes - position)
      this.#disk.read(fd, buffer.subarray(0, length), position, done)
    })
  }

  /** Opens the file for reading, once for all who read it. One opens it at a time. */
  open(done: (error: NodeJS.ErrnoException | null, fd: number) => void): void {
    if (this.#readFd !== null) return done(null, this.#readFd)
    this.#disk.open(this.path, (error, fd) => {
      if (error !== null) return done(error, -1)
      if (this.#readFd === null) this.#readFd = fd
      else letGo(this.#disk, fd)
      done(null, this.#readFd)
    })
  }

  /** Closes its files. */
  close(): void {
    this.acks.close()
    if (this.#readFd !== null) letGo(this.#disk, this.#readFd)
    if (this.writeFd !== null) letGo(this.#disk, this.writeFd)
    this.#readFd = this.writeFd = null
  }

  /** Takes the file with the records away. What is damaged is kept for whoever wants to look at it. */
  remove(done: DiskDone): void {
    const removed: DiskDone = (error) => {
      if (error === null) this.close()
      done(error)
    }
    if (this.isDamaged) this.#disk.rename(this.path, `${this.path}.damaged`, removed)
    else this.#disk.remove(this.path, removed)
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

/** What a file of a stream's folder is, by its name. */
export interface SpoolFileName {
  /** Number that the name begins with: of a record, but for `sent`, whose files are counted by themselves. */
  readonly seq: number
  readonly kind: 'log' | 'ack' | 'notes' | 'notes.new' | 'log.damaged' | 'sent'
}

/** @returns null if the name is none that the spool gives. */
export function parseName(name: string): SpoolFileName | null {
  const [, digits, kind] = /^(\d{15})\.(log|ack|notes|notes\.new|log\.damaged|sent)$/.exec(name) ?? []
  const seq = Number(digits)
  if (digits === undefined || seq > highestSeq) return null
  return { seq, kind: kind as SpoolFileName['kind'] }
}

/**
 * Where the numbers of a stream go on: above every number that a name of the folder has, so that no name is used twice,
 * however many lives the folder has seen. In a folder without names the numbers begin at random: nobody outside knows them,
 * and a file that a crash brings back belongs to nothing that is written later.
 */
export function nextFreeSeq(names: readonly string[], endSeq: number): number {
  const taken = names.flatMap((name) => {
    const parsed = parseName(name)
    return parsed === null || parsed.kind === 'sent' ? [] : parsed.seq
  })
  const next = Math.max(endSeq, ...taken.map((seq) => seq + 1))
  return next === 0 ? randomInt(lowestFirstSeq, highestFirstSeq) : next
}

/** Numbers have 48 bits. */
const highestSeq = 2 ** 48 - 1
/** A stream that begins here has numbers left for as long as anybody could write records. */
const lowestFirstSeq = 2 ** 45
const highestFirstSeq = 2 ** 46

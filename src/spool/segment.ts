import { randomInt } from 'node:crypto'
import { crc32c } from '@node-rs/crc32'
import { letGo, writeAll, type Disk, type DiskDone } from './disk.ts'

/**
 * A segment: one file of a stream's log, and beside it a file that says which of its records are done. Committed bytes never
 * change, so a copy of the file is good whenever it is made. A segment goes when all of its records are done.
 */
export class Segment {
  /** Number of its first record, and its name. So the name of the next segment says how many records this one holds. */
  readonly baseSeq: number
  readonly path: string
  readonly acks: AckFile
  /** Size of what is committed, in bytes. */
  sizeBytes = 0
  recordCount = 0
  doneCount = 0
  /** Nothing is appended to it any more. */
  isSealed = false
  /**
   * A group can be written to it: its name is on the disk, and it holds only what is committed. A segment without a record that an
   * earlier process left is not ready. It is made ready before its first group.
   */
  isReady = false
  /** When the last of its notes may be forgotten; 0: it has no notes. */
  notesUntilMs = 0
  /** Open while groups are written to it. */
  writeFd: number | null = null
  readonly #disk: Disk
  readonly #doneAtStart: DoneRecords | null
  #readFd: number | null = null

  /** @param found the records that were done when the process started. Left out for a segment that is made now. */
  constructor(disk: Disk, folder: string, baseSeq: number, found: DoneRecords | null = null) {
    this.#disk = disk
    this.baseSeq = baseSeq
    this.path = `${folder}/${segmentName(baseSeq)}`
    this.acks = new AckFile(disk, acksPath(this.path), baseSeq, found)
    this.#doneAtStart = found
  }

  /** Some of it could not be read, in this process or in an earlier one. When it is done, it is renamed and not removed. */
  get isDamaged(): boolean {
    return this.acks.isOfDamaged
  }

  /** Number of the first record behind it. */
  get endSeq(): number {
    return this.baseSeq + this.recordCount
  }

  /** All of its records are done. */
  get isDone(): boolean {
    return this.doneCount >= this.recordCount
  }

  /** Whether a record was done when the process started. */
  wasDone(seq: number): boolean {
    if (this.#doneAtStart === null) return false
    const nth = seq - this.baseSeq
    return (this.#doneAtStart.bits[nth >> 3]! & (1 << (nth & 7))) !== 0
  }

  /** Reads from a position on, up to the buffer's size or to the end of what is committed. */
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

  /** Opens the file for reading. All readers share one file descriptor. */
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

  /** Removes the file with the records. A damaged one is renamed, so that somebody can look at it. */
  remove(done: DiskDone): void {
    const removed: DiskDone = (error) => {
      if (error === null) this.close()
      done(error)
    }
    // An earlier call may have renamed it and told of an error all the same.
    const isGone = (error: NodeJS.ErrnoException | null): void =>
      removed(error?.code === 'ENOENT' ? null : error)
    if (this.isDamaged) this.#disk.rename(this.path, `${this.path}.damaged`, isGone)
    else this.#disk.remove(this.path, removed)
  }
}

/**
 * Says which records of one segment are done, in a file beside the segment. An entry has 12 bytes: the first record of a run, the
 * number of records in the run, and a checksum that also covers the number of the segment. If an entry is damaged, torn or lost,
 * the next start sends its records again, and no record is lost. So nothing on the way of a record waits for this file. It is
 * synced only before the journal of sent batches forgets what the file says ({@link AckFile.secure}).
 *
 * An entry of no record says that the segment is damaged. It goes in one write with the records that were lost, in front of
 * them: a later start finds these done, and no damage. Earlier versions of Chute pass it over.
 */
class AckFile {
  readonly #disk: Disk
  readonly #path: string
  readonly #baseSeq: number
  #fd: number | null = null
  /** Where in the file the next entry goes. */
  #position: number
  #runs: [first: number, count: number][] = []
  /** Some of the segment could not be read. */
  isOfDamaged: boolean
  /** The file does not say so yet. */
  #isDamageNew = false
  #isWriting = false
  #isClosed = false
  /** A sync failed: some bytes may never get to the disk, even if a second sync ends well. */
  #isInDoubt = false
  /** What waits for the end of a write. */
  #behindWrite: (() => void)[] = []

  /** @param found what there is already. New entries go behind it. */
  constructor(disk: Disk, path: string, baseSeq: number, found: DoneRecords | null) {
    this.#disk = disk
    this.#path = path
    this.#baseSeq = baseSeq
    this.#position = found?.sizeBytes ?? 0
    this.isOfDamaged = found?.isDamaged ?? false
  }

  /** Adds records that are done. The segment's first record has number 0 here. */
  add(first: number, count: number): void {
    const last = this.#runs.at(-1)
    if (last !== undefined && last[0] + last[1] === first) last[1] += count
    else this.#runs.push([first, count])
  }

  /** Some of the segment cannot be read. To be called before the records are added that are lost. */
  addDamage(): void {
    this.#isDamageNew ||= !this.isOfDamaged
    this.isOfDamaged = true
  }

  /** A write or a sync is under way. */
  get isWriting(): boolean {
    return this.#isWriting
  }

  /**
   * Writes what was added since the last write. If a write is under way, it does nothing, and the next flush writes it.
   * @param done is called when the write has ended. What could not be written is written by the next flush.
   */
  flush(done: DiskDone): void {
    if (this.#isWriting || this.#isClosed || this.#runs.length === 0) return
    this.#isWriting = true
    const runs = merged(this.#runs)
    this.#runs = []
    const isDamageNew = this.#isDamageNew
    this.#isDamageNew = false
    const finish: DiskDone = (error) => {
      if (error !== null) {
        // The list can be longer than a call may have arguments.
        this.#runs = [...runs, ...this.#runs]
        this.#isDamageNew ||= isDamageNew
      }
      this.#endWriting(error, done)
    }
    this.#open((error, fd) => {
      if (error !== null) return finish(error)
      const bytes = encodeRuns(isDamageNew ? [[0, 0], ...runs] : runs, this.#baseSeq)
      writeAll(this.#disk, { fd, buffers: [bytes], position: this.#position }, (failure) => {
        if (failure === null) {
          this.#position += bytes.length
          finish(null)
          // A start must not find a part of what ended together: it would take the rest for parts that went on alone.
        } else this.#disk.truncate(fd, this.#position, () => finish(failure))
      })
    })
  }

  /**
   * Writes everything that was added before this call, behind a write that is under way.
   * @param isSynced the file is synced, too. Its name may not be on the disk yet.
   */
  secure(isSynced: boolean, done: DiskDone): void {
    if (this.#isWriting) return void this.#behindWrite.push(() => this.secure(isSynced, done))
    // The segment is gone.
    if (this.#isClosed) return done(null)
    const written: DiskDone = (error) => {
      if (error === null && isSynced) this.#sync(done)
      else done(error)
    }
    if (this.#runs.length > 0) this.flush(written)
    else written(null)
  }

  #sync(done: DiskDone): void {
    if (this.#fd === null) return done(null)
    if (this.#isInDoubt) return done(new Error('a sync of the file failed'))
    this.#isWriting = true
    this.#disk.sync(this.#fd, (error) => {
      if (error !== null) this.#isInDoubt = true
      this.#endWriting(error, done)
    })
  }

  #endWriting(error: NodeJS.ErrnoException | null, done: DiskDone): void {
    this.#isWriting = false
    if (this.#isClosed) this.#letGo()
    done(error)
    const waiting = this.#behindWrite
    this.#behindWrite = []
    for (const each of waiting) each()
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

/** The records of a segment that are done. */
export interface DoneRecords {
  /** A bit for each record of the segment. */
  readonly bits: Uint8Array
  readonly count: number
  /** Some of the segment could not be read. */
  readonly isDamaged: boolean
  /** Size of the ack file's whole entries, in bytes. */
  readonly sizeBytes: number
}

/** Reads the bytes of an ack file. Records that the segment does not have are left out. */
export function readAcks(bytes: Buffer, baseSeq: number, recordCount: number): DoneRecords {
  const bits = new Uint8Array(Math.ceil(recordCount / 8))
  let count = 0
  let isDamaged = false
  const sizeBytes = bytes.length - (bytes.length % entryBytes)
  for (let offset = 0; offset < sizeBytes; offset += entryBytes) {
    if (bytes.readUInt32BE(offset + 8) !== checksum(bytes, offset, baseSeq)) continue
    const first = bytes.readUInt32BE(offset)
    const length = bytes.readUInt32BE(offset + 4)
    isDamaged ||= length === 0
    const end = Math.min(recordCount, first + length)
    for (let nth = first; nth < end; nth++) {
      const bit = 1 << (nth & 7)
      if ((bits[nth >> 3]! & bit) !== 0) continue
      bits[nth >> 3]! |= bit
      count++
    }
  }
  return { bits, count, isDamaged, sizeBytes }
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

/** Sorts runs, and joins those that follow each other: batches of several partitions are acknowledged side by side. */
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

/** Path of the ack file of a segment. */
export function acksPath(segmentPath: string): string {
  return segmentPath.replace(/\.log$/, '.ack')
}

/** Name of the segment whose first record has a number. Numbers have 48 bits, which are 15 digits. */
export function segmentName(baseSeq: number): string {
  return `${String(baseSeq).padStart(15, '0')}.log`
}

/** The ends of the names of files in a stream's folder. */
const fileKinds = ['log', 'ack', 'notes', 'notes.new', 'log.damaged', 'sent'] as const

/** What the name of a file in a stream's folder says. */
export interface SpoolFileName {
  /** Number that the name begins with. It is the number of a record, except for `sent`: these files are numbered by themselves. */
  readonly seq: number
  readonly kind: (typeof fileKinds)[number]
}

/** @returns null if the spool gives no such name. */
export function parseName(name: string): SpoolFileName | null {
  const [, digits, end] = /^(\d{15})\.([a-z.]+)$/.exec(name) ?? []
  const kind = fileKinds.find((each) => each === end)
  const seq = Number(digits)
  if (digits === undefined || kind === undefined || seq > highestSeq) return null
  return { seq, kind }
}

/**
 * The number that a stream goes on with. It is above every number in a name of the folder, so that no name is used twice,
 * however many processes have used the folder. In a folder without names the numbers begin at random. So nobody outside knows
 * the numbers, and a file that a crash brings back is never taken for a part of what was written later.
 */
export function nextFreeSeq(names: readonly string[], endSeq: number): number {
  let next = endSeq
  // A folder may have more names than a call may have arguments.
  for (const name of names) {
    const parsed = parseName(name)
    if (parsed !== null && parsed.kind !== 'sent') next = Math.max(next, parsed.seq + 1)
  }
  return next === 0 ? randomInt(lowestFirstSeq, highestFirstSeq) : next
}

/** Numbers have 48 bits. */
const highestSeq = 2 ** 48 - 1
/** A stream that begins between these two has more numbers left than anybody could use. */
const lowestFirstSeq = 2 ** 45
const highestFirstSeq = 2 ** 46

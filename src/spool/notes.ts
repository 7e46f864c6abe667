import { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import type { Logger } from '../logger.ts'
import { ignored, letGo, writeAll, type Disk, type DiskDone } from './disk.ts'
import { EntryReader, FrameBuilder, scanFrames, scanFramesLater } from './frame.ts'
import { parseName, type Segment } from './segment.ts'

/** Is given a note: its key, its value (a view that is valid during the call), and the time when it may be forgotten. */
export type EachNote = (key: string, value: Buffer, untilMs: number) => void

/**
 * Notes that were committed with records and are kept for longer than the records. Before a segment goes, its notes that have time
 * left are written to a file of their own beside it. That file goes when the time of its last note is over.
 *
 * The file has the number of the segment. No later process uses the number again, so the notes of one process never replace
 * those of another.
 *
 * While the newest file is small, the next file takes its notes in, and the newest file goes. So a quiet stream has few files. Segments
 * go oldest first, so the order of the notes is the order of the files' names, and inside a file the order of its notes. Where
 * a crash leaves both files, the notes are read twice, in order.
 */
export class Notes {
  readonly #options: NotesOptions
  /** Files of notes, and when each may go; 0: nobody has read the file, and it may go now. */
  readonly #files = new Map<string, number>()
  /** Before this time none of the files may go. */
  #nextDueMs = 0
  /** The newest file of notes, if it is so small that the next one takes its notes in. */
  #newest: SmallFile | null = null
  /** Files that an earlier process did not finish. They do not count. */
  readonly #unfinished: string[] = []
  /** The notes of a segment are being written to a file of their own. */
  #isCopying = false

  constructor(options: NotesOptions) {
    this.#options = options
    const { disk, folder } = options
    for (const { name, isFile } of disk.listNow(folder)) {
      const kind = parseName(name)?.kind
      if (kind === 'notes' && isFile) this.#files.set(`${folder}/${name}`, 0)
      else if (kind === 'notes.new') this.#unfinished.push(`${folder}/${name}`)
    }
  }

  /**
   * Reads the notes that were found at start, oldest first. Notes whose time is over are left out. To be called in the first turn
   * of the event loop: after that, notes that nobody has read may go. Waits for the disk.
   * @param newerThanMs files that were last written before this time are not opened.
   */
  read(segments: readonly Segment[], newerThanMs: number, each: EachNote): void {
    const paths = [...this.#files.keys()].toSorted()
    /** The newest file, if it was read and has notes. */
    let newest = ''
    for (const path of paths) {
      const baseSeq = parseName(path.slice(path.lastIndexOf('/') + 1))!.seq
      const file = { path, baseSeq, sizeBytes: Infinity, endSeq: Infinity }
      try {
        if (path === paths.at(-1)) {
          if (this.#readNewest(file, newerThanMs, each) > 0) newest = path
        } else this.#files.set(path, this.#readNotes(file, newerThanMs, each))
      } catch (error) {
        // The file stays, so that the next start can read it.
        this.#files.delete(path)
        this.#options.logger.error({ path, err: error }, 'keys of an earlier run could not be read')
      }
    }
    for (const segment of segments) {
      const untilMs = this.#readNotes(segment, newerThanMs, each)
      // The earlier process ended when the notes were safe and the segment was not gone yet. The file can hold more than the notes of
      // the segment, so it is not written again.
      segment.notesUntilMs = notesPath(segment) <= newest ? 0 : untilMs
    }
  }

  /**
   * Whether a segment can go without a loss of notes. If it cannot, its notes are being written to a file of their own. To be asked of the oldest
   * segment only: the notes of all older ones are in files.
   */
  areSafe(segment: Segment): boolean {
    if (segment.notesUntilMs <= earliestNowMs()) return true
    if (!this.#isCopying) void this.#copy(segment)
    return false
  }

  /** Is called every second. Removes files of notes whose time is over. */
  removeOld(): void {
    const { disk } = this.#options
    for (const path of this.#unfinished.splice(0)) disk.remove(path, ignored)
    const nowMs = earliestNowMs()
    if (nowMs < this.#nextDueMs) return
    this.#nextDueMs = Infinity
    for (const [path, untilMs] of this.#files) {
      if (untilMs <= nowMs) this.#remove(path)
      else this.#nextDueMs = Math.min(this.#nextDueMs, untilMs)
    }
  }

  #keep(path: string, untilMs: number): void {
    this.#files.set(path, untilMs)
    this.#nextDueMs = Math.min(this.#nextDueMs, untilMs)
  }

  #remove(path: string): void {
    this.#files.delete(path)
    if (this.#newest?.path === path) this.#newest = null
    this.#options.disk.remove(path, (error) => {
      if (error !== null) this.#keep(path, 0)
    })
  }

  async #copy(segment: Segment): Promise<void> {
    this.#isCopying = true
    const { disk, folderFd, logger } = this.#options
    const path = notesPath(segment)
    const older = this.#newest
    const untilMs = Math.max(segment.notesUntilMs, older?.untilMs ?? 0)
    try {
      const frame = await this.#copyOfNotes(segment, older)
      await ended((done) => disk.remove(`${path}.new`, done))
      await this.#writeFile(`${path}.new`, frame)
      await ended((done) => disk.rename(`${path}.new`, path, done))
      await ended((done) => disk.sync(folderFd, done))
      this.#keep(path, untilMs)
      this.#newest = smallFile(path, frame, untilMs)
      segment.notesUntilMs = 0
      if (older !== null) this.#remove(older.path)
    } catch (error) {
      logger.debug({ err: error }, 'notes could not be brought to safety yet; their file stays')
    } finally {
      this.#isCopying = false
    }
  }

  async #writeFile(path: string, bytes: Buffer): Promise<void> {
    const { disk } = this.#options
    const fd = await new Promise<number>((resolve, reject) => {
      disk.create(path, (error, created) => (error === null ? resolve(created) : reject(error)))
    })
    try {
      await ended((done) => writeAll(disk, { fd, buffers: [bytes], position: 0 }, done))
      await ended((done) => disk.sync(fd, done))
    } finally {
      letGo(disk, fd)
    }
  }

  /** Reads the newest file of notes. If the file is small, the next one takes its notes in. @returns as {@link Notes.#readNotes}. */
  #readNewest(file: NotesOf, newerThanMs: number, each: EachNote): number {
    const { path, baseSeq } = file
    const copy = new FrameBuilder(Buffer.allocUnsafe(smallFileBytes))
    const untilMs = this.#readNotes(file, newerThanMs, (key, value, noteUntilMs) => {
      copy.append('note', RecordBytes.of(value, Buffer.from(key), noteUntilMs))
      each(key, value, noteUntilMs)
    })
    this.#files.set(path, untilMs)
    if (untilMs > 0) this.#newest = smallFile(path, copy.seal(baseSeq), untilMs)
    return untilMs
  }

  /** @returns when the last of the notes may be forgotten; 0 if no note has time left. */
  #readNotes(file: NotesOf, newerThanMs: number, each: EachNote): number {
    const { disk } = this.#options
    const fd = disk.openNow(file.path, 'r')
    let untilMs = 0
    try {
      const stat = disk.statNow(fd)
      if (stat.modifiedMs < newerThanMs) return 0
      const { baseSeq: seq, endSeq } = file
      const range = { sizeBytes: Math.min(stat.sizeBytes, file.sizeBytes), seq, endSeq }
      for (const { header, bytes, offset } of scanFrames(disk, fd, range)) {
        if (!header.hasNotes) continue
        const entries = new EntryReader(bytes, offset, header.frameBytes)
        while (entries.next()) {
          const { start, end, timestampMs } = entries.record
          if (entries.kind !== 'note' || timestampMs <= Date.now()) continue
          untilMs = Math.max(untilMs, timestampMs)
          each(entries.key() ?? '', bytes.subarray(start, end), timestampMs)
        }
      }
      return untilMs
    } finally {
      disk.closeNow(fd)
    }
  }

  /** Makes one frame of the notes that have time left: first those of an older file, then those of a segment. */
  async #copyOfNotes(segment: Segment, older: SmallFile | null): Promise<Buffer> {
    const writer = new FrameBuilder(Buffer.allocUnsafe(smallFileBytes))
    const copy = (bytes: Buffer, offset: number, frameBytes: number): void => {
      const entries = new EntryReader(bytes, offset, frameBytes)
      while (entries.next()) {
        if (entries.kind === 'note' && entries.record.timestampMs > earliestNowMs())
          writer.append('note', entries.record)
      }
    }
    if (older !== null) copy(older.frame, 0, older.frame.length)
    const fd = await new Promise<number>((resolve, reject) => {
      segment.open((error, opened) => (error === null ? resolve(opened) : reject(error)))
    })
    const { sizeBytes, baseSeq: seq, endSeq } = segment
    const range = { sizeBytes, seq, endSeq }
    for await (const { header, bytes, offset } of scanFramesLater(this.#options.disk, fd, range))
      if (header.hasNotes) copy(bytes, offset, header.frameBytes)
    return writer.seal(segment.baseSeq)
  }
}

/** See {@link Notes}. */
export interface NotesOptions {
  readonly folder: string
  /** Open, to sync the names of the folder. */
  readonly folderFd: number
  readonly disk: Disk
  readonly logger: Logger
}

/** A file that holds notes: a segment, or a file of notes alone. */
interface NotesOf {
  readonly path: string
  readonly sizeBytes: number
  /** Number of its first frame. */
  readonly baseSeq: number
  readonly endSeq: number
}

/** A file of notes whose bytes are also in memory. */
interface SmallFile {
  readonly path: string
  /** All that the file holds. */
  readonly frame: Buffer
  /** When the last of its notes may be forgotten. */
  readonly untilMs: number
}

/** @returns null if the file is so large that the next one leaves it alone. */
function smallFile(path: string, frame: Buffer, untilMs: number): SmallFile | null {
  return frame.length < smallFileBytes ? { path, frame, untilMs } : null
}

/** Path of the file that the notes of a segment go to. */
function notesPath({ path }: Segment): string {
  return path.replace(/\.log$/, '.notes')
}

/** Waits for the end of a call to the disk. @throws the call's error. */
async function ended(call: (done: DiskDone) => void): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    call((error) => (error === null ? resolve() : reject(error)))
  })
}

/**
 * Now, in epoch milliseconds, by the slower of two clocks: the wall clock, and the wall clock at the beginning of the process
 * plus the monotonic time since. So a step of the wall clock forward removes no note early. After a step back, no note is removed
 * that the next process would still want.
 */
function earliestNowMs(): number {
  return Math.min(Date.now(), beganAtMs + performance.now())
}

const beganAtMs = Date.now() - performance.now()

/** A file of this size goes into no other one. So a new file has at most as many bytes of older notes as this. */
const smallFileBytes = 64 * 1024

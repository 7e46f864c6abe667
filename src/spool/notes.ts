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
 */
export class Notes {
  readonly #options: NotesOptions
  /** Files of notes, and when each may go; 0: nobody has read the file, and it may go now. */
  readonly #files = new Map<string, number>()
  /** Files that an earlier process did not finish. They do not count. */
  readonly #unfinished: string[] = []
  /** Segments whose notes are being written to a file of their own. */
  readonly #copying = new Set<Segment>()

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
    for (const path of [...this.#files.keys()].toSorted()) {
      const baseSeq = parseName(path.slice(path.lastIndexOf('/') + 1))!.seq
      try {
        this.#files.set(
          path,
          this.#readNotes({ path, baseSeq, sizeBytes: Infinity, endSeq: Infinity }, newerThanMs, each),
        )
      } catch (error) {
        // The file stays, so that the next start can read it.
        this.#files.delete(path)
        this.#options.logger.error({ path, err: error }, 'keys of an earlier run could not be read')
      }
    }
    for (const segment of segments) segment.notesUntilMs = this.#readNotes(segment, newerThanMs, each)
  }

  /** Whether a segment can go without a loss of notes. If it cannot, its notes are being written to a file of their own. */
  areSafe(segment: Segment): boolean {
    if (segment.notesUntilMs <= earliestNowMs()) return true
    if (!this.#copying.has(segment)) void this.#copy(segment)
    return false
  }

  /** Is called every second. Removes files of notes whose time is over. */
  removeOld(): void {
    const { disk } = this.#options
    for (const path of this.#unfinished.splice(0)) disk.remove(path, ignored)
    for (const [path, untilMs] of this.#files) {
      if (untilMs > earliestNowMs()) continue
      this.#files.delete(path)
      disk.remove(path, (error) => {
        if (error !== null) this.#files.set(path, untilMs)
      })
    }
  }

  async #copy(segment: Segment): Promise<void> {
    this.#copying.add(segment)
    const { disk, folderFd, logger } = this.#options
    const path = segment.path.replace(/\.log$/, '.notes')
    const { notesUntilMs } = segment
    try {
      const frame = await this.#copyOfNotes(segment)
      await ended((done) => disk.remove(`${path}.new`, done))
      await this.#writeFile(`${path}.new`, frame)
      await ended((done) => disk.rename(`${path}.new`, path, done))
      await ended((done) => disk.sync(folderFd, done))
      this.#files.set(path, notesUntilMs)
      segment.notesUntilMs = 0
    } catch (error) {
      logger.debug({ err: error }, 'notes could not be brought to safety yet; their file stays')
    } finally {
      this.#copying.delete(segment)
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

  /** Makes one frame of those notes of a segment that have time left. */
  async #copyOfNotes(segment: Segment): Promise<Buffer> {
    const writer = new FrameBuilder(Buffer.allocUnsafe(64 * 1024))
    const fd = await new Promise<number>((resolve, reject) => {
      segment.open((error, opened) => (error === null ? resolve(opened) : reject(error)))
    })
    const { sizeBytes, baseSeq: seq, endSeq } = segment
    const range = { sizeBytes, seq, endSeq }
    for await (const { header, bytes, offset } of scanFramesLater(this.#options.disk, fd, range)) {
      if (!header.hasNotes) continue
      const entries = new EntryReader(bytes, offset, header.frameBytes)
      while (entries.next()) {
        if (entries.kind === 'note' && entries.record.timestampMs > earliestNowMs())
          writer.append('note', entries.record)
      }
    }
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

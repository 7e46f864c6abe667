import type { Logger } from '../logger.ts'
import { ignored, letGo, writeAll, type Disk, type DiskDone } from './disk.ts'
import { earliestNowMs } from './earliest-now.ts'
import { EntryReader, FrameWriter } from './frame.ts'
import { scanFrames, scanFramesLater } from './scan-frames.ts'
import { parseName, type Segment } from './segment.ts'

/** Is given a note: what it is kept under, its value (a view that is good for the call), and when it may be forgotten. */
export type EachNote = (key: string, value: Buffer, untilMs: number) => void

/**
 * Notes that were committed with records and outlive them: before a file of the log goes, those that have time left are
 * written to a file of their own beside it, which goes when the last of them has had its time. The file has the number of
 * the log's file, which no later life uses again: so notes of one life are never written over those of another.
 */
export class Notes {
  readonly #options: NotesOptions
  /** Files of notes, and when each may go; 0: nobody has asked for it. */
  readonly #files = new Map<string, number>()
  /** Files that were begun by an earlier life, and count for nothing. */
  readonly #unfinished: string[] = []
  readonly #rescuing = new Set<Segment>()

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
   * Reads what was found at start, oldest first; notes whose time is over are left out. To be called before the first
   * turn of the event loop is over: what nobody asks for then may go. Waits for the disk.
   * @param newerThanMs files that were last written to before that are not opened.
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
        // What cannot be read now is there for the next start.
        this.#files.delete(path)
        this.#options.logger.error({ path, err: error }, 'keys of an earlier run could not be read')
      }
    }
    for (const segment of segments) segment.notesUntilMs = this.#readNotes(segment, newerThanMs, each)
  }

  /** Whether a file of the log can go without taking notes along. If not, they are being brought to safety. */
  areSafe(segment: Segment): boolean {
    if (segment.notesUntilMs <= earliestNowMs()) return true
    if (!this.#rescuing.has(segment)) void this.#rescue(segment)
    return false
  }

  /** Removes what has had its time. */
  tend(): void {
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

  async #rescue(segment: Segment): Promise<void> {
    this.#rescuing.add(segment)
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
      this.#rescuing.delete(segment)
    }
  }

  async #writeFile(path: string, bytes: Buffer): Promise<void> {
    const { disk } = this.#options
    const fd = await new Promise<number>((resolve, reject) => {
      disk.create(path, (error, created) => (error === null ? resolve(created) : reject(error)))
    })
    try {
      await ended((done) => writeAll(disk, fd, [bytes], 0, done))
      await ended((done) => disk.sync(fd, done))
    } finally {
      letGo(disk, fd)
    }
  }

  /** @returns when the last of the notes may be forgotten; 0 if there is none. */
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

  /** One frame with the notes of a segment that have time left. */
  async #copyOfNotes(segment: Segment): Promise<Buffer> {
    const writer = new FrameWriter(Buffer.allocUnsafe(64 * 1024))
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
  /** Open for syncing its names. */
  readonly folderFd: number
  readonly disk: Disk
  readonly logger: Logger
}

/** Where notes are. */
interface NotesOf {
  readonly path: string
  readonly sizeBytes: number
  /** Number that its first frame has. */
  readonly baseSeq: number
  readonly endSeq: number
}

async function ended(call: (done: DiskDone) => void): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    call((error) => (error === null ? resolve() : reject(error)))
  })
}

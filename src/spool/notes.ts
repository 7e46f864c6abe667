import fs from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Logger } from '../kafka/producer/producer.ts'
import { earliestNowMs } from './earliest-now.ts'
import { EntryReader, FrameWriter } from './frame.ts'
import { scanFrames } from './scan-frames.ts'
import type { Segment } from './segment.ts'

/** Is given a note: what it is kept under, its value (a view that is good for the call), and when it may be forgotten. */
export type EachNote = (key: string, value: Buffer, untilMs: number) => void

/**
 * Notes that were committed with records and outlive them: before a file of the log goes, those that have time left are
 * written to a file of their own beside it, which goes when the last of them has had its time.
 */
export class Notes {
  readonly #folder: string
  readonly #logger: Logger
  /** Files of notes, and when each may go; 0: nobody has asked for it. */
  readonly #files = new Map<string, number>()
  readonly #rescuing = new Set<Segment>()

  constructor(folder: string, logger: Logger) {
    this.#folder = folder
    this.#logger = logger
    for (const name of fs.readdirSync(folder)) {
      if (name.endsWith('.notes')) this.#files.set(`${folder}/${name}`, 0)
    }
  }

  /**
   * Reads what was found at start, oldest first; notes whose time is over are left out. To be called before the first
   * turn of the event loop is over: what nobody asks for then may go. Waits for the disk.
   * @param newerThanMs files that were last written to before that are not opened.
   */
  read(segments: readonly Segment[], newerThanMs: number, each: EachNote): void {
    for (const path of [...this.#files.keys()].toSorted()) {
      this.#files.set(path, readNotes(path, fs.statSync(path).size, newerThanMs, each))
    }
    for (const segment of segments) {
      segment.notesUntilMs = readNotes(segment.path, segment.sizeBytes, newerThanMs, each)
    }
  }

  /** Whether a file of the log can go without taking notes along. If not, they are being brought to safety. */
  areSafe(segment: Segment): boolean {
    if (segment.notesUntilMs <= earliestNowMs()) return true
    if (!this.#rescuing.has(segment)) void this.#rescue(segment)
    return false
  }

  /** Removes what has had its time. */
  tend(): void {
    for (const [path, untilMs] of this.#files) {
      if (untilMs > earliestNowMs()) continue
      fs.rmSync(path, { force: true })
      this.#files.delete(path)
    }
  }

  async #rescue(segment: Segment): Promise<void> {
    this.#rescuing.add(segment)
    const path = segment.path.replace(/\.log$/, '.notes')
    try {
      const frame = await copyOfNotes(segment)
      const file = await fs.promises.open(`${path}.new`, 'w', 0o600)
      try {
        await file.writeFile(frame)
        await file.datasync()
      } finally {
        await file.close()
      }
      await fs.promises.rename(`${path}.new`, path)
      const folder = await fs.promises.open(this.#folder, 'r')
      try {
        await folder.sync()
      } finally {
        await folder.close()
      }
      this.#files.set(path, segment.notesUntilMs)
      segment.notesUntilMs = 0
    } catch (error) {
      this.#logger.debug({ err: error }, 'notes could not be brought to safety yet; their file stays')
    } finally {
      this.#rescuing.delete(segment)
    }
  }
}

/** @returns when the last of the notes may be forgotten; 0 if there is none. */
function readNotes(path: string, sizeBytes: number, newerThanMs: number, each: EachNote): number {
  const fd = fs.openSync(path, 'r')
  let untilMs = 0
  try {
    if (fs.fstatSync(fd).mtimeMs < newerThanMs) return 0
    for (const { header, bytes, offset } of scanFrames(fd, sizeBytes)) {
      if (!header.hasNotes) continue
      const entries = new EntryReader(bytes, offset, header.frameBytes)
      while (entries.next()) {
        if (entries.kind !== 'note' || entries.timeMs <= Date.now()) continue
        untilMs = Math.max(untilMs, entries.timeMs)
        each(entries.key() ?? '', bytes.subarray(entries.valueStart, entries.valueEnd), entries.timeMs)
      }
    }
    return untilMs
  } finally {
    fs.closeSync(fd)
  }
}

/** One frame with the notes of a segment that have time left. */
async function copyOfNotes(segment: Segment): Promise<Buffer> {
  const writer = new FrameWriter(Buffer.allocUnsafe(64 * 1024))
  const fd = fs.openSync(segment.path, 'r')
  try {
    let frames = 0
    for (const { header, bytes, offset } of scanFrames(fd, segment.sizeBytes)) {
      // Requests are answered in between.
      if (++frames % 16 === 0) await nextTurn()
      if (!header.hasNotes) continue
      const entries = new EntryReader(bytes, offset, header.frameBytes)
      while (entries.next()) {
        if (entries.kind !== 'note' || entries.timeMs <= earliestNowMs()) continue
        const { timeMs, valueStart, valueEnd, keyStart, keyEnd } = entries
        writer.append('note', timeMs, bytes, valueStart, valueEnd, bytes, keyStart, keyEnd)
      }
    }
    return writer.seal(segment.baseSeq)
  } finally {
    fs.closeSync(fd)
  }
}

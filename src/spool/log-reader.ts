import { EntryReader, frameHeaderBytes, isWhole, readFrameHeader, scanFramesLater } from './frame.ts'
import type { Disk } from './disk.ts'
import type { Segment } from './segment.ts'
import type { SpoolLog } from './spool-log.ts'

/**
 * How a read ended: with the entries of a frame; without entries, and with the number of the next record that may be read; or
 * with the code of the disk's error.
 */
export type ReadResult =
  | { readonly entries: EntryReader | null; readonly firstSeq: number }
  | { readonly failure: string }

/**
 * Reads a log back, frame by frame. Asks the disk for some hundred kilobytes at a time, and remembers its place. After damage
 * it goes on with the next frame that is whole.
 */
export class LogReader {
  readonly #log: SpoolLog
  readonly #disk: Disk
  #segment: Segment | null = null
  /** Where in the segment the next frame begins. */
  #position = 0
  /** The bytes of the segment that are in memory, from the position on. */
  #held: Buffer = nothing
  isReading = false
  /** When the first record that was not read yet was accepted. */
  nextTimeMs: number | null = null

  constructor(log: SpoolLog) {
    this.#log = log
    this.#disk = log.disk
  }

  /** A group was committed and stays on disk. If no group before it is still to be read, it is the next one. */
  left(firstTimeMs: number): void {
    this.nextTimeMs ??= firstTimeMs
  }

  /** Everything up to a place went to the producer from memory. The next read begins there. */
  skipTo(segment: Segment, position: number): void {
    this.#segment = segment
    this.#position = position
    this.#held = nothing
    this.nextTimeMs = null
  }

  /**
   * Reads the frame that begins with a committed record.
   * @param done is called later, with the entries of that frame. After damage it is called with the entries of a later frame,
   * or without entries and with the number of the record behind the damage.
   */
  read(seq: number, done: (result: ReadResult) => void): void {
    this.isReading = true
    const segment = this.#log.segmentOf(seq)!
    if (segment !== this.#segment) this.skipTo(segment, 0)
    const wanted = {
      segment,
      seq,
      done: (result: ReadResult): void => {
        this.isReading = false
        done(result)
      },
    }
    this.#next(wanted, frameHeaderBytes)
  }

  /** @param neededBytes how many bytes have to be in memory, unless the segment ends before. */
  #next(wanted: WantedFrame, neededBytes: number): void {
    const { segment, seq, done } = wanted
    const restBytes = segment.sizeBytes - this.#position
    if (this.#held.length < neededBytes && this.#held.length < restBytes) {
      const buffer = Buffer.allocUnsafe(Math.min(restBytes, Math.max(neededBytes, chunkBytes)))
      segment.read(buffer, this.#position, (error, read) => {
        if (error !== null) return done({ failure: error.code ?? error.message })
        const isProgress = read > this.#held.length
        this.#held = buffer.subarray(0, read)
        if (isProgress) this.#next(wanted, neededBytes)
        else void this.#resume(wanted)
      })
      return
    }
    const header = readFrameHeader(this.#held, 0)
    if (header === null) return void this.#resume(wanted)
    const isComplete = this.#held.length >= header.frameBytes
    if (!isComplete && header.frameBytes <= restBytes) {
      return this.#next(wanted, header.frameBytes)
    }
    if (!isComplete || !isWhole(this.#held, 0, header) || header.firstSeq > seq) {
      return void this.#resume(wanted)
    }
    const frame = this.#held
    this.#position += header.frameBytes
    this.#held = frame.subarray(header.frameBytes)
    // A frame that a failed write left behind: its numbers were given again.
    if (header.firstSeq < seq) return this.#next(wanted, frameHeaderBytes)
    const entries = new EntryReader(frame, 0, header.frameBytes)
    this.nextTimeMs = null
    setImmediate(done, { entries, firstSeq: seq })
  }

  /** Looks for the next whole frame behind damage. */
  async #resume({ segment, seq, done }: WantedFrame): Promise<void> {
    const position = this.#position
    this.#held = nothing
    this.nextTimeMs = null
    try {
      const fd = await new Promise<number>((resolve, reject) => {
        segment.open((error, opened) => (error === null ? resolve(opened) : reject(error)))
      })
      const range = { sizeBytes: segment.sizeBytes, position, seq, endSeq: segment.endSeq }
      for await (const { header, bytes, offset, position: found } of scanFramesLater(this.#disk, fd, range)) {
        if (header.firstSeq < seq) continue
        this.#position = found + header.frameBytes
        const frame = Buffer.from(bytes.subarray(offset, offset + header.frameBytes))
        const entries = new EntryReader(frame, 0, header.frameBytes)
        setImmediate(done, { entries, firstSeq: header.firstSeq })
        return
      }
      // What was committed meanwhile begins here, and was not looked at.
      this.#position = range.sizeBytes
      setImmediate(done, { entries: null, firstSeq: range.endSeq })
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      setImmediate(done, { failure: code ?? message })
    }
  }
}

/** The frame that a read is for: the frame of `segment` that begins with record `seq`. */
interface WantedFrame {
  readonly segment: Segment
  readonly seq: number
  readonly done: (result: ReadResult) => void
}

const nothing = Buffer.alloc(0)
const chunkBytes = 256 * 1024

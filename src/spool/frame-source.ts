import { EntryReader, frameHeaderBytes, isWhole, readFrameHeader } from './frame.ts'
import { scanFramesLater } from './scan-frames.ts'
import type { Disk } from './disk.ts'
import type { Segment } from './segment.ts'
import type { SpoolLog } from './spool-log.ts'

/** What a read ended with: the frame that holds a record, the next one that can be read, or why the disk gave nothing. */
export type ReadResult =
  | { readonly entries: EntryReader | null; readonly firstSeq: number }
  | { readonly failure: string }

/**
 * Reads a log back frame by frame, some hundred kilobytes at a time. Remembers where it is; after damage it goes on with
 * the next frame that is whole.
 */
export class FrameSource {
  readonly #log: SpoolLog
  readonly #disk: Disk
  #segment: Segment | null = null
  /** Where in the segment the next frame begins. */
  #position = 0
  /** What of the segment is in memory, from the position on. */
  #held: Buffer = nothing
  isReading = false
  /** When the next record that is not read yet was accepted. */
  nextTimeMs: number | null = null

  constructor(log: SpoolLog) {
    this.#log = log
    this.#disk = log.disk
  }

  /** A group stays on disk; it is the next one if nobody was left before it. */
  left(firstTimeMs: number): void {
    this.nextTimeMs ??= firstTimeMs
  }

  /** Everything up to here went another way. */
  skipTo(segment: Segment, position: number): void {
    this.#segment = segment
    this.#position = position
    this.#held = nothing
    this.nextTimeMs = null
  }

  /**
   * Reads the frame that begins with a record, which has been committed.
   * @param done is called later, with the entries of that frame; after damage with those of a later one, or with none and
   * the number of the record behind the damage.
   */
  read(seq: number, done: (result: ReadResult) => void): void {
    this.isReading = true
    const segment = this.#log.segmentOf(seq)!
    if (segment !== this.#segment) this.skipTo(segment, 0)
    this.#next(segment, seq, frameHeaderBytes, (result) => {
      this.isReading = false
      done(result)
    })
  }

  /** @param wanted how many bytes have to be there at least. */
  #next(segment: Segment, seq: number, wanted: number, done: (result: ReadResult) => void): void {
    const restBytes = segment.sizeBytes - this.#position
    if (this.#held.length < wanted && this.#held.length < restBytes) {
      const buffer = Buffer.allocUnsafe(Math.min(restBytes, Math.max(wanted, chunkBytes)))
      segment.read(buffer, this.#position, (error, read) => {
        if (error !== null) return done({ failure: error.code ?? error.message })
        const isProgress = read > this.#held.length
        this.#held = buffer.subarray(0, read)
        if (isProgress) this.#next(segment, seq, wanted, done)
        else void this.#resume(segment, seq, done)
      })
      return
    }
    const header = readFrameHeader(this.#held, 0)
    if (header === null) return void this.#resume(segment, seq, done)
    const isComplete = this.#held.length >= header.frameBytes
    if (!isComplete && header.frameBytes <= restBytes) {
      return this.#next(segment, seq, header.frameBytes, done)
    }
    if (!isComplete || !isWhole(this.#held, 0, header) || header.firstSeq > seq) {
      return void this.#resume(segment, seq, done)
    }
    const frame = this.#held
    this.#position += header.frameBytes
    this.#held = frame.subarray(header.frameBytes)
    // What is left of a write that failed has numbers that were given again.
    if (header.firstSeq < seq) return this.#next(segment, seq, frameHeaderBytes, done)
    const entries = new EntryReader(frame, 0, header.frameBytes)
    this.nextTimeMs = null
    setImmediate(done, { entries, firstSeq: seq })
  }

  /** Looks for the next whole frame behind damage. */
  async #resume(segment: Segment, seq: number, done: (result: ReadResult) => void): Promise<void> {
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
      this.#position = segment.sizeBytes
      setImmediate(done, { entries: null, firstSeq: segment.endSeq })
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      setImmediate(done, { failure: code ?? message })
    }
  }
}

const nothing = Buffer.alloc(0)
const chunkBytes = 256 * 1024

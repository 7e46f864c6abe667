import type { Disk } from './disk.ts'
import {
  entryHeaderBytes,
  findMagic,
  frameHeaderBytes,
  isWellFormed,
  isWhole,
  readFrameHeader,
  withLength,
  type FrameHeader,
} from './frame.ts'

/** A frame that was found in a file. */
export interface FoundFrame {
  readonly header: FrameHeader
  /** Holds the frame at `offset`; valid until the next one is asked for. */
  readonly bytes: Buffer
  readonly offset: number
  /** Where the frame begins in the file. */
  readonly position: number
}

/** What of a file is looked through. */
export interface ScanRange {
  /** Where the scan ends. */
  readonly sizeBytes: number
  /** Where the scan begins; 0 unless given. */
  readonly position?: number
  /** Number of the record that is expected at the position. */
  readonly seq: number
  /** Number of the first record that is not the file's: a frame that goes beyond was refused. None unless given. */
  readonly endSeq?: number
}

/**
 * Finds the whole frames of a file in order, and steps over what is none: damage, and the torn end that a crash leaves.
 * Reads step by step, so that a file of any size takes little memory. Waits for the disk.
 */
export function* scanFrames(disk: Disk, fd: number, range: ScanRange): Generator<FoundFrame, void> {
  const steps = scan(range)
  for (let step = steps.next(); step.done !== true;) {
    if ('header' in step.value) {
      yield step.value
      step = steps.next(0)
    } else step = steps.next(disk.readNow(fd, step.value.buffer, step.value.from))
  }
}

/** As {@link scanFrames}, and does not block. */
export async function* scanFramesLater(
  disk: Disk,
  fd: number,
  range: ScanRange,
): AsyncGenerator<FoundFrame, void> {
  const steps = scan(range)
  for (let step = steps.next(); step.done !== true;) {
    if ('header' in step.value) {
      yield step.value
      step = steps.next(0)
      continue
    }
    const { buffer, from } = step.value
    const read = await new Promise<number>((resolve, reject) => {
      disk.read(fd, buffer, from, (error, count) => (error === null ? resolve(count) : reject(error)))
    })
    step = steps.next(read)
  }
}

/** Asks for a read; the answer is how many bytes there were. */
interface ReadStep {
  readonly buffer: Buffer
  readonly from: number
}

/**
 * A record can hold the bytes of a frame that somebody else made up. So behind damage a frame counts only where a frame of
 * the log can be. Inside the bytes that the damaged frame's header claims, a frame counts only if the checksum of the damaged
 * frame is right for a length that ends there: then that length is all that is damaged. Behind these bytes, or where the header is gone
 * too, the frame must have a number that the damaged bytes have room for. Numbers begin at random (`find-segments.ts`), so
 * nobody outside can know which numbers these are.
 */
function* scan(range: ScanRange): Generator<ReadStep | FoundFrame, void, number> {
  const { sizeBytes, endSeq = Infinity } = range
  let held = Buffer.alloc(0)
  let position = range.position ?? 0
  let seq = range.seq
  /** Where damage began, and what its own header says; null: nothing is damaged here. */
  let damage: { from: number; header: FrameHeader | null } | null = null

  // Fetches more of the file behind what is held, until that is `wanted` bytes or the file ends.
  function* hold(wanted: number): Generator<ReadStep, boolean, number> {
    while (held.length < wanted) {
      const size = Math.min(sizeBytes - position, Math.max(wanted, stepBytes))
      if (size < wanted) return false
      const buffer = Buffer.allocUnsafe(size)
      held.copy(buffer)
      const read = yield { buffer: buffer.subarray(held.length), from: position + held.length }
      if (read === 0) return false
      held = buffer.subarray(0, held.length + read)
    }
    return true
  }

  // Whether a frame of the log can be here.
  function* isInPlace(header: FrameHeader): Generator<ReadStep, boolean, number> {
    if (header.firstSeq >= endSeq || header.firstSeq + header.recordCount > endSeq) return false
    if (damage === null) return header.firstSeq <= seq
    if (header.firstSeq < seq) return false
    const { from, header: lost } = damage
    if (lost === null || position >= from + lost.frameBytes)
      return header.firstSeq - seq <= (position - from) / entryHeaderBytes
    if (header.firstSeq !== lost.firstSeq + lost.recordCount) return false
    const frameBytes = position - from
    const frame = Buffer.alloc(frameBytes)
    if ((yield { buffer: frame, from }) < frameBytes) return false
    return isWhole(withLength(frame), 0, { ...lost, frameBytes })
  }

  while (yield* hold(frameHeaderBytes)) {
    const header = readFrameHeader(held, 0)
    if (
      header !== null &&
      (yield* isInPlace(header)) &&
      (yield* hold(header.frameBytes)) &&
      isWhole(held, 0, header) &&
      isWellFormed(held, 0, header)
    ) {
      damage = null
      seq = Math.max(seq, header.firstSeq + header.recordCount)
      yield { header, bytes: held, offset: 0, position }
      position += header.frameBytes
      held = held.subarray(header.frameBytes)
      continue
    }
    damage ??= { from: position, header: header?.firstSeq === seq ? header : null }
    const next = findMagic(held, 1)
    // The magic may begin in the last bytes that are held.
    const skip = next === -1 ? Math.max(1, held.length - 3) : next
    position += skip
    held = held.subarray(skip)
  }
}

const stepBytes = 256 * 1024

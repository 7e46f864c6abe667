import fs from 'node:fs'
import { findMagic, frameHeaderBytes, isWhole, readFrameHeader, type FrameHeader } from './frame.ts'

/** A frame that was found in a file. */
export interface FoundFrame {
  readonly header: FrameHeader
  /** Holds the frame at `offset`; valid until the next one is asked for. */
  readonly bytes: Buffer
  readonly offset: number
  /** Where the frame begins in the file. */
  readonly position: number
}

/**
 * Finds the whole frames of a file in order, and steps over what is none: damage, and the torn end that a crash leaves.
 * Reads step by step, so that a file of any size takes little memory.
 */
export function* scanFrames(fd: number, sizeBytes: number): Generator<FoundFrame, void> {
  let buffer = Buffer.allocUnsafe(Math.min(stepBytes, sizeBytes))
  let held = buffer.subarray(0, 0)
  let position = 0
  // Fetches more of the file behind what is held, until that is `wanted` bytes or the file ends.
  const hold = (wanted: number): boolean => {
    if (held.length >= wanted) return true
    const size = Math.min(sizeBytes - position, Math.max(wanted, stepBytes))
    if (size < wanted) return false
    if (buffer.length < size) buffer = Buffer.allocUnsafe(size)
    const read = fs.readSync(fd, buffer, 0, size, position)
    held = buffer.subarray(0, read)
    return read >= wanted
  }
  while (hold(frameHeaderBytes)) {
    const header = readFrameHeader(held, 0)
    if (header !== null && hold(header.frameBytes) && isWhole(held, 0, header)) {
      yield { header, bytes: held, offset: 0, position }
      position += header.frameBytes
      held = held.subarray(header.frameBytes)
      continue
    }
    const next = findMagic(held, 1)
    // The magic may begin in the last bytes that are held.
    const skip = next === -1 ? Math.max(1, held.length - 3) : next
    position += skip
    held = held.subarray(skip)
  }
}

const stepBytes = 256 * 1024

import type { Logger } from '../logger.ts'
import { readAcks, type DoneRecords } from './ack-file.ts'
import { realDisk, type Disk } from './disk.ts'
import { entryHeaderBytes } from './frame.ts'
import { scanFrames } from './scan-frames.ts'
import { acksPath, parseName, Segment, segmentName } from './segment.ts'

/**
 * Finds the log that another process left, and changes nothing of it. Only the newest file is read: how many records the
 * others have is in the names. So a start takes no longer after an outage of hours. What is not the spool's is named in the
 * log and left alone. Waits for the disk: nothing listens yet.
 */
export function findSegments(
  folder: string,
  stream: string,
  logger: Logger,
  disk: Disk = realDisk,
): Segment[] {
  const bases: number[] = []
  for (const { name, isFile } of disk.listNow(folder)) {
    const parsed = parseName(name)
    if (parsed === null || !isFile) tellStray(`${folder}/${name}`, stream, logger)
    else if (parsed.kind === 'log') bases.push(parsed.seq)
  }
  bases.sort((a, b) => a - b)
  if (bases.length > 0) bringToDisk(disk, folder, `${folder}/${segmentName(bases.at(-1)!)}`)
  return bases.map((baseSeq, nth) => {
    const path = `${folder}/${segmentName(baseSeq)}`
    const next = bases[nth + 1]
    const size = measure(disk, path, { baseSeq, nextSeq: next ?? null })
    const tornBytes = size.fileBytes - size.sizeBytes
    if (tornBytes > 0) {
      logger.warn(
        { stream, path, tornBytes },
        'the end of the spool was not written to its end and is left out: nobody was told that it was accepted',
      )
    }
    const done = readAcksOf(disk, path, { baseSeq, recordCount: size.recordCount, stream, logger })
    const segment = new Segment(disk, folder, baseSeq, done)
    segment.sizeBytes = size.sizeBytes
    segment.recordCount = size.recordCount
    segment.doneCount = done.count
    // A newest file without a record is written to before any other file is made: its number is the next one.
    segment.isSealed = next !== undefined || size.recordCount > 0
    return segment
  })
}

/**
 * What is found counts from now on, and may be with the kernel only: the process before it was killed before its sync.
 * Without this, a power cut would take what this life has built on.
 */
function bringToDisk(disk: Disk, ...paths: readonly string[]): void {
  for (const path of paths) {
    const fd = disk.openNow(path)
    try {
      disk.syncNow(fd)
    } finally {
      disk.closeNow(fd)
    }
  }
}

/** Says of a file or a folder that the spool does not use that it is left alone. */
export function tellStray(path: string, stream: string | null, logger: Logger): void {
  logger.warn(
    { ...(stream !== null && { stream }), path },
    'the spool does not use this, and leaves it alone',
  )
}

interface Size {
  readonly recordCount: number
  /** What of the file counts. */
  readonly sizeBytes: number
  readonly fileBytes: number
}

/**
 * How many records a file holds: those up to the next file's first, or as many as can be read in the newest. So it is in an
 * older file whose next one is much further on than the records of any file: then a name is not the spool's.
 */
function measure(
  disk: Disk,
  path: string,
  { baseSeq, nextSeq }: { baseSeq: number; nextSeq: number | null },
): Size {
  const fd = disk.openNow(path)
  try {
    const fileBytes = disk.statNow(fd).sizeBytes
    const mostRecords = Math.max(fileBytes, largestFileBytes) / entryHeaderBytes
    if (nextSeq !== null && nextSeq - baseSeq <= mostRecords)
      return { recordCount: fileBytes === 0 ? 0 : nextSeq - baseSeq, sizeBytes: fileBytes, fileBytes }
    let [recordCount, sizeBytes] = [0, 0]
    const range = { sizeBytes: fileBytes, seq: baseSeq, endSeq: nextSeq ?? Infinity }
    for (const { header, position } of scanFrames(disk, fd, range)) {
      // Numbers only grow; what is left of a write that failed has numbers that were given again.
      if (header.firstSeq < baseSeq + recordCount) continue
      recordCount = header.firstSeq + header.recordCount - baseSeq
      sizeBytes = position + header.frameBytes
    }
    return { recordCount, sizeBytes, fileBytes }
  } finally {
    disk.closeNow(fd)
  }
}

/** Acks that cannot be read cost duplicates, and no start. */
function readAcksOf(
  disk: Disk,
  path: string,
  of: { baseSeq: number; recordCount: number; stream: string; logger: Logger },
): DoneRecords {
  const { baseSeq, recordCount } = of
  let bytes = Buffer.alloc(0)
  try {
    const fd = disk.openNow(acksPath(path))
    try {
      bytes = Buffer.alloc(disk.statNow(fd).sizeBytes)
      bytes = bytes.subarray(0, disk.readNow(fd, bytes, 0))
    } finally {
      disk.closeNow(fd)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      of.logger.warn(
        { stream: of.stream, path: acksPath(path), err: error },
        'which records Kafka has could not be read: some may be sent twice',
      )
  }
  return readAcks(bytes, baseSeq, recordCount)
}

/** No file of the spool has grown beyond this, but for its last group. */
const largestFileBytes = 64 << 20

import type { Logger } from '../logger.ts'
import { readAcks, type DoneRecords } from './ack-file.ts'
import { realDisk, type Disk } from './disk.ts'
import { entryHeaderBytes } from './frame.ts'
import { scanFrames } from './scan-frames.ts'
import { acksPath, parseName, Segment, segmentName } from './segment.ts'

/**
 * Finds the log that another process left, and changes no byte of it. Only the newest file is read: how many records the
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
  const segments = bases.map((baseSeq, nth) => {
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
  const newest = segments.at(-1)
  if (newest !== undefined) bringToDisk(newest, { disk, folder, stream, logger })
  return segments
}

/**
 * Makes sure that what the newest file holds is on the disk, and the names of all files too: from now on these records count.
 * The process before this one may have been killed before its sync had ended, or after a sync that failed. After a failed
 * sync the kernel can hold bytes that are not on the disk and take them for clean, so that no later sync writes them
 * (fsyncgate, https://wiki.postgresql.org/wiki/Fsync_Errors). So the file's bytes are written once more, over themselves,
 * before the sync. Older files need none of this: each was synced before the next one was made.
 */
function bringToDisk(
  { path, sizeBytes }: Segment,
  { disk, folder, stream, logger }: { disk: Disk; folder: string; stream: string; logger: Logger },
): void {
  try {
    rewrite(disk, path, sizeBytes)
  } catch (error) {
    // A copy-on-write file system needs room even for this. Records that wait must go all the same: that makes room.
    logger.warn(
      { stream, path, err: error },
      'the newest file of the spool could not be written again: a power cut could take its last request, which had no answer',
    )
  }
  for (const each of [path, folder]) {
    const fd = disk.openNow(each, 'r')
    try {
      disk.syncNow(fd)
    } finally {
      disk.closeNow(fd)
    }
  }
}

/** Writes the first bytes of a file over themselves. */
function rewrite(disk: Disk, path: string, sizeBytes: number): void {
  if (sizeBytes === 0) return
  const fd = disk.openNow(path, 'r+')
  try {
    const buffer = Buffer.allocUnsafe(Math.min(sizeBytes, rewriteBytes))
    let position = 0
    while (position < sizeBytes) {
      const read = disk.readNow(fd, buffer.subarray(0, sizeBytes - position), position)
      const written = disk.writeNow(fd, buffer.subarray(0, read), position)
      if (written === 0) throw new Error('the disk took nothing')
      position += written
    }
  } finally {
    disk.closeNow(fd)
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
  const fd = disk.openNow(path, 'r')
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
    const fd = disk.openNow(acksPath(path), 'r')
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
/** How much of a file is written again at a time. */
const rewriteBytes = 1 << 20

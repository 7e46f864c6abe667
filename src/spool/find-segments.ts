import type { Logger } from '../logger.ts'
import { realDisk, type Disk } from './disk.ts'
import { entryHeaderBytes, scanFrames } from './frame.ts'
import { acksPath, parseName, readAcks, Segment, segmentName, type DoneRecords } from './segment.ts'

/**
 * Finds the segments that an earlier process left, and changes no byte of them. Only the newest segment is read: the names say
 * how many records the others have. So a start takes no longer after an outage of hours. Files that are not the spool's are
 * named in the gateway's log and left alone. Waits for the disk: nothing listens yet.
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
    // A newest segment without a record takes the next group: its number is the next one.
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

/** Logs that the spool does not use a file or a folder, and leaves it alone. */
export function tellStray(path: string, stream: string | null, logger: Logger): void {
  logger.warn(
    { ...(stream !== null && { stream }), path },
    'the spool does not use this, and leaves it alone',
  )
}

interface Size {
  readonly recordCount: number
  /** Size of what counts of the file, in bytes. */
  readonly sizeBytes: number
  readonly fileBytes: number
}

/**
 * Finds how many records a file holds. The records of a file end where those of the next file begin. The newest file is read.
 * An older file is read too if the number of the next file is further away than any file has records: then one of the two names
 * is not the spool's.
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
      // A frame that a failed write left behind: its numbers were given again.
      if (header.firstSeq < baseSeq + recordCount) continue
      recordCount = header.firstSeq + header.recordCount - baseSeq
      sizeBytes = position + header.frameBytes
    }
    return { recordCount, sizeBytes, fileBytes }
  } finally {
    disk.closeNow(fd)
  }
}

/** Reads the ack file of a segment. If it cannot be read, records are sent again, and the start goes on. */
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
      // The journal of this process leaves out what these files say. So a power cut must not take it back.
      if (bytes.length > 0) disk.syncNow(fd)
    } finally {
      disk.closeNow(fd)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      of.logger.warn(
        { stream: of.stream, path: acksPath(path), err: error },
        'which records Kafka has could not be read, or not be brought to the disk: some may be sent twice',
      )
  }
  return readAcks(bytes, baseSeq, recordCount)
}

/** No file of the spool has grown beyond this size by more than its last group. */
const largestFileBytes = 64 << 20
/** How much of a file is written again at a time. */
const rewriteBytes = 1 << 20

import fs from 'node:fs'
import type { Logger } from '../kafka/producer/producer.ts'
import { scanFrames } from './scan-frames.ts'
import { acksPath, baseSeqOf, Segment, segmentName } from './segment.ts'

/**
 * Finds the log that another process left. Only the newest file is read: how many records the others have is in the
 * names. So a start takes no longer after an outage of hours. Waits for the disk: nothing listens yet.
 */
export function findSegments(folder: string, stream: string, logger: Logger): Segment[] {
  const names = fs.readdirSync(folder)
  const bases = names.flatMap((name) => baseSeqOf(name) ?? []).toSorted((a, b) => a - b)
  for (const name of names) {
    const isOrphan = name.endsWith('.ack') && !names.includes(name.replace(/\.ack$/, '.log'))
    if (isOrphan) fs.rmSync(`${folder}/${name}`)
  }
  return bases.flatMap((baseSeq, nth) => {
    const path = `${folder}/${segmentName(baseSeq)}`
    const next = bases[nth + 1]
    if (next !== undefined) {
      const size = { recordCount: next - baseSeq, sizeBytes: fs.statSync(path).size }
      return Segment.found(folder, baseSeq, size)
    }
    const size = measure(path, baseSeq)
    const tornBytes = fs.statSync(path).size - size.sizeBytes
    if (tornBytes > 0) {
      logger.warn(
        { stream, path, tornBytes },
        'the end of the spool was not written to its end and is left out: nobody was told that it was accepted',
      )
    }
    if (size.recordCount > 0) return Segment.found(folder, baseSeq, size)
    fs.rmSync(path)
    fs.rmSync(acksPath(path), { force: true })
    return []
  })
}

/** How far a file holds whole frames. */
function measure(path: string, baseSeq: number): { recordCount: number; sizeBytes: number } {
  const fd = fs.openSync(path, 'r')
  try {
    let [recordCount, sizeBytes] = [0, 0]
    for (const { header, position } of scanFrames(fd, fs.fstatSync(fd).size)) {
      // Numbers only grow; what is left of a write that failed has numbers that were given again.
      if (header.firstSeq < baseSeq + recordCount) continue
      recordCount = header.firstSeq + header.recordCount - baseSeq
      sizeBytes = position + header.frameBytes
    }
    return { recordCount, sizeBytes }
  } finally {
    fs.closeSync(fd)
  }
}

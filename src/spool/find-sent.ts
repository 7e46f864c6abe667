import type { ResumedRecord } from '../kafka/producer/batch-journal.ts'
import type { Logger } from '../logger.ts'
import type { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import { recordSizeUpperBound } from '../kafka/producer/producer.ts'
import type { Disk } from './disk.ts'
import type { InnerProducer, ResumableBatch } from './feeder.ts'
import { EntryReader, scanFrames } from './frame.ts'
import { parseName, type Segment } from './segment.ts'
import { journalName } from './sent-journal.ts'
import { decodeJournal, Runs, type SentBatch } from './sent-batch.ts'
import type { SpoolLog } from './spool-log.ts'

/** The journal that an earlier process left. */
export interface FoundJournal {
  readonly paths: readonly string[]
  readonly nextNumber: number
  /** In the order in which they were sent. */
  readonly batches: readonly SentBatch[]
}

/** Reads the journal of sent batches: the newest file that has its first frame. Waits for the disk: nothing listens yet. */
export function findJournal(folder: string, disk: Disk, logger: Logger): FoundJournal {
  const numbers = disk
    .listNow(folder)
    .flatMap(({ name, isFile }) => {
      const parsed = isFile ? parseName(name) : null
      return parsed?.kind === 'sent' ? parsed.seq : []
    })
    .toSorted((one, other) => other - one)
  const paths = numbers.map((number) => `${folder}/${journalName(number)}`)
  const found = { paths, nextNumber: (numbers[0] ?? 0) + 1 }
  for (const path of paths) {
    try {
      const { isWhole, batches } = decodeJournal(readAll(path, disk))
      if (isWhole) return { ...found, batches }
    } catch (error) {
      logger.warn({ path, err: error }, 'a journal of sent batches cannot be read, and is left out')
    }
  }
  return { ...found, batches: [] }
}

/** What a start does with the batches of an earlier process. */
export interface SentBefore {
  /** Batches that Kafka may have or not. They are sent again as they were. */
  readonly inDoubt: readonly { readonly batch: SentBatch; readonly records: readonly ResumedRecord[] }[]
  /** Batches that are done, though the ack files do not say so of all their records. */
  readonly done: readonly SentBatch[]
  /** Numbers of the records of {@link done} that no ack file has. */
  readonly doneSeqs: readonly number[]
  /** Batches whose records cannot be read back, or whose parts went on alone. Kafka may have them, and nobody can ask: their records go in new batches. */
  readonly lost: readonly SentBatch[]
}

/**
 * Finds out which batches of the journal have records that are still in the log, and what becomes of each of these batches.
 *
 * A batch does not count if a later one has one of its records: a batch that was split, or that got another identity, is in the
 * journal once more. It does not count for a record that was accepted later than the batch's maximal timestamp.
 *
 * The records of a batch end together, and one write says so to each ack file, whole or not at all, but for a kill or a power cut in the midst of it. So if some records of a batch are done and others in another file are not,
 * all of them are. If one file has both, the batch was split or its partition left, and the journal does not have its parts, since the disk refused: the
 * others may never have been sent.
 */
export function resolveSent(batches: readonly SentBatch[], log: SpoolLog, disk: Disk): SentBefore {
  if (log.pendingRecords === 0) return { inDoubt: [], done: [], doneSeqs: [], lost: [] }
  const [open, done] = sortOut(batches)
  const isPending = (seq: number): boolean => {
    const segment = log.segmentOf(seq)
    return segment !== null && !segment.wasDone(seq)
  }
  const inDoubt: SentBatch[] = []
  const lost: SentBatch[] = []
  for (const batch of open) {
    const pending = seqsOf(batch, log).filter(isPending).length
    // Without fsync a power cut can take the end of the log and leave the journal.
    if (batch.runs.some(([first, count]) => first + count > log.nextSeq)) lost.push(batch)
    else if (pending === batch.recordCount) inDoubt.push(batch)
    else if (pending > 0) (isMixed(batch, log) ? lost : done).push(batch)
  }
  const doneSeqs = new Map(
    done.flatMap((batch) =>
      seqsOf(batch, log)
        .filter(isPending)
        .map((seq) => [seq, batch] as const),
    ),
  )
  const wanted = new Set([...inDoubt.flatMap((batch) => seqsOf(batch, log)), ...doneSeqs.keys()])
  const records = readRecords(disk, log.segments, wanted)
  const isOf = (batch: SentBatch, seq: number): boolean => {
    const timestampMs = records.get(seq)?.timestampMs ?? Infinity
    return timestampMs <= batch.maxTimestampMs
  }
  const whole = inDoubt.filter((batch) => seqsOf(batch, log).every((seq) => isOf(batch, seq)))
  const certain = [...doneSeqs].filter(([seq, batch]) => isOf(batch, seq))
  return {
    inDoubt: whole.map((batch) => ({ batch, records: seqsOf(batch, log).map((seq) => records.get(seq)!) })),
    done: [...new Set(certain.map(([, batch]) => batch))],
    doneSeqs: certain.map(([seq]) => seq),
    lost: [...lost, ...inDoubt.filter((batch) => !whole.includes(batch))],
  }
}

/**
 * Takes room in the producer's buffer for the batches that are sent again.
 * @param refused is given each batch that there is no room for. Its records go in new batches.
 */
export function reserveSent(
  { inDoubt }: SentBefore,
  producer: InnerProducer,
  refused: (batch: SentBatch) => void,
): ResumableBatch[] {
  return inDoubt.flatMap(({ batch, records }) => {
    const headerBytes = batch.firstHeaders?.length ?? 0
    const chargedBytes = records.reduce(
      (sum, { key, value, headers }) =>
        sum + recordSizeUpperBound(key?.length ?? 0, value.length, headerBytes + (headers?.length ?? 0)),
      0,
    )
    if (!producer.reserve(chargedBytes)) {
      refused(batch)
      return []
    }
    const runs = new Runs()
    for (const [first, count] of batch.runs) runs.addRun(first, count)
    return [{ batch: { ...batch, chargedBytes, records }, runs }]
  })
}

/** Finds the last batch of each partition, and the batches that are done. */
function sortOut(batches: readonly SentBatch[]): [open: SentBatch[], done: SentBatch[]] {
  const last = new Map<number, SentBatch>()
  const done: SentBatch[] = []
  for (const batch of batches) {
    const previous = last.get(batch.partition)
    if (batch.isPreviousDone && previous !== undefined && !isSame(previous, batch)) done.push(previous)
    if (batch.isDone) done.push(batch)
    else last.set(batch.partition, batch)
  }
  const open = [...last.values()]
  const rank = new Map(batches.map((batch, nth) => [batch, nth]))
  const isSuperseded = (batch: SentBatch): boolean =>
    open.some((other) => rank.get(other)! > rank.get(batch)! && overlap(batch, other)) ||
    done.some((other) => rank.get(other)! > rank.get(batch)! && overlap(batch, other))
  return [open.filter((batch) => !isSuperseded(batch)), done]
}

function isSame(one: SentBatch, other: SentBatch): boolean {
  return (
    one.producerId === other.producerId &&
    one.epoch === other.epoch &&
    one.baseSequence === other.baseSequence
  )
}

/** Whether two batches have a record in common. */
function overlap(one: SentBatch, other: SentBatch): boolean {
  const runs = one.runs.toSorted(([a], [b]) => a - b)
  const otherRuns = other.runs.toSorted(([a], [b]) => a - b)
  let [i, j] = [0, 0]
  while (i < runs.length && j < otherRuns.length) {
    const [first, count] = runs[i]!
    const [otherFirst, otherCount] = otherRuns[j]!
    if (first + count <= otherFirst) i++
    else if (otherFirst + otherCount <= first) j++
    else return true
  }
  return false
}

/** Numbers of those records of a batch that the log can have. */
function seqsOf({ runs }: SentBatch, log: SpoolLog): number[] {
  const seqs: number[] = []
  for (const [first, count] of runs) {
    const end = Math.min(first + count, log.nextSeq)
    for (let seq = Math.max(first, log.firstSeq); seq < end; seq++) seqs.push(seq)
  }
  return seqs
}

/** Whether one file has some records of a batch as done, and others not. */
function isMixed(batch: SentBatch, log: SpoolLog): boolean {
  const wasDone = new Map<Segment, boolean>()
  return seqsOf(batch, log).some((seq) => {
    const segment = log.segmentOf(seq)
    if (segment === null) return false
    const isDone = segment.wasDone(seq)
    const first = wasDone.get(segment) ?? isDone
    wasDone.set(segment, first)
    return isDone !== first
  })
}

/** Reads records back. Each gets bytes of its own. A record that cannot be read is missing in the result. */
function readRecords(
  disk: Disk,
  segments: readonly Segment[],
  wanted: ReadonlySet<number>,
): Map<number, ResumedRecord> {
  const records = new Map<number, ResumedRecord>()
  const ascending = [...wanted].toSorted((one, other) => one - other)
  for (const segment of segments) {
    const here = ascending.filter((seq) => seq >= segment.baseSeq && seq < segment.endSeq)
    if (here.length > 0) readSegment(disk, segment, { wanted, until: here.at(-1)!, records })
  }
  return records
}

function readSegment(
  disk: Disk,
  segment: Segment,
  {
    wanted,
    until,
    records,
  }: { wanted: ReadonlySet<number>; until: number; records: Map<number, ResumedRecord> },
): void {
  const fd = disk.openNow(segment.path, 'r')
  try {
    let next = segment.baseSeq
    const range = { sizeBytes: segment.sizeBytes, seq: segment.baseSeq, endSeq: segment.endSeq }
    for (const { header, bytes, offset } of scanFrames(disk, fd, range)) {
      // A frame that a failed write left behind: its numbers were given again.
      if (header.firstSeq < next) continue
      if (header.firstSeq > until) return
      next = header.firstSeq + header.recordCount
      const entries = new EntryReader(bytes, offset, header.frameBytes)
      for (let seq = header.firstSeq; entries.next();) {
        if (entries.kind !== 'record') continue
        if (wanted.has(seq)) records.set(seq, copyOf(entries.record))
        seq++
      }
    }
  } finally {
    disk.closeNow(fd)
  }
}

function copyOf(record: RecordBytes): ResumedRecord {
  const { body, start, end, key, keyStart, keyEnd, headers, timestampMs } = record
  return {
    timestampMs,
    headers: headers === null ? null : Buffer.from(headers),
    key: key === null ? null : Buffer.from(key.subarray(keyStart, keyEnd)),
    value: Buffer.from(body.subarray(start, end)),
  }
}

function readAll(path: string, disk: Disk): Buffer {
  const fd = disk.openNow(path, 'r')
  try {
    const bytes = Buffer.alloc(disk.statNow(fd).sizeBytes)
    return bytes.subarray(0, disk.readNow(fd, bytes, 0))
  } finally {
    disk.closeNow(fd)
  }
}

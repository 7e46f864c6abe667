import type { ResumedRecord } from '../kafka/producer/batch-journal.ts'
import type { Logger } from '../logger.ts'
import type { RecordBytes } from '../kafka/protocol/record-bytes.ts'
import type { Disk } from './disk.ts'
import { EntryReader } from './frame.ts'
import { scanFrames } from './scan-frames.ts'
import { parseName, type Segment } from './segment.ts'
import { journalName } from './sent-journal.ts'
import { decodeFrames, type SentNote } from './sent-note.ts'
import type { SpoolLog } from './spool-log.ts'

/** What the journal of an earlier process has. */
export interface FoundJournal {
  readonly paths: readonly string[]
  readonly nextNumber: number
  /** In the order in which they were made. */
  readonly notes: readonly SentNote[]
}

/** Reads the journal of sent batches: the newest file that has its beginning. Waits for the disk: nothing listens yet. */
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
      const { isWhole, notes } = decodeFrames(readAll(path, disk))
      if (isWhole) return { ...found, notes }
    } catch (error) {
      logger.warn({ path, err: error }, 'a journal of sent batches cannot be read, and is left out')
    }
  }
  return { ...found, notes: [] }
}

/** What is to be made of an earlier process's notes. */
export interface SentBefore {
  /** Batches that Kafka may have or not: they are to be sent again as they were. */
  readonly inDoubt: readonly { readonly note: SentNote; readonly records: readonly ResumedRecord[] }[]
  /** Notes of batches that are done, though acks do not say it of all their records. */
  readonly done: readonly SentNote[]
  /** Numbers of these records. */
  readonly doneSeqs: readonly number[]
  /** Notes of batches whose records cannot be read back: Kafka may have them, and nobody can ask. */
  readonly lost: readonly SentNote[]
}

/**
 * Finds out what the notes say of the records that are still in the log. A note counts for no record that was accepted later
 * than the note says, and only where no later note has one of them: a batch that was split, or got another identity, has
 * another note. Where some records of a batch are done, all are: a batch ends as one.
 */
export function resolveNotes(notes: readonly SentNote[], log: SpoolLog, disk: Disk): SentBefore {
  if (log.pendingRecords === 0) return { inDoubt: [], done: [], doneSeqs: [], lost: [] }
  const [open, done] = sortOut(notes)
  const isPending = (seq: number): boolean => {
    const segment = log.segmentOf(seq)
    return segment !== null && !segment.wasDone(seq)
  }
  const inDoubt: SentNote[] = []
  const lost: SentNote[] = []
  for (const note of open) {
    const pending = seqsOf(note, log).filter(isPending).length
    // Without fsync a power cut can take the end of the log, and leave the journal.
    if (note.runs.some(([first, count]) => first + count > log.nextSeq)) lost.push(note)
    else if (pending === note.recordCount) inDoubt.push(note)
    else if (pending > 0) done.push(note)
  }
  const doneSeqs = new Map(
    done.flatMap((note) =>
      seqsOf(note, log)
        .filter(isPending)
        .map((seq) => [seq, note] as const),
    ),
  )
  const wanted = new Set([...inDoubt.flatMap((note) => seqsOf(note, log)), ...doneSeqs.keys()])
  const records = readRecords(disk, log.segments, wanted)
  const isOf = (note: SentNote, seq: number): boolean => {
    const timestampMs = records.get(seq)?.timestampMs ?? Infinity
    return timestampMs <= note.maxTimestampMs
  }
  const whole = inDoubt.filter((note) => seqsOf(note, log).every((seq) => isOf(note, seq)))
  const certain = [...doneSeqs].filter(([seq, note]) => isOf(note, seq))
  return {
    inDoubt: whole.map((note) => ({ note, records: seqsOf(note, log).map((seq) => records.get(seq)!) })),
    done: [...new Set(certain.map(([, note]) => note))],
    doneSeqs: certain.map(([seq]) => seq),
    lost: [...lost, ...inDoubt.filter((note) => !whole.includes(note))],
  }
}

/** The last note of each partition, and those of batches that are done. */
function sortOut(notes: readonly SentNote[]): [open: SentNote[], done: SentNote[]] {
  const last = new Map<number, SentNote>()
  const done: SentNote[] = []
  for (const note of notes) {
    const previous = last.get(note.partition)
    if (note.isPreviousDone && previous !== undefined && !isSame(previous, note)) done.push(previous)
    if (note.isDone) done.push(note)
    else last.set(note.partition, note)
  }
  const open = [...last.values()]
  const rank = new Map(notes.map((note, nth) => [note, nth]))
  const isSuperseded = (note: SentNote): boolean =>
    open.some((other) => rank.get(other)! > rank.get(note)! && overlap(note, other)) ||
    done.some((other) => rank.get(other)! > rank.get(note)! && overlap(note, other))
  return [open.filter((note) => !isSuperseded(note)), done]
}

function isSame(one: SentNote, other: SentNote): boolean {
  return (
    one.producerId === other.producerId &&
    one.epoch === other.epoch &&
    one.baseSequence === other.baseSequence
  )
}

/** Whether two notes have a record in common. */
function overlap(one: SentNote, other: SentNote): boolean {
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

/** Numbers of a note's records that the log can have. */
function seqsOf({ runs }: SentNote, log: SpoolLog): number[] {
  const seqs: number[] = []
  for (const [first, count] of runs) {
    const end = Math.min(first + count, log.nextSeq)
    for (let seq = Math.max(first, log.firstSeq); seq < end; seq++) seqs.push(seq)
  }
  return seqs
}

/** Reads records back, each with bytes of its own. What cannot be read is missing. */
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
      // What is left of a write that failed has numbers that were given again.
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

function copyOf({ body, start, end, key, keyStart, keyEnd, timestampMs }: RecordBytes): ResumedRecord {
  return {
    timestampMs,
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

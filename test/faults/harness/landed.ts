import { TopicAudit } from '../../../src/kafka/audit/topic-audit.ts'
import { eachRecord } from '../../support/independent-reader.ts'
import type { DeviceLoad } from './device-load.ts'

/** What is in a topic of what a load sent, as an independent reader found it. */
export interface Landed {
  /** Accepted events that are in the topic. */
  readonly landed: number
  /** Accepted events that are not. */
  readonly lost: number
  /** Events of which the client was told nothing, and which are in the topic. */
  readonly unansweredLanded: number
  /** Records beyond the first of an event. */
  readonly duplicates: number
  /** Records that stand behind a later event of their key. */
  readonly reordered: number
  /** Events that are in the topic though they were refused. */
  readonly ghosts: number
  /** When records were appended, by partition: ascending, in milliseconds since the epoch. The topic says LogAppendTime. Empty partitions are left out. */
  readonly appendTimes: ReadonlyMap<number, readonly number[]>
  /** The same records by their numbers in `chute-audit`, which know nothing of the load. */
  readonly audit: TopicAudit
}

/** Reads the topic from its beginning and holds it against what the load was told. */
export async function readLanded(broker: string, topic: string, load: DeviceLoad): Promise<Landed> {
  const seen = new Uint8Array(load.sent)
  const lastOfKey = new Map<string, number>()
  const appendTimes = new Map<number, number[]>()
  // The topic is the run's own: nothing of it is gone.
  const audit = new TopicAudit(topic, new Map())
  let duplicates = 0
  let reordered = 0
  await eachRecord(broker, topic, (record) => {
    const { partition, value, timestampMs } = record
    audit.take(record)
    const { value: number, source } = JSON.parse(value.toString()) as { value: number; source: string }
    if (seen[number]!++ > 0) duplicates++
    else if (number < (lastOfKey.get(source) ?? -1)) reordered++
    else lastOfKey.set(source, number)
    const times = appendTimes.get(partition) ?? []
    if (times.length === 0) appendTimes.set(partition, times)
    if (times.at(-1) !== timestampMs) times.push(timestampMs)
  })
  const found = { landed: 0, lost: 0, unansweredLanded: 0, ghosts: 0 }
  seen.forEach((count, number) => {
    const answer = load.answerOf(number)
    if (answer === 'accepted') found[count > 0 ? 'landed' : 'lost']++
    else if (count > 0) found[answer === 'none' ? 'unansweredLanded' : 'ghosts']++
  })
  return { ...found, duplicates, reordered, appendTimes, audit }
}

/** When each partition had its first append at or after a moment; the last of these, or null if one had none. */
export function allAppendedSince({ appendTimes }: Landed, epochMs: number): number | null {
  const last = Math.max(
    ...[...appendTimes.values()].map((times) => times.find((time) => time >= epochMs) ?? Infinity),
  )
  return Number.isFinite(last) ? last : null
}

/** The longest time between two appends within a window, by partition. Its ends count as appends. */
export function longestGaps(
  { appendTimes }: Landed,
  fromEpochMs: number,
  toEpochMs: number,
): Map<number, number> {
  const gaps = new Map<number, number>()
  for (const [partition, times] of appendTimes) {
    const within = times.filter((time) => time > fromEpochMs && time < toEpochMs)
    const moments = [fromEpochMs, ...within, toEpochMs]
    const lengths = moments.slice(1).map((time, index) => time - moments[index]!)
    gaps.set(partition, Math.round(Math.max(...lengths)))
  }
  return gaps
}

import { quoted } from '../errors.ts'
import type { EventError } from './rejected-events.ts'

/** What an event is judged by beside its schema: its size, its id, and its source. */

/** What one event, and one request, may be at most. */
export interface EventLimits {
  /** Of one event's JSON, in bytes. */
  readonly eventBytes: number
  readonly eventsPerRequest: number
  /** Nesting of one event's JSON. */
  readonly depth: number
}

/** What a good event with an id is told by: its identity, and a digest of its bytes. */
export interface ToldEvent {
  readonly id: string
  /** A text, or a number as it is written. Empty: the event has none. */
  readonly source: string
  readonly digest: string
}

/** What becomes of a good event: it is written; it was accepted before; its id was accepted before with other content. `Fate` of dedupe/claim-round.ts has the same members. */
export type EventFate = 'new' | 'seen' | 'conflict'

/** Names that a sender may claim: as the `source` of an event, and as the key of a record where the stream takes the key from the client. */
export interface AllowedSources {
  has(source: string): boolean
}

/** Whether an event has no source, or one that its sender may claim. A source that is no text is none of these. */
export function claimsOnly(sources: AllowedSources, event: unknown): boolean {
  if (typeof event !== 'object' || event === null || !Object.hasOwn(event, 'source')) return true
  const { source } = event as { readonly source: unknown }
  return typeof source === 'string' && sources.has(source)
}

/** Why an event is refused whose sender may not claim its source. What came is cut and escaped. */
export function notClaimed(event: unknown): string {
  const { source } = event as { readonly source: unknown }
  const came = typeof source === 'string' ? quoted(source) : 'what is no text'
  return `${came} is not a source that the key of the request may claim`
}

/** Why an event is refused whose sender may not claim the key of its record. */
export function notClaimedAsKey(key: string): string {
  return `${quoted(key)} would be the key of the record, and is not a source that the key of the request may claim`
}

/** The error of an event whose id was accepted with other content. */
export function conflictOf(index: number, told: ToldEvent | null): EventError {
  const source =
    told === null || told.source === '' ? '' : ` of source ${JSON.stringify(told.source.slice(0, 255))}`
  const detail = `the id ${JSON.stringify(told?.id)}${source} stands for an event with other content, which was accepted; give each event an id of its own, and send the same content with it each time`
  return { index, code: 'id_conflict', detail, pointer: '/id' }
}

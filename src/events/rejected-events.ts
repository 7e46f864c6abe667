import type { ErrorCode } from '../errors.ts'
import { shortPointer } from './json-flaw.ts'

/** One event of a request that was refused, as the reply lists it. */
export interface EventError {
  /** Place of the event in the request, from 0. Blank lines of NDJSON are not events. */
  readonly index: number
  readonly code: ErrorCode
  readonly detail: string
  /** Where in the event (RFC 6901); the empty pointer is the event itself. */
  readonly pointer: string
}

/** A refused event whose bytes somebody wants: its place in the body, and why it was refused. */
export interface KeptEvent {
  readonly start: number
  readonly end: number
  readonly code: ErrorCode
  /** What the reply says of the event; null: the reply does not list the event, and only the code is known. */
  readonly error: EventError | null
}

/** Errors that a reply lists; the others are counted. */
export const maxListedErrors = 100

/** The refused events of one request. It is made with the first of them: most requests have none. */
export class RejectedEvents {
  count = 0
  readonly byCode = new Map<ErrorCode, number>()
  /** The first {@link maxListedErrors}, in the order of the request. */
  readonly errors: EventError[] = []
  /** The first refused events, as many as were asked for. */
  readonly kept: KeptEvent[] = []
  readonly #keeps: number

  /** @param keeps the most events whose places are kept. */
  constructor(keeps: number) {
    this.#keeps = keeps
  }

  /** Takes a refused event, with its range in the body. The `detail` and `pointer` of an event count only where the event is listed. */
  add({ index, code, detail, pointer }: EventError, start: number, end: number): void {
    this.#count(code)
    let error: EventError | null = null
    if (this.errors.length < maxListedErrors) {
      error = { index, code, detail: detail.slice(0, maxDetailLength), pointer: shortPointer(pointer) }
      this.errors.push(error)
    }
    if (this.kept.length < this.#keeps) this.kept.push({ start, end, code, error })
  }

  /** Takes an event that is refused after all others were looked at. {@link sort} has to follow. @param error null: it cannot be listed. */
  addLate(code: ErrorCode, error: EventError | null, start: number, end: number): void {
    this.#count(code)
    if (error !== null) this.errors.push(error)
    if (this.kept.length < this.#keeps) this.kept.push({ start, end, code, error })
  }

  /** Brings the listed errors into the order of the request, and leaves out those that are too many. */
  sort(): void {
    this.errors.sort((one, other) => one.index - other.index)
    this.errors.length = Math.min(this.errors.length, maxListedErrors)
  }

  #count(code: ErrorCode): void {
    this.count++
    this.byCode.set(code, (this.byCode.get(code) ?? 0) + 1)
  }
}

/** A JSON Schema's error can have a key of the event in it. */
const maxDetailLength = 1_024

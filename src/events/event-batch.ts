import { hash } from 'node:crypto'
import { GatewayError, type ErrorCode } from '../errors.ts'
import type { JsonCheck } from './check-json.ts'
import type { DecodingLeft, EventSink } from './decode.ts'
import { EventRanges } from './event-ranges.ts'
import { identityOf, keyOf, type EventSchema } from './event-schema.ts'
import {
  claimsOnly,
  conflictOf,
  notClaimed,
  notClaimedAsKey,
  type AllowedSources,
  type EventLimits,
  type EventFate,
  type ToldEvent,
} from './judged-event.ts'
import type { ChosenKey } from './chosen-key.ts'
import type { EventTopics } from './chosen-topic.ts'
import type { TelemetryScanner } from './scan-telemetry.ts'
import { codeOfFlaw, describeFlaw, findFlaw, type JsonFlaw } from './json-flaw.ts'
import { PointerSearch } from './pointer-search.ts'
import { maxListedErrors, RejectedEvents, type EventError, type KeptEvent } from './rejected-events.ts'

/**
 * The events of one request: each is either good, with its bytes and key, or rejected, with a code. Always: received =
 * good + rejected.
 */
export class EventBatch implements EventSink {
  readonly body: Buffer
  /** The own headers of each record, encoded; null: the records have none. */
  readonly headers: Buffer | null
  /** The good events that are to be written. */
  readonly ranges = new EventRanges()
  /** Places of the good events in the request; null as long as none was rejected, for then they are 0, 1, 2… */
  indexes: number[] | null = null
  /** What the good events are told by, null for one without an id; null as long as none has one, or nobody asks. */
  told: (ToldEvent | null)[] | null = null
  received = 0
  /** Places in the request of good events that were accepted before, and are not to be written again. */
  duplicates: readonly number[] = noDuplicates
  /** Where those events went: the places of their topics. */
  duplicateTopics: readonly number[] = noDuplicates
  #rejected: RejectedEvents | null = null
  /** The place of the event that is looked at, where it is not told from its bytes alone. */
  #start = 0
  #end = 0
  /** As much of the body as one scan may go over. */
  #scanned: Buffer
  /** Where the last event begins that has enough of {@link #scanned} behind it. */
  #slideFrom: number
  readonly #schema: EventSchema
  readonly #limits: EventLimits
  /** What the topic of the event takes that is looked at. {@link #largestRecordBytes}: what some topic of the stream takes. */
  #maxRecordBytes: number
  readonly #largestRecordBytes: number
  #needsKey: boolean
  readonly #rejectsKeyless: boolean
  /** null: the stream has one topic. */
  readonly #topics: EventTopics | null
  #topic = 0
  readonly #key: ChosenKey | null
  readonly #collectIds: boolean
  /** Finds sources that are numbers; null as long as there is none. */
  #sourceSearch: PointerSearch | null = null
  readonly #sources: AllowedSources | null
  readonly #keepsRejected: number

  /**
   * @param options.collectIds somebody tells duplicates by them.
   * @param options.maxRecordBytes key, value and own headers of a record together, as the topic takes them; the most of several topics.
   * @param options.sources the values of `source`, and of a key that the client gives, that the sender may claim; left out: any.
   * @param options.needsKey the topic takes no record without a key.
   * @param options.topics of a stream with several.
   * @param options.rejectsKeyless the stream takes no event without a key.
   * @param options.keepsRejected of so many rejected events the places are kept; left out: of none.
   * @param options.key finds the keys; null for the events' own `source`.
   */
  constructor(
    body: Buffer,
    options: {
      schema: EventSchema
      limits: EventLimits
      maxRecordBytes: number
      needsKey?: boolean
      rejectsKeyless?: boolean
      key?: ChosenKey | null
      headers?: Buffer | null
      collectIds?: boolean
      sources?: AllowedSources | null
      keepsRejected?: number
      topics?: EventTopics | null
    },
  ) {
    this.body = body
    this.#scanned = body
    this.#slideFrom = body.length
    if (body.length > 2 * scannedWholeBytes) this.#slide(0)
    this.#schema = options.schema
    this.#limits = options.limits
    this.headers = options.headers ?? null
    this.#maxRecordBytes = this.#largestRecordBytes = options.maxRecordBytes - (this.headers?.length ?? 0)
    this.#needsKey = options.needsKey ?? false
    this.#rejectsKeyless = options.rejectsKeyless ?? false
    this.#topics = options.topics ?? null
    this.#key = options.key ?? null
    if (this.#key !== null) this.ranges.keyHolder = this.#key.holder
    this.#collectIds = options.collectIds ?? false
    this.#sources = options.sources ?? null
    this.#keepsRejected = options.keepsRejected ?? 0
  }

  /** Number of good events that are to be written. */
  get good(): number {
    return this.ranges.count
  }

  /** Number of events that the reply calls accepted: those to be written, and those that were written before. */
  get accepted(): number {
    return this.ranges.count + this.duplicates.length
  }

  /** Number of rejected events. */
  get rejected(): number {
    return this.#rejected?.count ?? 0
  }

  /** How many were rejected, by code. */
  get rejectedByCode(): ReadonlyMap<ErrorCode, number> {
    return this.#rejected?.byCode ?? noRejections
  }

  /** The first {@link maxListedErrors} of the rejected events. */
  get errors(): readonly EventError[] {
    return this.#rejected?.errors ?? noErrors
  }

  /** The first of the rejected events, with their places in the body. */
  get keptRejected(): readonly KeptEvent[] {
    return this.#rejected?.kept ?? noneKept
  }

  /** @inheritdoc */
  scan(start: number): number {
    const { scanner } = this.#schema
    if (scanner === null || this.received === this.#limits.eventsPerRequest) return -1
    if (start > this.#slideFrom) this.#slide(start)
    const end = scanner.scan(this.#scanned, start, this.#limits.depth)
    if (end === -1) return -1
    if (this.#sources !== null && !this.#mayClaim(scanner)) return -1
    if (this.#topics !== null) this.#choose(this.#topics, start)
    const keyBytes = this.#key === null ? scanner.sourceEnd - scanner.sourceStart : this.#findKey(start)
    if (keyBytes === 0 ? this.#needsKey || this.#rejectsKeyless : keyBytes === -1) return -1
    if (keyBytes > 0 && this.#key !== null && this.#sources !== null && !this.#mayHaveKey(this.#key))
      return -1
    return end - start <= this.#limitBytes(keyBytes) ? end : -1
  }

  /** @inheritdoc */
  scanned(start: number, end: number): void {
    this.received++
    this.#note(null)
    if (this.#key === null) {
      const { sourceStart, sourceEnd } = this.#schema.scanner!
      this.ranges.add(start, end, sourceStart, sourceEnd)
    } else {
      this.ranges.add(start, end, this.#key.start, this.#key.end)
    }
    if (this.#topics !== null) this.ranges.goesTo(this.#topic)
  }

  /** @inheritdoc */
  restart(): void {
    this.received = 0
    this.ranges.clear()
    this.told = null
  }

  /** @inheritdoc */
  event(value: unknown, start: number, end: number): void {
    this.#receive(start, end)
    const flaw = findFlaw(value, this.#limits.depth)
    if (flaw === null) this.#take(value, start, end)
    else this.#rejectFlawed(flaw)
  }

  /** @inheritdoc */
  largeEvent(check: JsonCheck, start: number, end: number, sliceBytes: number): DecodingLeft | undefined {
    this.#receive(start, end)
    this.#maxRecordBytes = this.#largestRecordBytes
    const flaw = check.levels > this.#limits.depth ? 'too_deep' : check.flaw
    if (flaw !== null) this.#rejectFlawed(flaw)
    else if (end - start > this.#limitBytes(0)) this.#rejectLarge(end - start, this.#limitBytes(0))
    else {
      const tooComplex = this.#schema.refuseLarge(check)
      if (tooComplex === null) return this.#takeLarge(start, end, sliceBytes)
      this.#reject('too_complex', tooComplex, '')
    }
    return undefined
  }

  #takeLarge(start: number, end: number, sliceBytes: number): DecodingLeft | undefined {
    const parts = this.#schema.valueOf(this.body, start, end, sliceBytes)
    const search = this.#key?.searchLater(this.body, start, sliceBytes) ?? null
    const topicSearch = this.#topics?.choice.searchLater(this.body, start, sliceBytes) ?? null
    const goOn = (): DecodingLeft | undefined => {
      if (search?.goOn() === false || topicSearch?.goOn() === false) return goOn
      const { done, value } = parts.next()
      if (done !== true) return goOn
      const sourceSearch = this.#searchNumber(value, start, sliceBytes)
      const take = (): DecodingLeft | undefined =>
        sourceSearch?.goOn() === false
          ? take
          : this.#take(value, start, end, search, topicSearch, sourceSearch)
      return sliceBytes === Infinity ? take() : take
    }
    return goOn()
  }

  /**
   * @param search has found the key, where that takes long, `topicSearch` the value that chooses the topic, and `sourceSearch` a source that
   * is a number.
   */
  #take(
    value: unknown,
    start: number,
    end: number,
    search: PointerSearch | null = null,
    topicSearch: PointerSearch | null = null,
    sourceSearch: PointerSearch | null = null,
  ): undefined {
    const isListed = this.#isListed
    const problem = isListed ? this.#schema.check(value) : null
    if (problem !== null || (!isListed && !this.#schema.fits(value))) {
      this.#reject('invalid_event', problem?.detail ?? '', problem?.pointer ?? '')
      return
    }
    if (this.#sources !== null && !claimsOnly(this.#sources, value)) {
      this.#reject('source_not_allowed', isListed ? notClaimed(value) : '', '/source')
      return
    }
    if (this.#topics !== null) this.#choose(this.#topics, start, topicSearch)
    const chosen = this.#key
    if (chosen !== null) chosen.find(this.body, start, search)
    const text = chosen === null ? keyOf(value) : chosen.text
    const keyBytes = chosen !== null ? chosen.end - chosen.start : text === null ? 0 : Buffer.byteLength(text)
    if (keyBytes === 0 && (this.#needsKey || this.#rejectsKeyless)) {
      this.#rejectKeyless()
      return
    }
    if (chosen !== null && keyBytes > 0 && this.#sources !== null && !this.#mayHaveKey(chosen)) {
      const detail = isListed ? notClaimedAsKey(this.#textOf(chosen)) : ''
      this.#reject('source_not_allowed', detail, chosen.pointer)
      return
    }
    const limitBytes = this.#limitBytes(keyBytes)
    if (end - start > limitBytes) {
      this.#rejectLarge(end - start, limitBytes)
      return
    }
    const identity = this.#collectIds ? identityOf(value) : null
    this.#note(
      identity === null
        ? null
        : {
            id: identity.id,
            source: identity.source ?? this.#numberAsWritten(start, sourceSearch),
            digest: this.#digest(start, end),
          },
    )
    if (chosen !== null && text === null) this.ranges.add(start, end, chosen.start, chosen.end)
    else this.ranges.addParsed(start, end, text, keyBytes)
    if (this.#topics !== null) this.ranges.goesTo(this.#topic)
  }

  /** @inheritdoc */
  invalidJson(start: number, end: number, describe: () => string): void {
    this.#receive(start, end)
    this.#reject('invalid_json', this.#isListed ? describe() : '', '')
  }

  /** Place of a good event in the request. */
  indexOf(good: number): number {
    return this.indexes?.[good] ?? good
  }

  /** Takes out the good events that were accepted before, and rejects those whose id was accepted with other content. */
  leaveOut(fates: readonly EventFate[]): void {
    const { indexes, told } = this
    const left: number[] = []
    const duplicates: number[] = []
    const duplicateTopics: number[] = []
    let conflicting = 0
    for (let good = 0; good < fates.length; good++) {
      const index = indexes === null ? good : indexes[good]!
      const fate = fates[good]!
      switch (fate) {
        case 'new':
          left.push(index)
          break
        case 'seen':
          duplicates.push(index)
          duplicateTopics.push(this.ranges.topic(good))
          break
        default: {
          fate satisfies 'conflict'
          // Only the first can be among those that are listed.
          const error = ++conflicting <= maxListedErrors ? conflictOf(index, told?.[good] ?? null) : null
          this.#rejects.addLate('id_conflict', error, this.ranges.start(good), this.ranges.end(good))
        }
      }
    }
    this.indexes = left
    this.duplicates = duplicates
    this.duplicateTopics = duplicateTopics
    this.ranges.keepOnly((good) => fates[good] === 'new')
    this.told = told?.filter((_, good) => fates[good] === 'new') ?? null
    if (conflicting > 0) this.#rejects.sort()
  }

  #mayClaim({ sourceStart, sourceEnd }: TelemetryScanner): boolean {
    return sourceStart === sourceEnd || this.#sources!.has(this.body.toString('utf8', sourceStart, sourceEnd))
  }

  /** Whether the sender may claim the key that was found: who writes under the key of another one speaks for it. */
  #mayHaveKey(chosen: ChosenKey): boolean {
    return this.#sources!.has(this.#textOf(chosen))
  }

  #textOf({ holder, start, end, text }: ChosenKey): string {
    return text ?? (holder ?? this.body).toString('utf8', start, end)
  }

  /** What is wrong with an event is worked out for the errors that are listed only. */
  get #isListed(): boolean {
    return this.errors.length < maxListedErrors
  }

  /** Chooses the topic of an event, and goes by what that topic takes. */
  #choose({ choice, limits }: EventTopics, start: number, done: PointerSearch | null = null): void {
    const topic = limits[(this.#topic = choice.find(this.body, start, done))]!
    this.#maxRecordBytes = topic.maxRecordBytes - (this.headers?.length ?? 0)
    this.#needsKey = topic.needsKey
  }

  #slide(start: number): void {
    const end = start + 2 * scannedWholeBytes
    this.#scanned = this.body.subarray(0, end)
    this.#slideFrom = end < this.body.length ? end - scannedWholeBytes : this.body.length
  }

  /** Finds the key of an event. @returns its size; -1: it is written with escapes, and needs to be parsed. */
  #findKey(start: number): number {
    const key = this.#key!
    key.find(this.body, start)
    return key.text === null ? key.end - key.start : -1
  }

  #rejectKeyless(): void {
    const why = this.#needsKey ? compacted : rejectsKeyless
    const chosen = this.#key
    if (chosen !== null) this.#reject('record_key_missing', `${chosen.need}: ${why}`, chosen.pointer)
    else
      this.#reject(
        this.#needsKey ? 'source_missing' : 'record_key_missing',
        `${noSource}, and ${why}`,
        '/source',
      )
  }

  /** Most bytes that an event may have whose key has `keyBytes`. */
  #limitBytes(keyBytes: number): number {
    return Math.min(this.#limits.eventBytes, this.#maxRecordBytes - keyBytes)
  }

  /** Keeps the id and the place of the event just received, which is good and about to be added to {@link ranges}. */
  #note(told: ToldEvent | null): void {
    if (told !== null) this.told ??= Array.from({ length: this.good }, () => null)
    this.told?.push(told)
    this.indexes?.push(this.received - 1)
  }

  /** What {@link indexes} is while nothing was rejected. */
  #firstIndexes(): number[] {
    return Array.from({ length: this.good }, (_, good) => good)
  }

  #receive(start: number, end: number): void {
    this.#start = start
    this.#end = end
    const limit = this.#limits.eventsPerRequest
    if (++this.received <= limit) return
    const detail = `a request may carry ${limit} events`
    throw new GatewayError('too_many_events', detail, { extensions: { limit } })
  }

  #rejectFlawed(flaw: JsonFlaw): void {
    this.#reject(codeOfFlaw[flaw], describeFlaw(flaw, this.#limits.depth), '')
  }

  #rejectLarge(sizeBytes: number, limitBytes: number): void {
    const whose =
      limitBytes === this.#limits.eventBytes
        ? ' (MAX_EVENT_BYTES)'
        : ': the topic takes no larger record (max.message.bytes, max.request.size)'
    this.#reject('event_too_large', `has ${sizeBytes} bytes, and ${limitBytes} is the most${whose}`, '')
  }

  /** Begins to look for the source of a large event, if duplicates are told by it and it is a number. */
  #searchNumber(value: unknown, start: number, sliceBytes: number): PointerSearch | null {
    if (!this.#collectIds || identityOf(value)?.source !== null) return null
    const search = new PointerSearch('/source', sliceBytes)
    search.begin(this.body, start)
    return search
  }

  /** The source of an event, a number, with all its digits. @param done has found it. */
  #numberAsWritten(start: number, done: PointerSearch | null): string {
    const search = done ?? (this.#sourceSearch ??= new PointerSearch('/source'))
    if (done === null) {
      search.begin(this.body, start)
      search.goOn()
    }
    return this.body.toString('latin1', search.start, search.end)
  }

  /** 96 bits of SHA-256 of an event's bytes: enough to tell other content that comes under the same id. */
  #digest(start: number, end: number): string {
    return hash('sha256', this.body.subarray(start, end), 'base64url').slice(0, 16)
  }

  get #rejects(): RejectedEvents {
    return (this.#rejected ??= new RejectedEvents(this.#keepsRejected))
  }

  #reject(code: ErrorCode, detail: string, pointer: string): void {
    this.indexes ??= this.#firstIndexes()
    this.#rejects.add({ index: this.received - 1, code, detail, pointer }, this.#start, this.#end)
  }
}

/** An event that is larger may be left to {@link EventBatch.largeEvent}, which reads it in slices. */
const scannedWholeBytes = 65_536

const noSource = 'needs a text of 1 to 255 characters here: it becomes the key of the record'
const compacted = 'the topic is compacted (cleanup.policy), so it takes no record without a key'
const rejectsKeyless = 'the stream takes no event without a key (keyMissing: reject)'
const noDuplicates: readonly number[] = []
const noRejections: ReadonlyMap<ErrorCode, number> = new Map()
const noErrors: readonly EventError[] = []
const noneKept: readonly KeptEvent[] = []

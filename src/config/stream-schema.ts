import { z } from 'zod'
import {
  connectionUses,
  onBufferFullActions,
  presetNames,
  resends,
  type DedupeConfig,
  type Delivery,
  type InvalidConfig,
  type Preset,
  type ProducerConfig,
  type SpoolConfig,
  type StreamPromise,
} from './config.ts'
import { defaultPreset, presetTraits } from './presets.ts'
import { resolveProducer } from './producer-schema.ts'
import type { FieldValues } from './read-fields.ts'
import { recordHeaders, recordKey } from './record-settings.ts'
import { keyMissingActions, timestampUnits } from './record-sources.ts'
import {
  asCode,
  type Flaw,
  nonEmptyText,
  oneOf,
  onOrOff,
  reference,
  trueOrFalse,
  wholeNumber,
  wordsWithMeanings,
} from './setting.ts'
import { topic, topicsByContent } from './topic-settings.ts'

/** Anyone can send rubbish, and some of it is enough to learn from. */
const defaultInvalidPerSecond = 100

const meanings: Readonly<Record<StreamPromise, string>> = {
  'at-most-once': 'never twice',
  'at-least-once': 'not lost',
  'exactly-once': 'neither, for clients that send keys or ids',
}

/** The settings of a stream in the file, without `producer`. */
export const streamShape = {
  topic: topic().optional().register(reference, {
    what: 'the topic; streams with different deliveries never share one',
    byDefault: "the stream's name",
  }),
  topics: topicsByContent.optional().register(reference, {
    what: 'in place of `topic`: the text or number at a place in the event chooses the topic: `{ by: /type, map: { click: web-clicks, view: web-views }, else: web-other }` ([records.md](records.md#the-topic))',
    byDefault: 'none',
  }),
  delivery: deliveryWord().nonoptional().register(reference, {
    what: '`at-most-once`: never twice, may be lost. `at-least-once`: sent again until Kafka has it. `exactly-once`: at-least-once that is durable, idempotent and told from duplicates, all three for certain ([duplicates.md](duplicates.md#exactly-once))',
    byDefault: 'required',
  }),
  preset: oneOf(presetNames)
    .optional()
    .register(reference, { what: 'a row of [the table below](#presets)', byDefault: 'by delivery' }),
  schema: nonEmptyText.optional().register(reference, {
    what: '`telemetry`: measurements; `page`: events of web pages, which need no number ([browser.md](browser.md#a-stream-for-pages)); `reports`: reports that browsers send by themselves ([browser.md](browser.md#reports-that-browsers-send-by-themselves)); `any`: any JSON; otherwise the path of a JSON Schema file (JSON, draft-07 or 2020-12), relative to this file. A `pattern` that backtracks for long holds up all requests of the process: Chute cannot interrupt it',
    byDefault: '`telemetry`; with `preset: reports`: `reports`',
  }),
  timestampUnit: oneOf(timestampUnits).optional().register(reference, {
    what: 'of `schema: telemetry`: the unit of a `timestamp` that is a number. `auto`: any of the four. A number that is no time of 1970 to 2099 in this unit, or looks like another unit, is refused ([records.md](records.md#timestamps-in-other-units)). The event is written as it came',
    byDefault: '`ms`',
  }),
  key: recordKey.default('source').register(reference, {
    what: "what becomes the record's key, which chooses its partition: the event's `source`, nothing, the text or number at a place in the event (RFC 6901), or a header of the request ([records.md](records.md#the-key))",
    byDefault: '{}; with `schema: page`: `/session`; with `schema: reports`: `none`',
  }),
  keyMissing: oneOf(keyMissingActions).default('accept').register(reference, {
    what: 'an event without a key: `accept` (written without one), `reject` (refused with `record_key_missing`)',
  }),
  headers: recordHeaders.default({}).register(reference, {
    what: 'headers of each record, from the request: `{ traceparent: header:traceparent, tenant: key:name, received: time }` ([records.md](records.md#headers))',
    byDefault: 'none',
  }),
  onBufferFull: oneOf(onBufferFullActions).default('reject').register(reference, {
    what: 'a request that finds the buffer full: `reject` (503), `drop` (202, counted as dropped), `block` (waits up to `max.block.ms`, then 503)',
  }),
  beaconOnBufferFull: oneOf(onBufferFullActions)
    .optional()
    .register(reference, { what: 'the same for the beacon routes, whose clients read no reply' }),
  confirm: onOrOff.optional().register(reference, {
    what: '`off`: bare acks=0, whose records end as `sent`, and nobody knows what arrived; with acks=1, `confirmed` then means the leader alone. Not with acks=all, whose answers are the confirmation',
  }),
  connection: oneOf(connectionUses).optional().register(reference, {
    what: '`shared`: the stream writes over one connection to each broker together with the other streams of its delivery. `own`: it has connections of its own, so that no other stream can end them or hold them up ([semantics.md](semantics.md#a-connection-that-streams-share)). At-most-once streams with `acks: all`, and at-least-once streams without `enable.idempotence`, always have their own',
    byDefault: '`shared` if the stream can share',
  }),
  audit: trueOrFalse.default(false).register(reference, {
    what: '`true`: each record gets a header with its writer and its number, by which `chute audit` tells from the topic alone what is lost, repeated or out of order ([docs/audit.md](audit.md))',
  }),
  deadLetterTopic: topic().optional().register(reference, {
    what: 'at-least-once: where records go that Kafka refuses for good, with the reason in their headers. Without it they go to a file of the data folder, and without that they are dropped and counted. See [dead-letters.md](dead-letters.md)',
    byDefault: 'none',
  }),
  invalidTopic: topic().optional().register(reference, {
    what: 'where events go that are refused for themselves, as they came, with the reason in their headers ([records.md](records.md#invalid-events))',
    byDefault: 'none',
  }),
  invalidTopicMaxPerSecond: wholeNumber(null, 1)
    .optional()
    .register(reference, {
      what: 'the most such events a second that are written; more are counted (`chute_invalid_events_total`)',
      byDefault: String(defaultInvalidPerSecond),
    }),
  dedupe: onOrOff.optional().register(reference, {
    what: "`on`: what was accepted before is told by `Idempotency-Key` or by an event's `id`, and is not written again ([duplicates.md](duplicates.md))",
    byDefault:
      '`on` for at-least-once and `preset: device`, `off` for other at-most-once streams. With more than one worker and no Redis `off`, but with `preset: device` the start is refused',
  }),
  'dedupe.window.ms': wholeNumber('milliseconds', 1)
    .optional()
    .register(reference, { what: 'for how long a key or an id is known', byDefault: '{} (10 min)' }),
  'dedupe.max.entries': wholeNumber(null, 1).optional().register(reference, {
    what: 'the most keys and ids that are known: some 200 bytes each with 36 characters, some 700 with the longest source and id (heap of Node 20); then the oldest are forgotten before their time and counted in `chute_dedupe_forgotten_total`. With Redis: the most that wait to be told to it',
  }),
  durable: onOrOff.optional().register(reference, {
    what: '`on`: a 202 is answered when the events are on disk ([durable.md](durable.md)); without `CHUTE_DATA_DIR` the start is refused. `off`: from memory',
    byDefault: '`on` for at-least-once with `CHUTE_DATA_DIR` set',
  }),
  fsync: onOrOff.optional().register(reference, {
    what: 'of a durable stream: `on` waits for the disk, `off` for the kernel ([durable.md](durable.md))',
  }),
  'spool.max.bytes': wholeNumber('bytes', 1, Number.MAX_SAFE_INTEGER).optional().register(reference, {
    what: 'of a durable stream: what its events may take of the disk, with those that are done and not yet removed ([durable.md](durable.md)); then `onBufferFull` decides. At least `buffer.memory`. Each of `WORKERS` has its part',
    byDefault: '{} (4 GiB)',
  }),
  retired: trueOrFalse.default(false).register(reference, {
    what: '`true`: the stream is no longer in use. What it has is sent, and then it is closed. Its routes answer 410 `stream_retired`. Its other settings may stay or go: they have no effect ([reload.md](reload.md#a-stream-that-is-retired))',
  }),
} satisfies z.ZodRawShape

/** The settings of a stream that could be read. */
export type StreamValues = FieldValues<typeof streamShape>

/** Whether a stream can tell duplicates depends on this. */
export interface DedupeContext {
  readonly delivery: Delivery
  readonly preset: Preset
  /** `WORKERS`. Above 1 and without a shared store, each process knows only the requests that it accepted itself. */
  readonly workers: number
  readonly hasSharedDedupe: boolean
}

/** Whether and how a stream tells duplicates. A stream that is at-least-once, or has the preset `device`, tells them unless `dedupe` says otherwise. */
export function resolveDedupe(
  values: StreamValues,
  { delivery, preset, workers, hasSharedDedupe }: DedupeContext,
): DedupeConfig | null {
  const isOn =
    values.dedupe ??
    (presetTraits[preset].tellsDuplicates || (resends[delivery] && (workers === 1 || hasSharedDedupe)))
  if (!isOn) return null
  return {
    windowMs: values['dedupe.window.ms'] ?? defaultWindowMs,
    maxEntries: values['dedupe.max.entries'] ?? defaultMaxEntries,
  }
}

/** Whether and how a stream is durable. With a data folder, an at-least-once stream is durable unless `durable` says otherwise. */
export function resolveSpool(
  values: StreamValues,
  context: { delivery: Delivery; hasDataDir: boolean },
): SpoolConfig | null {
  const isDurable = values.durable ?? resends[context.delivery]
  if (!isDurable || !context.hasDataDir) return null
  return { fsync: values.fsync ?? true, maxBytes: values['spool.max.bytes'] ?? defaultMaxBytes }
}

/**
 * Where events of a stream go that are refused for themselves. They are written at least once, whatever the stream's own delivery is. Only
 * what a record may be at most, and its compression, are those of the stream.
 */
export function resolveInvalid(values: StreamValues, producer: ProducerConfig): InvalidConfig | null {
  if (values.invalidTopic === undefined) return null
  const kept = resolveProducer(
    { 'compression.type': producer.compressionType, 'max.request.size': producer.maxRequestSizeBytes },
    { delivery: 'at-least-once', preset: defaultPreset['at-least-once'], confirm: false },
  )
  return {
    topic: values.invalidTopic,
    maxPerSecond: values.invalidTopicMaxPerSecond ?? defaultInvalidPerSecond,
    producer: { ...kept, bufferMemoryBytes: invalidBufferBytes },
  }
}

/** 8 MiB: rubbish must not take the memory of good events. It holds several of the largest records that topics usually take. */
const invalidBufferBytes = 8 << 20

/** 10 minutes. Clients give up retrying earlier. */
const defaultWindowMs = 600_000

/** An entry with a UUID takes about 200 bytes, so the memory is 100 MB when all entries are in use. */
const defaultMaxEntries = 500_000

/** 4 GiB: the events of twelve hours, at 350 events of 250 bytes a second. */
const defaultMaxBytes = 4 * 1024 ** 3

/**
 * The reason why a text cannot be the name of a stream; null if it can. The name is a segment of the stream's URL and has to
 * need no escaping (RFC 3986, section 2.3).
 */
export function flawOfStreamName(name: string): Flaw | null {
  if (/^[A-Za-z0-9._~-]{1,249}$/.test(name) && name !== '.' && name !== '..') return null
  return {
    problem: 'is not a name that can stand in a URL',
    remedy:
      'Give 1 to 249 letters, digits, dots, dashes, underscores and tildes; the topic can have another name (topic:).',
  }
}

function deliveryWord() {
  const words = Object.keys(meanings) as StreamPromise[]
  return z.enum(words).register(reference, { give: wordsWithMeanings(meanings), takes: asCode(words) })
}

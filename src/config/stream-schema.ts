import type { z } from 'zod'
import {
  keyMissingActions,
  onBufferFullActions,
  presetNames,
  resends,
  timestampUnits,
  type DedupeConfig,
  type Delivery,
  type SpoolConfig,
  type StreamPromise,
} from './config.ts'
import type { FieldValues } from './read-fields.ts'
import { recordHeaders, recordKey } from './record-settings.ts'
import {
  Refusal,
  oneOf,
  quote,
  setting,
  nonEmptyText,
  trueOrFalse,
  wholeNumber,
  wordsWithMeanings,
} from './setting.ts'

/** The settings of a stream in the file, without `producer`. */
export const streamShape = {
  topic: topic().optional(),
  delivery: deliveryWord(),
  preset: oneOf(presetNames).optional(),
  schema: nonEmptyText().default('telemetry'),
  timestampUnit: oneOf(timestampUnits).optional(),
  key: recordKey().default('source'),
  keyMissing: oneOf(keyMissingActions).default('accept'),
  headers: recordHeaders().default({}),
  onBufferFull: oneOf(onBufferFullActions).default('reject'),
  beaconOnBufferFull: oneOf(onBufferFullActions).optional(),
  confirm: onOrOff().optional(),
  audit: trueOrFalse().default(false),
  deadLetterTopic: topic().optional(),
  dedupe: onOrOff().optional(),
  'dedupe.window.ms': wholeNumber('milliseconds', 1).optional(),
  'dedupe.max.entries': wholeNumber(null, 1).optional(),
  durable: onOrOff().optional(),
  fsync: onOrOff().optional(),
  'spool.max.bytes': wholeNumber('bytes', 1, Number.MAX_SAFE_INTEGER).optional(),
} satisfies z.ZodRawShape

/** The settings of a stream that could be read. */
export type StreamValues = FieldValues<typeof streamShape>

/** Whether a stream can tell duplicates depends on this. */
export interface DedupeContext {
  readonly delivery: Delivery
  /** `WORKERS`. Above 1 and without a shared store, each process knows only the requests that it accepted itself. */
  readonly workers: number
  readonly hasSharedDedupe: boolean
}

/** Whether and how a stream tells duplicates. An at-least-once stream tells them unless `dedupe` says otherwise. */
export function resolveDedupe(
  values: StreamValues,
  { delivery, workers, hasSharedDedupe }: DedupeContext,
): DedupeConfig | null {
  const isOn = values.dedupe ?? (resends[delivery] && (workers === 1 || hasSharedDedupe))
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

/** 10 minutes. Clients give up retrying earlier. */
const defaultWindowMs = 600_000

/** An entry with a UUID takes about 200 bytes, so the memory is 100 MB when all entries are in use. */
const defaultMaxEntries = 500_000

/** 4 GiB: the events of twelve hours, at 350 events of 250 bytes a second. */
const defaultMaxBytes = 4 * 1024 ** 3

/** The reason why Kafka does not take a text as the name of a topic (`Topic.validate`); null if Kafka takes it. */
export function flawOfTopic(name: string): Refusal | null {
  if (/^[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== '.' && name !== '..') return null
  return new Refusal(
    `is ${quote(name)}, which Kafka does not take as the name of a topic`,
    'Give 1 to 249 letters, digits, dots, dashes and underscores, and not only . or ..',
  )
}

/**
 * The reason why a text cannot be the name of a stream; null if it can. The name is a segment of the stream's URL and has to
 * need no escaping (RFC 3986, section 2.3).
 */
export function flawOfStreamName(name: string): Refusal | null {
  if (/^[A-Za-z0-9._~-]{1,249}$/.test(name) && name !== '.' && name !== '..') return null
  return new Refusal(
    'is not a name that can stand in a URL',
    'Give 1 to 249 letters, digits, dots, dashes, underscores and tildes; the topic can have another name (topic:).',
  )
}

function topic() {
  return setting<string>((value) => {
    if (typeof value === 'string') return flawOfTopic(value) ?? value
    return new Refusal(`is ${quote(value)}`, 'Give the name of a topic, in quotes if it looks like a number.')
  })
}

function deliveryWord() {
  return setting<StreamPromise>((value) => {
    const word = (Object.keys(meanings) as StreamPromise[]).find((each) => each === value)
    if (word !== undefined) return word
    return new Refusal(
      value === undefined ? 'is missing' : `is ${quote(value)}`,
      `Give ${wordsWithMeanings(meanings)}.`,
    )
  })
}

const meanings: Readonly<Record<StreamPromise, string>> = {
  'at-most-once': 'never twice',
  'at-least-once': 'not lost',
  'exactly-once': 'neither, for clients that send keys or ids',
}

/** `on` or `off`. JSON has neither word, and YAML 1.1 reads them as true and false. */
function onOrOff() {
  return setting<boolean>((value) => {
    if (value === 'on' || value === true) return true
    if (value === 'off' || value === false) return false
    return new Refusal(`is ${quote(value)}`, 'Give on or off.')
  })
}

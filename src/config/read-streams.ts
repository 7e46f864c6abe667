import { isAbsolute, dirname, join } from 'node:path'
import {
  builtInSchemas,
  canShareConnections,
  streamPromises,
  type BuiltInSchema,
  type Config,
  type ConfigProblem,
  type StreamConfig,
} from './config.ts'
import {
  refuseContradictions,
  refuseDedupeContradictions,
  refuseLessThanExactlyOnce,
  refuseRecordContradictions,
  refuseSpoolContradictions,
} from './stream-contradictions.ts'
import { refuseSharedTopics } from './shared-topics.ts'
import {
  flawOfStreamName,
  resolveDedupe,
  resolveInvalid,
  resolveSpool,
  streamShape,
} from './stream-schema.ts'
import { readConsumerSection } from './consumer-settings.ts'
import { defaultsOf, isMap, nearestName, readFields, refuseUnknownKeys } from './read-fields.ts'
import { defaultKey, defaultPreset, presetTraits } from './presets.ts'
import { producerShape, resolveProducer } from './producer-schema.ts'
import { describeReadError, readDocument, type ReadFile } from './read-file.ts'
import { quote, trueOrFalse } from './setting.ts'
import { flawOfTopic } from './topic-settings.ts'

/** The source of the streams, and what all streams share while they are read. */
export interface StreamsSource {
  /** `CHUTE_DATA_DIR` is set: at-least-once streams are durable unless they say otherwise. */
  readonly hasDataDir: boolean
  /** The path of the file; null for the two default streams. */
  readonly file: string | null
  /** `WORKERS`. Each worker has its part of every `buffer.memory`. */
  readonly workers: number
  /** Gateways share a store of the keys that they accepted. */
  readonly hasSharedDedupe: boolean
  readonly readFile: ReadFile
  readonly flawOfSchema: FlawOfSchema
  readonly problems: ConfigProblem[]
}

/** The reason why a JSON Schema cannot be used, in words; null if it can be used. Compiling the schema is the only way to know. */
export type FlawOfSchema = (schema: StreamConfig['schema']) => string | null

/** The two default streams, one for each delivery, as docs/delivery-model.md has them. */
const defaultFile = {
  streams: {
    'metrics-realtime': { topic: 'metrics-realtime', delivery: 'at-most-once' },
    'metrics-critical': { topic: 'metrics-critical', delivery: 'at-least-once' },
  },
}

/** What the file of `CHUTE_CONFIG` can have at its top. */
export const fileSections = ['streams', 'keys', 'consumer']

/** What the file says. */
type ReadConfigFile = Pick<Config, 'streams' | 'retiredStreams' | 'consumer'> & {
  readonly keys: unknown
  /** All streams that the file names, also those that cannot be read; null: nobody knows, since the file cannot be read. */
  readonly streamNames: readonly string[] | null
}

/** Reads the file. `keys` is as it was written: read-keys.ts reads it. A stream that cannot be read is not in the result, and `problems` has the reasons. */
export function readConfigFile(source: StreamsSource): ReadConfigFile {
  const { problems } = source
  const document: Readonly<Record<string, unknown>> | null =
    source.file === null ? defaultFile : readDocument(source.file, source)
  if (document === null)
    return { streams: [], retiredStreams: [], consumer: null, keys: undefined, streamNames: null }
  refuseUnknownKeys(document, fileSections, (key) => key, problems)
  const consumer = readConsumerSection(document, problems)
  const { streams } = document
  const streamNames = isMap(streams) ? Object.keys(streams) : null
  return { ...readStreams(document, source), consumer, keys: document['keys'], streamNames }
}

/** Reads the streams, in the order of the file. */
function readStreams(
  document: Readonly<Record<string, unknown>>,
  source: StreamsSource,
): Pick<Config, 'streams' | 'retiredStreams'> {
  const { problems } = source
  const { streams } = document
  if (!isMap(streams) || Object.keys(streams).length === 0) {
    problems.push({
      path: 'streams',
      problem: streams === undefined ? 'is missing' : 'names no stream',
      remedy: 'Give a map of streams: { my-events: { delivery: at-most-once } }.',
    })
    return { streams: [], retiredStreams: [] }
  }
  const all = Object.entries(streams)
  const retiredStreams = all.filter(([, value]) => isRetired(value)).map(([name]) => name)
  const read = all.flatMap(([name, value]) => readStream(name, value, source) ?? [])
  if (retiredStreams.length === all.length)
    problems.push({
      path: 'streams',
      problem: 'has retired streams only, so no event could be taken',
      remedy: 'Give a stream that is in use: { my-events: { delivery: at-most-once } }.',
    })
  refuseSharedTopics(read, problems)
  return { streams: read, retiredStreams }
}

/** Whether a stream is `retired: true`, in any form that {@link trueOrFalse} takes. */
function isRetired(stream: unknown): boolean {
  return isMap(stream) && trueOrFalse.safeParse(stream['retired']).data === true
}

function readStream(name: string, value: unknown, source: StreamsSource): StreamConfig | null {
  const { problems } = source
  const path = `streams.${name}`
  const flaw = flawOfStreamName(name)
  if (flaw !== null) problems.push({ path, problem: flaw.problem, remedy: flaw.remedy })
  if (!isMap(value)) {
    problems.push({ path, problem: `is ${quote(value)}`, remedy: 'Give a map: { delivery: at-most-once }.' })
    return null
  }
  const at = (key: string) => `${path}.${key}`
  if (isRetired(value)) {
    refuseStreamKeys(value, at, problems)
    return null
  }
  const values = readFields(streamShape, value, at, problems)
  const set = { ...defaultsOf(streamShape), ...values }
  refuseStreamKeys(value, at, problems)

  const producerInput = value['producer'] ?? {}
  if (!isMap(producerInput)) {
    problems.push({
      path: at('producer'),
      problem: `is ${quote(producerInput)}`,
      remedy: 'Give a map: { linger.ms: 5 }.',
    })
  }
  const producerMap = isMap(producerInput) ? producerInput : {}
  const inProducer = (key: string) => at(`producer.${key}`)
  const writtenProducer = readFields(producerShape, producerMap, inProducer, problems)
  refuseUnknownKeys(producerMap, Object.keys(producerShape), inProducer, problems)

  const topics = values.topics ?? null
  const topic = topics?.else ?? values.topic ?? name
  const topicFlaw =
    value['topic'] === undefined && value['topics'] === undefined && flaw === null ? flawOfTopic(topic) : null
  if (topicFlaw !== null)
    problems.push({ path: at('topic'), problem: topicFlaw.problem, remedy: topicFlaw.remedy })
  const promised = values.delivery === undefined ? null : streamPromises[values.delivery]
  const preset = values.preset ?? defaultPreset[promised?.delivery ?? 'at-most-once']
  const schema = readSchema(values.schema ?? presetTraits[preset].schema, at('schema'), source)

  if (promised === null) return null
  const { delivery, exactlyOnce } = promised
  const producer = resolveProducer(writtenProducer, { delivery, preset, confirm: values.confirm ?? true })
  const { hasDataDir, workers, hasSharedDedupe } = source
  const spool = resolveSpool(values, { delivery, hasDataDir })
  const dedupe = resolveDedupe(values, { delivery, preset, workers, hasSharedDedupe })
  const promise = { path, delivery, preset, producer, spool, hasDataDir, dedupe, workers, hasSharedDedupe }
  const judged = { ...promise, written: values, writtenProducer }
  refuseContradictions(judged, problems)
  refuseSpoolContradictions(judged, problems)
  refuseDedupeContradictions(judged, problems)
  refuseRecordContradictions(judged, problems)
  if (exactlyOnce) refuseLessThanExactlyOnce(judged, problems)
  const beaconOnBufferFull = values.beaconOnBufferFull ?? (exactlyOnce ? 'reject' : 'drop')
  const deadLetterTopic = values.deadLetterTopic ?? null
  const { timestampUnit = 'ms', keyMissing, headers, onBufferFull } = set
  const key = value['key'] === undefined && typeof schema === 'string' ? defaultKey[schema] : set.key
  const connection = canShareConnections(delivery, producer) ? (values.connection ?? 'shared') : 'own'
  const edge = { schema, timestampUnit, key, keyMissing, headers, onBufferFull, beaconOnBufferFull }
  return {
    name,
    topic,
    topics,
    delivery,
    preset,
    ...edge,
    connection,
    audit: set.audit,
    deadLetterTopic,
    invalid: resolveInvalid(values, producer),
    producer,
    spool,
    dedupe,
    exactlyOnce,
  }
}

/** Refuses unknown keys of a stream. A setting of the producer that stands beside `producer:` gets a remedy of its own. */
function refuseStreamKeys(
  value: Readonly<Record<string, unknown>>,
  at: (key: string) => string,
  problems: ConfigProblem[],
): void {
  const known = [...Object.keys(streamShape), 'producer']
  const others: Record<string, unknown> = {}
  for (const key of Object.keys(value)) {
    const setting =
      known.includes(key) || nearestName(key, known) !== null
        ? null
        : nearestName(key, Object.keys(producerShape))
    if (setting === null) others[key] = value[key]
    else
      problems.push({
        path: at(key),
        problem: 'is not a setting of a stream',
        remedy: `Put ${setting} under producer:.`,
      })
  }
  refuseUnknownKeys(others, known, at, problems)
}

function readSchema(
  setting: string,
  path: string,
  { file, readFile, flawOfSchema, problems }: StreamsSource,
): StreamConfig['schema'] {
  if (isBuiltIn(setting)) return setting
  const schemaFile = isAbsolute(setting) ? setting : join(dirname(file ?? ''), setting)
  const meant = nearestName(setting, builtInSchemas)
  const hint = meant === null ? '' : `Did you mean ${meant}? `
  const remedy = `${hint}Give ${builtInSchemas.join(', ')}, or the path of a JSON Schema file, relative to the configuration file.`
  try {
    const jsonSchema: unknown = JSON.parse(readFile(schemaFile))
    if (!isMap(jsonSchema) && typeof jsonSchema !== 'boolean') {
      problems.push({ path, problem: `names ${schemaFile}, which is no JSON Schema`, remedy })
      return 'any'
    }
    const schema = { file: schemaFile, jsonSchema }
    const flaw = flawOfSchema(schema)
    if (flaw !== null) {
      const mend = 'Mend the JSON Schema (draft-07, or 2020-12 with its $schema).'
      problems.push({ path, problem: `cannot be used: ${flaw}`, remedy: mend })
    }
    return schema
  } catch (error) {
    const problem =
      error instanceof SyntaxError
        ? `names ${schemaFile}, which is not JSON: ${error.message}`
        : `names ${schemaFile}: ${describeReadError(error)}`
    problems.push({ path, problem, remedy })
  }
  return 'any'
}

function isBuiltIn(schema: string): schema is BuiltInSchema {
  return (builtInSchemas as readonly string[]).includes(schema)
}

import { hash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { ConfigError, type Config, type ConfigProblem, type StreamConfig } from './config.ts'
import { refuseUnusedDedupeStore } from './stream-contradictions.ts'
import { refuseSharedTopics } from './shared-topics.ts'

/** What a new configuration means for a gateway that runs with another one. Plain data. */
export interface ReloadPlan {
  /**
   * The configuration that is in force afterwards: the new one, and of the old one what cannot change without a restart. Keys and streams
   * that stay are the very objects of the old one.
   */
  readonly config: Config
  /** What changes, by the path of the setting: `keys.web is new`. Empty: nothing does. */
  readonly changes: readonly string[]
  /** The settings that are other ones in the files, and stay as they are until a restart. */
  readonly needsRestart: readonly string[]
}

/** A configuration that can be put in force, in one turn of the event loop. One of the two is to be called. */
export interface PreparedReload {
  /** Cannot fail. */
  readonly commit: () => void
  readonly discard: () => void
}

/**
 * Whether a stream's setting can change while the stream takes events (`edge`), or is what its producer, its spool or its
 * de-duplication was made with (`restart`). A setting without a row does not compile. docs/reload.md has the same table for users.
 */
const whenStreamChanges = {
  name: 'edge',
  // A name for settings, which have rows of their own.
  preset: 'edge',
  schema: 'edge',
  timestampUnit: 'edge',
  key: 'edge',
  keyMissing: 'edge',
  headers: 'edge',
  onBufferFull: 'edge',
  beaconOnBufferFull: 'edge',
  // It has a producer of its own.
  invalid: 'edge',
  topic: 'restart',
  topics: 'restart',
  delivery: 'restart',
  exactlyOnce: 'restart',
  connection: 'restart',
  audit: 'restart',
  deadLetterTopic: 'restart',
  producer: 'restart',
  spool: 'restart',
  dedupe: 'restart',
} as const satisfies Record<keyof StreamConfig, 'edge' | 'restart'>

/**
 * Compares a configuration with the one that is in force. A stream with one change that needs a restart keeps all of its
 * settings, since some of them hold only together. All else changes.
 * @throws ConfigError if what stays and what changes do not go together, or if there would be no keys any more. Then nothing may change.
 */
export function planReload(current: Config, next: Config): ReloadPlan {
  refuseOpening(current, next)
  refuseEmptied(current, next)
  const changes: string[] = []
  const needsRestart: string[] = []
  const streams = planStreams(current.streams, next.streams, { changes, needsRestart })
  for (const [one, other, how] of [
    [next, current, 'is retired'],
    [current, next, 'is no longer retired'],
  ] as const) {
    const names = one.retiredStreams.filter((name) => !other.retiredStreams.includes(name))
    changes.push(...names.map((name) => `streams.${name} ${how}`))
  }
  const keys = withTheSame(current.http.keys, next.http.keys)
  changes.push(...changesOf('keys', byName(current.http.keys), byName(keys)))
  for (const [setting, before, after] of [
    ['CORS_ORIGINS', current.http.corsOrigins, next.http.corsOrigins],
    ['The limit of addresses (RATE_LIMIT_)', limitsOf(current), limitsOf(next)],
    ['LOG_LEVEL', current.logLevel, next.logLevel],
    ['The login at Kafka (KAFKA_SASL_)', current.kafka.sasl, next.kafka.sasl],
  ] as const)
    if (!isDeepStrictEqual(before, after)) changes.push(`${setting} is another one`)
  for (const [setting, before, after] of [
    ['CHUTE_DEDUPE_REDIS_URL_FILE', current.dedupeStore, next.dedupeStore],
    ['RATE_LIMIT_REDIS_URL_FILE', current.http.rateLimitStore, next.http.rateLimitStore],
  ] as const)
    if (!isDeepStrictEqual(before, after)) needsRestart.push(setting)
  refuseMixture(current, streams, needsRestart)
  const { corsOrigins, rateLimit, rateLimitAllow } = next.http
  return {
    config: {
      ...current,
      kafka: { ...current.kafka, sasl: next.kafka.sasl },
      http: { ...current.http, corsOrigins, keys, rateLimit, rateLimitAllow },
      streams,
      retiredStreams: next.retiredStreams,
      consumer: next.consumer,
      logLevel: next.logLevel,
    },
    changes,
    needsRestart,
  }
}

function limitsOf({ http: { rateLimit, rateLimitAllow } }: Config): unknown {
  return [rateLimit, rateLimitAllow]
}

function planStreams(
  current: readonly StreamConfig[],
  next: readonly StreamConfig[],
  { changes, needsRestart }: { changes: string[]; needsRestart: string[] },
): StreamConfig[] {
  const before = byName(current)
  const streams = next.map((stream) => {
    const old = before.get(stream.name)
    if (old === undefined || isDeepStrictEqual(old, stream)) return old ?? stream
    const changed = settingsOf(Object.keys(whenStreamChanges), old, stream)
    const bound = changed.filter((setting) => whenStreamChanges[setting] === 'restart')
    needsRestart.push(...namesOf(bound).map((setting) => `streams.${stream.name}.${setting}`))
    return bound.length > 0 ? old : stream
  })
  changes.push(...changesOf('streams', before, byName(streams)))
  return streams
}

/** Settings by the names of the file. Another delivery has other defaults of the producer, the connection, the spool and the de-duplication: nobody has changed those. */
function namesOf(bound: readonly (keyof StreamConfig)[]): string[] {
  const names = new Set(bound.map((setting) => (setting === 'exactlyOnce' ? 'delivery' : setting)))
  if (names.has('delivery'))
    for (const followed of ['producer', 'connection', 'spool', 'dedupe'] as const) names.delete(followed)
  return [...names]
}

/** What has not changed is the very object that is in force. */
function withTheSame<T extends { readonly name: string }>(current: readonly T[], next: readonly T[]): T[] {
  const before = byName(current)
  return next.map((each) => {
    const old = before.get(each.name)
    return old !== undefined && isDeepStrictEqual(old, each) ? old : each
  })
}

/** Those of the settings in which two streams, or two keys, differ. */
function settingsOf<T>(settings: readonly string[], one: T, other: T): (keyof T & string)[] {
  return (settings as (keyof T & string)[]).filter(
    (setting) => !isDeepStrictEqual(one[setting], other[setting]),
  )
}

function byName<T extends { readonly name: string }>(list: readonly T[]): ReadonlyMap<string, T> {
  return new Map(list.map((each) => [each.name, each]))
}

function changesOf<T extends object>(
  section: string,
  before: ReadonlyMap<string, T>,
  after: ReadonlyMap<string, T>,
): string[] {
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((name) => {
    const [old, now] = [before.get(name), after.get(name)]
    if (old === undefined) return [`${section}.${name} is new`]
    if (now === undefined) return [`${section}.${name} is gone`]
    return settingsOf(Object.keys(now), old, now).map(
      (setting) => `${section}.${name}.${nameInFile(setting)} is another one`,
    )
  })
}

function nameInFile(setting: string): string {
  return setting === 'notAfterMs' ? 'notAfter' : setting
}

/** Half a file can be one without keys. A door that is shut opens at a start only. */
function refuseOpening(current: Config, next: Config): void {
  if (current.http.keys.length === 0 || next.http.keys.length > 0) return
  const problem = 'are all gone, so everyone who reaches the port could write'
  throw new ConfigError([
    { path: 'keys', problem, remedy: 'Leave a key, or restart the gateway to have it open.' },
  ])
}

/** An environment cannot change, so what is gone stood in a file that is empty now: most likely one that somebody is writing. */
function refuseEmptied({ http: before }: Config, { http: now }: Config): void {
  const problems: ConfigProblem[] = []
  const refuse = (path: string, problem: string): void =>
    void problems.push({ path, problem, remedy: 'Mend its file, or restart the gateway to have it so.' })
  if (before.corsOrigins.length > 0 && now.corsOrigins.length === 0)
    refuse(
      'CORS_ORIGINS_FILE',
      'has no origin any more, so all pages without a key of their own would be shut out',
    )
  if (before.rateLimit !== null && now.rateLimit === null)
    refuse(
      'RATE_LIMIT_MAX_FILE',
      'and the like limit nothing any more, so everyone could send without a limit',
    )
  if (problems.length > 0) throw new ConfigError(problems)
}

/** Finds rules over several streams that only the files keep, and not what would be in force until a restart. */
function refuseMixture(
  current: Config,
  streams: readonly StreamConfig[],
  needsRestart: readonly string[],
): void {
  if (needsRestart.length === 0) return
  const problems: ConfigProblem[] = []
  refuseSharedTopics(streams, problems)
  if (current.dedupeStore !== null) refuseUnusedDedupeStore(streams, problems)
  if (problems.length === 0) return
  const until = `This stays until a restart: ${needsRestart.join(', ')}. Restart the gateway.`
  throw new ConfigError(problems.map(({ path, problem }) => ({ path, problem, remedy: until })))
}

/**
 * A number of 48 bits that two gateways have in common exactly if they let in the same keys and origins, have the same limits and treat streams the
 * same way. What belongs to one process or place (addresses, certificates, folders, the paths of files) is not in it, and the
 * order of streams and keys does not matter.
 */
export function hashOfConfig({ http, streams, retiredStreams, logLevel }: Config): number {
  const text = JSON.stringify(
    [
      http.corsOrigins.toSorted(),
      http.keys.toSorted(inOrder),
      http.rateLimit,
      http.rateLimitAllow.toSorted(),
      streams
        .toSorted(inOrder)
        .map(({ schema, ...stream }) => [typeof schema === 'string' ? schema : schema.jsonSchema, stream]),
      retiredStreams.toSorted(),
      logLevel,
    ],
    inOrderOfKeys,
  )
  return Number.parseInt(hash('sha256', text, 'hex').slice(0, 12), 16)
}

/** The order in which a file has the names of headers, say, does not matter. */
function inOrderOfKeys(_key: string, value: unknown): unknown {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1)))
}

function inOrder(
  { name: one }: { readonly name: string },
  { name: other }: { readonly name: string },
): number {
  return one < other ? -1 : 1
}

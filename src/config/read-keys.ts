import { z } from 'zod'
import {
  keyKinds,
  keyKindTraits,
  sha256OfKey,
  type ConfigProblem,
  type KeyConfig,
  type KeyKind,
} from './config.ts'
import { originList } from './environment-values.ts'
import { readLimit } from './limit-schema.ts'
import { isMap, nearestName, readFields, refuseUnknownKeys } from './read-fields.ts'
import { readDocument, type ReadFile } from './read-file.ts'
import { oneOf, quote, reference, refuseIf, type Flaw } from './setting.ts'

const giveHashes =
  'the SHA-256 of each valid value, 64 hexadecimal digits, as chute keys new prints it. The value itself stays out of the file'

/** The settings of one key in the file. `chute keys new` writes them. */
export const keyShape = {
  kind: oneOf(keyKinds),
  sha256: hashes().default([]),
  streams: nameList('names of streams, such as [metrics-realtime, web-*]').default([]),
  origins: originList().default([]),
  sources: nameList('names of sources, such as [pump-7, hall-2-*]').nullable().default(null),
  notAfter: instant().nullable().default(null),
} satisfies z.ZodRawShape

/** Where keys can stand. */
export interface KeysSource {
  /** `CHUTE_KEYS_FILE`; null: it is not set. */
  readonly keysFile: string | null
  /** `keys:` of the file of `CHUTE_CONFIG`; undefined: the file has none. */
  readonly section: unknown
  /** The streams that there are. Null: nobody knows, and the names are not compared. */
  readonly streams: readonly string[] | null
  /** `TLS_CLIENT_CA` is set: a certificate can be all that a key has. Null: nobody knows, and such a key is taken. */
  readonly hasClientCa: boolean | null
  readonly readFile: ReadFile
  readonly problems: ConfigProblem[]
}

/**
 * Reads the keys, from a file of their own or from `keys:` beside the streams. A key that cannot be read is not in the result,
 * and `problems` has the reasons.
 */
export function readKeys(source: KeysSource): KeyConfig[] {
  const { keysFile, section, readFile, problems } = source
  if (keysFile === null) return section === undefined ? [] : readMap(section, 'keys', source)
  if (section !== undefined) {
    problems.push({
      path: 'CHUTE_KEYS_FILE',
      problem: 'is set while the file of CHUTE_CONFIG has keys: too',
      remedy: 'Keep all keys in one of the two files.',
    })
  }
  const document = readDocument(keysFile, { readFile, problems, variable: 'CHUTE_KEYS_FILE' })
  if (document === null) return []
  const looksLikeKey = (value: unknown): boolean => isMap(value) && value['kind'] !== undefined
  if (document['keys'] === undefined && Object.values(document).some(looksLikeKey)) {
    problems.push({
      path: keysFile,
      problem: 'has keys that do not stand under keys:',
      remedy: 'Begin the file with a line keys: and indent what follows.',
    })
    return []
  }
  refuseUnknownKeys(document, ['keys'], (key) => `${keysFile}: ${key}`, problems)
  return readMap(document['keys'], `${keysFile}: keys`, source)
}

/** What the settings of a key are judged by. */
type KeyContext = Pick<KeysSource, 'streams' | 'hasClientCa' | 'problems'>

function readMap(value: unknown, path: string, context: KeyContext): KeyConfig[] {
  const { problems } = context
  if (!isMap(value) || Object.keys(value).length === 0) {
    problems.push({
      path,
      problem: value === undefined ? 'is missing' : 'names no key',
      remedy:
        'Give a map of keys. `chute keys new --help` shows how to make one, and prints the lines for the file.',
    })
    return []
  }
  const keys = Object.entries(value).flatMap(
    ([name, key]) => readKey(name, key, `${path}.${name}`, context) ?? [],
  )
  refuseSameValue(keys, path, problems)
  return keys
}

function readKey(name: string, value: unknown, path: string, context: KeyContext): KeyConfig | null {
  const { problems } = context
  const flaw = flawOfKeyName(name)
  if (flaw !== null) problems.push({ path, problem: flaw.problem, remedy: flaw.remedy })
  if (!isMap(value)) {
    problems.push({
      path,
      problem: `is ${quote(value)}`,
      remedy: 'Give a map: { kind: public, sha256: […], streams: […] }.',
    })
    return null
  }
  const at = (key: string) => `${path}.${key}`
  const values = readFields(keyShape, value, at, problems)
  refuseUnknownKeys(value, [...Object.keys(keyShape), 'limits', 'addressLimits'], at, problems)
  const limits = readLimit(value['limits'], at('limits'), problems)
  const addressLimits = readLimit(value['addressLimits'], at('addressLimits'), problems)
  // An empty list looks as if no page may use the key.
  if (value['origins'] !== undefined && values.origins?.length === 0) {
    problems.push({
      path: at('origins'),
      problem: 'is empty',
      remedy: 'Give origins, or leave it out: pages of CORS_ORIGINS may then use the key.',
    })
  }
  const kind = values.kind ?? kindMeantBy(value['kind'])
  if (kind === null) return null
  const key: KeyConfig = {
    name,
    kind,
    // A value that cannot be read is no missing one.
    sha256: values.sha256 ?? [''],
    streams: values.streams ?? [],
    origins: values.origins ?? [],
    sources: values.sources ?? null,
    notAfterMs: values.notAfter ?? null,
    limits,
    addressLimits,
  }
  refuseContradictions(key, at, context)
  return values.kind === undefined || values.sha256 === undefined ? null : key
}

/** The kind that a kind which there is not probably means, so that it hides no other problem of the key; null: nobody knows. */
function kindMeantBy(written: unknown): KeyKind | null {
  if (typeof written !== 'string' || written === '') return null
  const meant = keyKinds.find((kind) => kind.startsWith(written)) ?? nearestName(written, keyKinds)
  return keyKinds.find((kind) => kind === meant) ?? null
}

function refuseContradictions(
  key: KeyConfig,
  at: (setting: string) => string,
  { streams, hasClientCa, problems }: KeyContext,
): void {
  const { writes } = keyKindTraits[key.kind]
  if (key.sha256.length === 0 && (!writes || hasClientCa === false)) {
    problems.push({
      path: at('sha256'),
      problem: 'is missing',
      remedy: writes
        ? `Give ${giveHashes}. Or set TLS_CLIENT_CA: the key can then be a client's certificate alone, with ${quote(key.name)} as its common name.`
        : `Give ${giveHashes}. A certificate stands for no ${key.kind} key.`,
    })
  }
  if (!writes) {
    for (const field of ['streams', 'origins', 'sources'] as const) {
      if ((key[field]?.length ?? 0) === 0) continue
      problems.push({
        path: at(field),
        problem: `is set for an ${key.kind} key, which writes no events`,
        remedy: 'Leave it out, or make another key with kind: secret for it.',
      })
    }
    for (const field of ['limits', 'addressLimits'] as const) {
      if (key[field] === null) continue
      problems.push({
        path: at(field),
        problem: `is set for an ${key.kind} key, and only requests with events are limited`,
        remedy: 'Leave it out.',
      })
    }
    return
  }
  if (key.streams.length === 0) {
    problems.push({
      path: at('streams'),
      problem: 'names no stream, so the key could do nothing',
      remedy: 'Give names of streams, such as [metrics-realtime, web-*]. [*] stands for all of them.',
    })
  }
  for (const pattern of key.streams) {
    if (streams === null || pattern.endsWith('*') || streams.includes(pattern)) continue
    problems.push({
      path: at('streams'),
      problem: `has ${quote(pattern)}, and there is no such stream`,
      remedy: `The streams are ${streams.join(', ')}. A * at the end stands for every name that begins so.`,
    })
  }
}

/** Of a value that two keys had, nobody could say which one it is. */
function refuseSameValue(keys: readonly KeyConfig[], path: string, problems: ConfigProblem[]): void {
  const owners = new Map<string, string>()
  for (const { name, sha256 } of keys) {
    for (const hash of sha256) {
      const owner = owners.get(hash)
      if (owner !== undefined) {
        problems.push({
          path: `${path}.${name}.sha256`,
          problem: `has a value that ${owner === name ? 'stands there twice' : `${owner} has too`}`,
          remedy: 'Make a value of its own for each key: chute keys new.',
        })
      }
      owners.set(hash, name)
    }
  }
}

/** The reason why a text cannot be the name of a key; null if it can. The name is a label of metrics, and a header of records. */
export function flawOfKeyName(name: string): Flaw | null {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) return null
  return {
    problem: `is ${quote(name)}, which is not the name of a key`,
    remedy: 'Give 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or a digit.',
  }
}

/** What `printf '' | sha256sum` and `echo | sha256sum` print. No operator means that as a key. */
const hashesOfNothing: ReadonlySet<string> = new Set(['', '\n', '\r\n'].map(sha256OfKey))

/** SHA-256 of each valid value, in hexadecimal digits. A problem quotes none: somebody may have written the key itself. */
function hashes() {
  const flawIn = (list: readonly unknown[]): Flaw | null => {
    const wrong = list.findIndex((each) => typeof each !== 'string' || !/^[0-9a-f]{64}$/i.test(each))
    if (list.length > 0 && wrong === -1) {
      const empty = list.findIndex((each) => hashesOfNothing.has(String(each).toLowerCase()))
      if (empty === -1) return null
      return {
        problem: `has an entry (number ${empty + 1}) that is the SHA-256 of an empty text`,
        remedy:
          'Make a key: chute keys new. A script that hashes a variable gives this value where the variable is not set.',
      }
    }
    const problem =
      list.length === 0
        ? 'is empty, so no value is valid'
        : `has an entry (number ${wrong + 1}) that is no SHA-256`
    return { problem, remedy: `Give ${giveHashes}.` }
  }
  const toList = (value: unknown) => (value === undefined || Array.isArray(value) ? value : [value])
  return z
    .preprocess(toList, z.array(z.unknown()).check(refuseIf(flawIn)))
    .pipe(z.array(z.string().toLowerCase()))
    .register(reference, { give: giveHashes })
}

/** Names in a list, or by comma. A `*` at the end of one stands for all that begin so. */
function nameList(names: string) {
  const give = `${names}. A * can only stand at the end`
  const flawIn = (list: readonly unknown[]): Flaw | null => {
    const wrong = list.findIndex((each) => typeof each !== 'string' || !/^[^*]+\*?$|^\*$/.test(each.trim()))
    return wrong === -1 ? null : { problem: `has ${quote(list[wrong])}`, remedy: `Give ${give}.` }
  }
  return z
    .union([z.string().transform((text) => text.split(',')), z.array(z.unknown())])
    .check(refuseIf(flawIn))
    .pipe(z.array(z.string().trim()))
    .register(reference, { give })
}

/** A point in time (RFC 3339), or a day, which begins at midnight UTC. YAML 1.1 reads an unquoted one as a Date. It is kept in milliseconds since 1970. */
function instant() {
  return z
    .union([z.date(), z.iso.date(), z.iso.datetime({ offset: true })])
    .transform((time) => new Date(time).getTime())
    .register(reference, {
      give: 'a point in time: 2027-01-31T12:00:00Z, or a day: 2027-01-31 (it begins at midnight UTC)',
    })
}

/**
 * How a body is to be read. `json`: one event or an array. `ndjson`: an event a line. `text`: whatever it turns out to
 * be, since `curl -d` and `sendBeacon` send JSON under types that do not say so. `form`: the same, but a body that is
 * no JSON may be form fields. `unsupported`: 415.
 */
export type BodyKind = 'json' | 'ndjson' | 'text' | 'form' | 'unsupported'

const kinds: Readonly<Record<string, BodyKind>> = {
  'application/json': 'json',
  'text/json': 'json',
  'application/x-ndjson': 'ndjson',
  'application/ndjson': 'ndjson',
  'application/jsonl': 'ndjson',
  'application/x-jsonlines': 'ndjson',
  'application/jsonlines': 'ndjson',
  'application/json-lines': 'ndjson',
  'application/json-seq': 'unsupported',
  'text/plain': 'text',
  'application/x-www-form-urlencoded': 'form',
}

/** Media types that are read, for the detail of a 415 and for the contract. */
export const supportedMediaTypes: readonly string[] = Object.keys(kinds).filter(
  (type) => kinds[type] !== 'unsupported',
)

/** What was worked out for a header value: clients send the same few, over and over. Bounded, for some do not. */
const known = new Map<string, BodyKind>()
const knownLimit = 256

/**
 * Reads a Content-Type (RFC 9110, section 8.3). A missing or empty one is `text`, as `sendBeacon` leaves it out for
 * bytes. `application/*+json` is JSON (RFC 6839). A charset other than UTF-8 or US-ASCII is not supported: JSON is
 * UTF-8 (RFC 8259, section 8.1), and the bytes are passed on as they are.
 */
export function bodyKindOf(contentType: string | undefined): BodyKind {
  if (contentType === undefined || contentType === '') return 'text'
  const cached = known.get(contentType)
  if (cached !== undefined) return cached
  const kind = readKind(contentType.toLowerCase())
  if (known.size < knownLimit) known.set(contentType, kind)
  return kind
}

function readKind(contentType: string): BodyKind {
  const mediaType = (/^[^;]*/.exec(contentType)?.[0] ?? '').trim()
  for (const [, name, quoted, token] of contentType.slice(contentType.indexOf(';')).matchAll(parameters)) {
    if (name !== 'charset') continue
    const charset = quoted?.replaceAll(/\\(.)/g, '$1') ?? token?.replaceAll('"', '').trim()
    if (charset !== 'utf-8' && charset !== 'utf8' && charset !== 'us-ascii') return 'unsupported'
  }
  if (Object.hasOwn(kinds, mediaType)) return kinds[mediaType] ?? 'unsupported'
  return /^application\/[^/]+\+json$/.test(mediaType) ? 'json' : 'unsupported'
}

/**
 * The parameters of a media type (RFC 9110, sections 5.6.4 and 5.6.6): a semicolon in a quoted value is part of the value.
 * Blanks around the equals sign are taken too, though nobody should send them.
 */
const parameters = /;\s*([^\s;="]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))/g

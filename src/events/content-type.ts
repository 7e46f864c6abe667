/**
 * How a body is to be read. `json`: one event or an array. `ndjson`: an event a line. `text`: any of these, since `curl -d` and `sendBeacon`
 * send JSON under other types. `form`: as `text`, but a body that is no JSON may have the fields of a form. `unsupported`: answered with 415.
 * A new kind needs its row in `decode.ts`, and may need its own way in `routes/ingest/ingest.ts` and `routes/ingest/beacon.ts`.
 */
export type BodyKind = 'json' | 'ndjson' | 'text' | 'form' | 'unsupported'

const kinds: Readonly<Record<string, BodyKind>> = {
  'application/json': 'json',
  'text/json': 'json',
  // The reports that browsers send by themselves. Reports of the Reporting API come as application/reports+json.
  'application/csp-report': 'json',
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

/** The kinds of header values that were read before: clients send the same few values again and again. The number is bounded. */
const known = new Map<string, BodyKind>()
const knownLimit = 256

/**
 * Reads a Content-Type (RFC 9110, section 8.3). A missing or empty one is `text`, since `sendBeacon` sends bytes without a type.
 * `application/*+json` is JSON (RFC 6839). Charsets other than UTF-8 and US-ASCII are not supported: JSON is UTF-8 (RFC 8259, section 8.1),
 * and the bytes are passed on as they are.
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
 * The parameters of a media type (RFC 9110, sections 5.6.4 and 5.6.6). A semicolon in a quoted value belongs to the value. Blanks around the
 * equals sign are not allowed there, and are accepted here.
 */
const parameters = /;\s*([^\s;="]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))/g

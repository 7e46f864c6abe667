import { gzipSync } from 'node:zlib'

/** A body within the limits that is made to take long. */
export interface HostileShape {
  readonly name: string
  readonly path: string
  readonly contentType: string
  /** As it is sent: compressed with gzip where `isGzip`. */
  readonly body: Buffer
  readonly isGzip: boolean
  readonly headers?: Readonly<Record<string, string>>
  /** In the place of all that: bytes for a connection of its own, and how many replies they get. */
  readonly raw?: { readonly bytes: Buffer; readonly replies: number }
}

const bodyBytes = 1_048_576
const mostEvents = 9_999

/** Bodies that a stranger may send without a key, and that are refused for the most part. */
export function hostileShapes(): HostileShape[] {
  const telemetry = '/v1/streams/bench-telemetry'
  const schema = '/v1/streams/bench-schema'
  const key = (nth: number): string => `"${nth.toString(36)}":1`
  const anyKeys = `{${filled(key)}}`
  const good = '{"name":"a","value":1}'
  return [
    shape(`${mostEvents} events without a value, array, gzip`, telemetry, `[${listOf('{"name":1}')}]`, true),
    shape(`${mostEvents} events without a value, NDJSON`, telemetry, listOf('{"name":1}', '\n')),
    shape(`${mostEvents} lines that are not JSON`, telemetry, listOf('x', '\n'), true),
    shape(`${mostEvents} good events, the last one bad`, telemetry, `[${listOf(good)},{"name":"a"}]`, true),
    shape(`${mostEvents} good events with ids`, '/v1/streams/bench-critical', `[${numbered()}]`, true),
    numberedAnew('good events with ids that are new', '/v1/streams/bench-critical'),
    numberedAnew('good events with ids that are new, durable', '/v1/streams/bench-durable'),
    numberedAnew('events whose outcomes are asked for', '/v1/streams/bench-critical', { prefer: 'wait=5' }),
    otherContent(),
    shape('1 MiB of [', telemetry, '['.repeat(bodyBytes)),
    shape('500,000 nested arrays', telemetry, '['.repeat(bodyBytes / 2) + ']'.repeat(bodyBytes / 2)),
    shape('an event of 150,000 members', telemetry, anyKeys),
    shape('an event of 100,000 labels', telemetry, `{"name":"a","value":1,"labels":{${filled(key)}}}`),
    shape('an event of 3,000 bad labels', telemetry, badLabels(3_000)),
    shape('32 events of 3,000 bad labels', telemetry, `[${Array(32).fill(badLabels(3_000)).join(',')}]`),
    shape('100 events of 30 bad labels', telemetry, `[${Array(100).fill(badLabels(30)).join(',')}]`),
    shape(`${mostEvents} numbers in 20 KB, schema page`, '/v1/streams/bench-page', `[${listOf(1)}]`),
    shape(`${mostEvents} numbers in 20 KB, schema reports`, '/v1/streams/bench-reports', `[${listOf(1)}]`),
    shape(
      'an event of 350,000 empty objects',
      telemetry,
      `{"name":"a","value":1,"x":[${filled(() => '{}')}]}`,
    ),
    shape('objects of different shapes', telemetry, `[${listOf(0, ',', (nth) => `{${key(nth)}}`)}]`),
    shape('a text of escapes', telemetry, `{"name":"${'\\u0041'.repeat(bodyBytes / 6 - 10)}","value":1}`),
    shape('a number of a million digits', telemetry, `{"name":"a","value":${'1'.repeat(bodyBytes - 40)}}`),
    shape('a text of escapes, JSON Schema', schema, `{"name":"${'\\u0041'.repeat(bodyBytes / 6 - 10)}"}`),
    shape('an array of 500,000 numbers, JSON Schema', schema, `{"name":"a","x":[${filled(() => '1')}]}`),
    shape(
      '24,000 items that must be unique',
      '/v1/streams/bench-unique',
      `{"items":[${uniqueItems(24_000)}]}`,
    ),
    shape(
      '99,000 items that must be unique',
      '/v1/streams/bench-unique',
      `{"items":[${uniqueItems(99_000)}]}`,
    ),
    gzipMembers(),
    shape('1 MiB of blanks', telemetry, `${' '.repeat(bodyBytes - 1)}[`),
    shape('a bomb of gzip', telemetry, ' '.repeat(64 * bodyBytes), true),
    shape('members of 1 MiB, schema any', '/v1/streams/bench-any', anyKeys),
    shape('members of 1 MiB, JSON Schema', schema, anyKeys),
    shape(
      'a million blank lines between two bad ones',
      telemetry,
      `x\n${'\n'.repeat(bodyBytes - 10)}y`,
      true,
    ),
    shape(
      'an event of one key of 1 MiB',
      telemetry,
      `{"name":"a","value":1,"labels":{"${'é'.repeat(480_000)}":null}}`,
    ),
    shape('a line of 1 MiB that has no end', telemetry, `${good}\n{"name":"a","x":[${filled(() => '{}')}`),
    beacon('a key of 1 MiB in a beacon', `{"name":"a","value":1,"labels":{"${'é'.repeat(480_000)}":null}}`),
    form('a form of a million ampersands', `a=1${'&'.repeat(bodyBytes - 10)}`),
    form('a form of 100,000 fields', 'a=1&'.repeat(100_000)),
    form('a form of one field of 1 MiB', `name=${'%41'.repeat(bodyBytes / 3 - 10)}`),
    { ...shape('500 header fields', telemetry, good), headers: manyHeaders() },
    raw(
      '1,000 requests at once',
      Array.from({ length: 1_000 }, () => requestOf(telemetry, good)).join(''),
      1_000,
    ),
    raw('3,000 empty requests at once', 'GET / HTTP/1.1\r\nhost:a\r\n\r\n'.repeat(3_000), 883),
    raw('a body in chunks of one byte', inChunks(telemetry, `${good}${' '.repeat(30_000)}`, 1), 1),
    raw('1 MiB in chunks of 16 bytes', inChunks(telemetry, `${good}${' '.repeat(bodyBytes - 100)}`, 16), 1),
  ]
}

function raw(name: string, text: string, replies: number): HostileShape {
  return { ...shape(name, '', ''), raw: { bytes: Buffer.from(text), replies } }
}

function requestOf(path: string, body: string): string {
  const length = `content-length: ${body.length}\r\n`
  return `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n${length}\r\n${body}`
}

function inChunks(path: string, body: string, bytes: number): string {
  const head = `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n`
  const chunk = new RegExp(`[^]{1,${bytes}}`, 'g')
  const chunks = body.replaceAll(chunk, (piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`)
  return `${head}transfer-encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`
}

function manyHeaders(): Record<string, string> {
  return Object.fromEntries(Array.from({ length: 500 }, (_, nth) => [`x-${nth}`, 'a']))
}

function uniqueItems(length: number): string {
  return Array.from({ length }, (_, nth) => nth).join(',')
}

function gzipMembers(): HostileShape {
  const body = Buffer.concat(Array.from({ length: 10_000 }, () => gzipSync('')))
  return { ...shape('10,000 empty members of gzip', '/v1/streams/bench-telemetry', ''), body, isGzip: true }
}

function shape(name: string, path: string, text: string, isGzip = false): HostileShape {
  const contentType = text.includes('\n') ? 'application/x-ndjson' : 'application/json'
  const body = isGzip ? gzipSync(text) : Buffer.from(text)
  return { name, path, contentType, body, isGzip }
}

function beacon(name: string, text: string): HostileShape {
  return { ...shape(name, '/v1/beacon/bench-telemetry', text), contentType: 'text/plain' }
}

function form(name: string, text: string): HostileShape {
  const contentType = 'application/x-www-form-urlencoded'
  return { name, path: '/v1/beacon/bench-telemetry', contentType, body: Buffer.from(text), isGzip: false }
}

function listOf(
  item: string | number,
  separator = ',',
  each = (_nth: number): string => String(item),
): string {
  return Array.from({ length: mostEvents }, (_, nth) => each(nth)).join(separator)
}

/** The ids of a body that is sent again are known. */
function numbered(prefix = ''): string {
  return listOf(0, ',', (nth) => `{"name":"a","value":1,"source":"s","id":"${prefix}${nth}"}`)
}

/** Each body has ids that no other has. */
function numberedAnew(what: string, path: string, headers: Record<string, string> = {}): HostileShape {
  let bodies = 0
  return {
    name: `${mostEvents} ${what}`,
    path,
    headers,
    contentType: 'application/json',
    get body() {
      return Buffer.from(`[${numbered(`${what.length}-${bodies++}-`)}]`)
    },
    isGzip: false,
  }
}

/** Each body has the same ids, and content that no other has. */
function otherContent(): HostileShape {
  let bodies = 0
  return {
    name: `${mostEvents} ids that stand for other content`,
    path: '/v1/streams/bench-critical',
    contentType: 'application/json',
    get body() {
      const value = bodies++
      return Buffer.from(`[${listOf(0, ',', (nth) => `{"name":"a","value":${value},"id":"other-${nth}"}`)}]`)
    },
    isGzip: false,
  }
}

/** An event whose labels are all null: 32 KB where it has 3,000 of them, which is parsed in one go. */
function badLabels(count: number): string {
  const labels = Array.from({ length: count }, (_, nth) => `"${nth.toString(36)}":null`)
  return `{"name":"a","value":1,"labels":{${labels.join(',')}}}`
}

/** As many items, with commas between, as an event of 1 MiB has room for. */
function filled(item: (nth: number) => string): string {
  const items: string[] = []
  for (let bytes = 0, nth = 0; bytes < bodyBytes - 100; nth++) {
    const text = item(nth)
    bytes += text.length + 1
    items.push(text)
  }
  return items.join(',')
}

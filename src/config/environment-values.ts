import { z } from 'zod'
import { type Flaw, quote, reference, refuseIf, wholeNumber } from './setting.ts'
/** The kinds of values that the variables of the environment have. */

/** A port. @param least 0 where any free one will do. */
export const portNumber = (least: number) => wholeNumber(null, least, 65_535)

const waysToABroker = `Chute writes to Kafka and needs the address of a broker. Three ways to have one:
1. npm run kafka, in another terminal: a local Kafka (needs Java 17 and Maven); then KAFKA_BROKERS=127.0.0.1:9092
2. Docker: docker run --rm -p 9092:9092 apache/kafka; then KAFKA_BROKERS=127.0.0.1:9092
3. a cluster that you have: KAFKA_BROKERS=host:port,host:port`

const anOrigin =
  'scheme://host or scheme://host:port, such as https://app.example.com, or https://*.example.com for all its subdomains'

/** A text in PEM form. A problem never quotes it, since it may be a private key. */
export function pem() {
  const give =
    'the text itself, from -----BEGIN to the end, or name its file in the same variable with _FILE behind it'
  const meta = { give, takes: 'PEM', problem: 'is no PEM text', orInFile: true }
  return z.string().includes('-----BEGIN ').register(reference, meta)
}

/** A text that is taken as it is, blanks included. A problem never quotes it. */
export function secret() {
  return z
    .string()
    .register(reference, { give: 'a text', takes: 'text', problem: 'is not a text', orInFile: true })
}

/** `host:port,host:port`. An IPv6 address stands in brackets. */
export function brokerList() {
  return z
    .string()
    .check(refuseIf(flawOfBrokers))
    .transform(listOf)
    .register(reference, { takes: '`host:port`, by comma', ifNotSet: waysToABroker })
}

function flawOfBrokers(text: string): Flaw | null {
  const addresses = listOf(text)
  const wrong = addresses.filter((address) => !isHostAndPort(address))
  if (wrong.length === 0 && addresses.length > 0) return null
  const quoted = wrong.length === 0 ? quote(text) : wrong.map((address) => quote(address)).join(' and ')
  return {
    problem: `has ${quoted}, which ${wrong.length > 1 ? 'are' : 'is'} not host:port`,
    remedy:
      'Give host:port,host:port with ports from 1 to 65535 and nothing else, such as kafka-1:9092,kafka-2:9092.',
  }
}

function isHostAndPort(address: string): boolean {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9._-]*[a-z0-9_.])?):(\d{1,5})$/i.exec(address)
  const port = Number(match?.[3])
  return port >= 1 && port <= 65_535
}

/** A URL of `https://`, or of `http://` for trials. */
export function httpUrl() {
  const meta = {
    give: 'a URL without a user, such as https://login.example.com/oauth2/token',
    takes: 'a URL',
    problem: 'is not a URL',
  }
  return z.string().refine(isHttpUrl).register(reference, meta)
}

/** A user in a URL would stand in each error. */
function isHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, username, password } = new URL(text)
  return /^https?:$/.test(protocol) && username === '' && password === ''
}

/** `name=value,name=value`. Names are letters; a value has no control character (RFC 7628, section 3.1). */
export function saslExtensions() {
  const meta = {
    give: 'name=value,name=value, with letters in each name but not auth',
    takes: '`name=value`, by comma',
    problem: 'is not a list of extensions',
  }
  return z
    .string()
    .refine((text) => listOf(text).every((each) => /^(?!auth=)[A-Za-z]+=[\x20-\x7e]+$/.test(each)))
    .transform((text) =>
      Object.fromEntries(
        listOf(text).map(
          (each) => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)] as const,
        ),
      ),
    )
    .register(reference, meta)
}

/** A URL of `redis://` or `rediss://`. A problem never quotes it, since it may contain a password. */
export function redisUrl() {
  const give =
    'redis://host:6379 or rediss://user:password@host:6380/0 (TLS), with what a URL reserves in a password escaped (%40 for @), and nothing else'
  const meta = { give, takes: 'a URL', problem: 'is not the URL of a Redis', orInFile: true }
  return z.string().refine(isRedisUrl).register(reference, meta)
}

function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, pathname, search, hash } = new URL(text)
  if (!/^rediss?:$/.test(protocol) || hostname === '' || search !== '' || hash !== '') return false
  return /^(\/\d{0,5})?$/.test(pathname)
}

/**
 * Origins as a browser sends them (RFC 6454, section 7): scheme and host in lower case, no path and no default port.
 * `https://*.example.com` stands for all subdomains, and `*` alone for every origin.
 */
export function originList() {
  return z
    .union([z.string(), z.array(z.string())])
    .transform((given) => listOf(String(given).replaceAll('\n', ',')))
    .check(refuseIf(flawOfOrigins))
    .register(reference, { give: anOrigin, takes: 'origins, by comma' })
}

/** The first parts of the paths that the gateway has itself: those of `operations` in dev/openapi-operations.ts, as a test holds. */
const ownPaths = new Set(['v1', 'chute', 'docs', 'live', 'livez', 'metrics', 'openapi', 'readyz'])

/** A path for beacons. Each part is of characters that need no escaping (RFC 3986, section 2.3). */
export function beaconPath() {
  const give = 'a path such as /in or /in/web, without a slash at its end'
  return z.string().check(refuseIf(flawOfBeaconPath)).register(reference, { give, takes: 'a path' })
}

function flawOfBeaconPath(path: string): Flaw | null {
  if (!/^(?:\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$/.test(path)) {
    const remedy =
      'Give a path such as /in or /in/web: a slash before each part, and letters, digits, dashes, dots and underscores.'
    return { problem: `is ${quote(path)}, which is not a path`, remedy }
  }
  const [, first = ''] = path.split(/[/.]/)
  if (!ownPaths.has(first)) return null
  return {
    problem: `is ${quote(path)}, which the gateway has itself`,
    remedy: 'Give another path, such as /in.',
  }
}

function flawOfOrigins(origins: readonly string[]): Flaw | null {
  if (origins.length > 1 && origins.includes('*')) {
    return {
      problem: 'has * beside other origins',
      remedy: 'Give * alone for any origin, or the origins without it.',
    }
  }
  const wrong = origins.find((origin) => origin !== '*' && originOf(origin) !== origin)
  if (wrong === undefined) return null
  const right = originOf(wrong)
  return {
    problem: `has ${quote(wrong)}, which is not an origin`,
    remedy: right === null ? `Give ${anOrigin}.` : `Write ${right}.`,
  }
}

/** The origin of a text, in which `*` may stand at the front of the host for one or more labels. @returns null if it is no origin. */
function originOf(text: string): string | null {
  const host = text.replace('://*.', '://')
  if (host.includes('*') || !URL.canParse(host)) return null
  const { origin } = new URL(host)
  if (origin === 'null') return null
  return host === text ? origin : origin.replace('://', '://*.')
}

function listOf(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

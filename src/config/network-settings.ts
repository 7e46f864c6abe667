import { Refusal, quote, setting } from './setting.ts'

/** `host:port,host:port`. An IPv6 address stands in brackets. */
export function brokerList() {
  return setting<readonly string[]>((value) => {
    if (value === undefined) return new Refusal('is not set', waysToABroker)
    const addresses = listOf(value)
    const wrong = addresses.filter((address) => !isHostAndPort(address))
    if (wrong.length === 0 && addresses.length > 0) return addresses
    const quoted = wrong.length === 0 ? quote(value) : wrong.map((address) => quote(address)).join(' and ')
    return new Refusal(
      `has ${quoted}, which ${wrong.length > 1 ? 'are' : 'is'} not host:port`,
      'Give host:port,host:port with ports from 1 to 65535 and nothing else, such as kafka-1:9092,kafka-2:9092.',
    )
  })
}

const waysToABroker = `Chute writes to Kafka and needs the address of a broker. Three ways to have one:
1. npm run kafka, in another terminal: a local Kafka (needs Java 17 and Maven); then KAFKA_BROKERS=127.0.0.1:9092
2. Docker: docker run --rm -p 9092:9092 apache/kafka; then KAFKA_BROKERS=127.0.0.1:9092
3. a cluster that you have: KAFKA_BROKERS=host:port,host:port`

function isHostAndPort(address: string): boolean {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9._-]*[a-z0-9_.])?):(\d{1,5})$/i.exec(address)
  const port = Number(match?.[3])
  return port >= 1 && port <= 65_535
}

/** `redis://` or `rediss://`. Never quoted: it may have a password in it. */
export function redisUrl() {
  return setting<string>((value) => {
    if (typeof value === 'string' && isRedisUrl(value)) return value
    return new Refusal(
      'is not the URL of a Redis',
      'Give redis://host:6379 or rediss://user:password@host:6380/0 (TLS), with what a URL reserves in a password escaped (%40 for @), and nothing else.',
    )
  })
}

function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, pathname, search, hash } = new URL(text)
  if (!/^rediss?:$/.test(protocol) || hostname === '' || search !== '' || hash !== '') return false
  return /^(\/\d{0,5})?$/.test(pathname)
}

/**
 * Origins as a browser sends them (RFC 6454, section 7): scheme and host, in lower case, no path, no default port; `https://*.example.com` for all
 * subdomains; or `*` alone.
 */
export function originList() {
  return setting<readonly string[]>((value) => {
    const origins = listOf(value)
    if (origins.length > 1 && origins.includes('*')) {
      return new Refusal(
        'has * beside other origins',
        'Give * alone for any origin, or the origins without it.',
      )
    }
    for (const origin of origins) {
      const right = origin === '*' ? origin : originOf(origin)
      if (right === origin) continue
      const remedy =
        right === null
          ? 'Give scheme://host or scheme://host:port, such as https://app.example.com, or https://*.example.com for all its subdomains.'
          : `Write ${right}.`
      return new Refusal(`has ${quote(origin)}, which is not an origin`, remedy)
    }
    return origins
  })
}

/** `*` stands for one or more labels at the front of a host, and nowhere else. @returns null for what is no origin. */
function originOf(text: string): string | null {
  const host = text.replace('://*.', '://')
  if (host.includes('*') || !URL.canParse(host)) return null
  const { origin } = new URL(host)
  if (origin === 'null') return null
  return host === text ? origin : origin.replace('://', '://*.')
}

function listOf(value: unknown): string[] {
  return String(value)
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

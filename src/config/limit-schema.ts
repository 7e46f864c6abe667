import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import type { ConfigProblem } from './config.ts'
import { isMap, readFields, refuseUnknownKeys } from './read-fields.ts'
import { parseDurationMs, quote, reference, refuseIf, wholeNumber, type Flaw } from './setting.ts'
import type { RateLimit } from './limits.ts'

/** The settings of a limit in the file: `limits` and `addressLimits` of a key. */
const limitShape = {
  requests: wholeNumber(null, 1).nullable().default(null),
  events: wholeNumber(null, 1).nullable().default(null),
  bytes: wholeNumber('bytes', 1).nullable().default(null),
  window: duration().default(60_000),
  burst: burst(),
} satisfies z.ZodRawShape

/** Reads a limit of the file. @returns null if there is none, or if it limits nothing, which is a problem. */
export function readLimit(value: unknown, path: string, problems: ConfigProblem[]): RateLimit | null {
  if (value === undefined || value === null) return null
  if (!isMap(value)) {
    problems.push({
      path,
      problem: `is ${quote(value)}`,
      remedy: 'Give a map: { requests: 1000, events: 50000, bytes: 10485760, window: 60s, burst: 1 }.',
    })
    return null
  }
  const at = (key: string): string => `${path}.${key}`
  const known = problems.length
  const values = readFields(limitShape, value, at, problems)
  refuseUnknownKeys(value, Object.keys(limitShape), at, problems)
  const { requests = null, events = null, bytes = null, window: windowMs = 60_000, burst: most = 1 } = values
  if (requests !== null || events !== null || bytes !== null)
    return { requests, events, bytes, windowMs, burst: most }
  if (problems.length === known)
    problems.push({
      path,
      problem: 'limits nothing',
      remedy: 'Give requests, events or bytes, or leave it out.',
    })
  return null
}

/** How many windows' worth may be sent at once. */
export function burst() {
  return wholeNumber(null, 1, 1_000).default(1)
}

/** At least 1 ms. It is kept in milliseconds. */
export function duration() {
  const give = 'a duration: 60000 (milliseconds), 60s, 1m or 1h'
  return z
    .union([z.string(), z.number().transform(String)])
    .transform(parseDurationMs)
    .pipe(z.number().min(1))
    .register(reference, { give, takes: 'a duration' })
}

/** ipaddr.js would also take 7, 1.5 and 0x10 for IPv4 addresses. */
function isNetwork(text: string): boolean {
  const slash = text.indexOf('/')
  return slash === -1 ? isIP(text) !== 0 : isIP(text.slice(0, slash)) !== 0 && ipaddr.isValidCIDR(text)
}

/** Addresses and networks in CIDR notation (RFC 4632, section 3.1; RFC 4291, section 2.3), by comma. */
export function networkList() {
  const give = 'addresses and networks by comma, such as 10.0.0.0/8,192.0.2.7,2001:db8::/32'
  const flawIn = (networks: readonly string[]): Flaw | null => {
    const wrong = networks.find((network) => !isNetwork(network))
    return wrong === undefined
      ? null
      : { problem: `has ${quote(wrong)}, which is no address and no network`, remedy: `Give ${give}.` }
  }
  return z
    .string()
    .transform((text) =>
      text
        .split(/[,\n]/)
        .map((part) => part.trim())
        .filter((part) => part !== ''),
    )
    .check(refuseIf(flawIn))
    .register(reference, { give, takes: 'networks, by comma' })
}

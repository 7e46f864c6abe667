import { limitedQuantities, type LimitedQuantity, type RateLimit } from '../../config/limits.ts'
import type { Usage } from '../../limits/limit-counts.ts'

/** Whose limit it is: a key's, an address's, or that of an address that uses a key. A closed set, since it is a label of metrics. */
export type LimitOwner = 'key' | 'key_address' | 'address'

/** Whose limit it is, and the limit. */
interface OwnedLimit {
  readonly owner: LimitOwner
  readonly limit: RateLimit
}

/**
 * `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10) of the replies that are charged to the same limits: each policy,
 * and what is left of it. From reply to reply only some digits change, so the fields are kept as bytes, and the digits are written into
 * them. To put the text together takes V8 longer than to count: it makes an object of each piece, and reads all of them again.
 */
export class RateLimitFields {
  readonly #limits: readonly OwnedLimit[]
  /** As they were sent last. */
  #bytes: Buffer = Buffer.alloc(0)
  /** What is left of each quantity of each limit, in turn; empty before the first reply. */
  #entries: readonly Entry[] = []

  constructor(limits: readonly OwnedLimit[]) {
    this.#limits = limits
  }

  /** The fields as they are sent. @param usages by limit. */
  lines(usages: readonly Usage[]): string {
    if (this.#entries.length === 0 || !this.#rewrite(usages)) this.#write(usages)
    return this.#bytes.toString('latin1')
  }

  /** @returns false: another text is needed, since a number has other digits than its last four, or fewer of them. */
  #rewrite(usages: readonly Usage[]): boolean {
    let nth = 0
    for (let at = 0; at < usages.length; at++) {
      const { limit } = this.#limits[at]!
      const { requests, events, bytes, burst } = limit
      const used = usages[at]!
      const seconds = secondsLeft(limit, used)
      if (requests !== null && !this.#put(nth++, remaining(requests, burst, used.requests), seconds))
        return false
      if (events !== null && !this.#put(nth++, remaining(events, burst, used.events), seconds)) return false
      if (bytes !== null && !this.#put(nth++, remaining(bytes, burst, used.bytes), seconds)) return false
    }
    return true
  }

  #put(nth: number, left: number, seconds: number): boolean {
    const entry = this.#entries[nth]!
    return rewrite(this.#bytes, entry.left, left) && rewrite(this.#bytes, entry.seconds, seconds)
  }

  #write(usages: readonly Usage[]): void {
    const policies = this.#limits.flatMap(policiesOf).join(', ')
    let text = `ratelimit-policy: ${policies}\r\nratelimit: `
    this.#entries = this.#limits.flatMap(({ owner, limit }, at) =>
      quantitiesOf(limit).map((quantity, nth) => {
        const used = usages[at]!
        const left = remaining(limit[quantity]!, limit.burst, used[quantity])
        const seconds = secondsLeft(limit, used)
        text += `${at + nth === 0 ? '' : ', '}"${policyNames[owner][quantity]}";r=${left}`
        const leftNumber = numberAt(text.length, left)
        text += `;t=${seconds}`
        return { left: leftNumber, seconds: numberAt(text.length, seconds) }
      }),
    )
    this.#bytes = Buffer.from(`${text}\r\n`, 'latin1')
  }
}

/** What is left of a quantity, and for how long. */
interface Entry {
  readonly left: WrittenNumber
  readonly seconds: WrittenNumber
}

/** A number in the bytes. Its last four digits are rewritten. */
interface WrittenNumber {
  /** Behind its last digit. */
  readonly end: number
  /** The number without its last four digits. */
  readonly high: number
  /** How many digits are rewritten: 1 to 4. */
  readonly width: number
  number: number
}

function numberAt(end: number, number: number): WrittenNumber {
  const high = Math.floor(number / 10_000)
  return { end, high, width: widthOf(high, number - high * 10_000), number }
}

/** @returns false: the number has another length, or other digits in front of the last four, or is too large to be exact. */
function rewrite(bytes: Buffer, written: WrittenNumber, number: number): boolean {
  if (number === written.number) return true
  const { end, high, width } = written
  let low = number - high * 10_000
  if (low < 0 || low >= 10_000 || widthOf(high, low) !== width || !Number.isSafeInteger(number)) return false
  written.number = number
  for (let at = end - 1; at >= end - width; at--) {
    const tenth = Math.trunc(low / 10)
    bytes[at] = zero + low - tenth * 10
    low = tenth
  }
  return true
}

function widthOf(high: number, low: number): number {
  if (high > 0 || low >= 1000) return 4
  if (low >= 100) return 3
  return low >= 10 ? 2 : 1
}

const zero = '0'.charCodeAt(0)

/** What is left of a quota in its window. */
export function remaining(quota: number, burst: number, used: number): number {
  return Math.max(0, quota * burst - used)
}

/** Until the window ends, in whole seconds. */
function secondsLeft({ windowMs }: RateLimit, { openMs }: Usage): number {
  return Math.ceil((windowMs - openMs) / 1000)
}

function quantitiesOf(limit: RateLimit): LimitedQuantity[] {
  return limitedQuantities.filter((quantity) => limit[quantity] !== null)
}

/** `qu` is the unit of a quota; without it a quota counts requests. The draft has no unit for events. */
function policiesOf({ owner, limit }: OwnedLimit): string[] {
  const seconds = Math.ceil(limit.windowMs / 1000)
  return quantitiesOf(limit).map((quantity) => {
    const unit = { requests: '', events: ';qu="events"', bytes: ';qu="content-bytes"' }[quantity]
    return `"${policyNames[owner][quantity]}";q=${limit[quantity]}${unit};w=${seconds}`
  })
}

const policyNames: Readonly<Record<LimitOwner, Readonly<Record<LimitedQuantity, string>>>> = {
  key: { requests: 'key-requests', events: 'key-events', bytes: 'key-bytes' },
  key_address: {
    requests: 'key-address-requests',
    events: 'key-address-events',
    bytes: 'key-address-bytes',
  },
  address: { requests: 'default', events: 'address-events', bytes: 'address-bytes' },
}

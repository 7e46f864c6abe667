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
  /** The first field, and the name of the second one; null before the first reply. */
  #begin: string | null = null
  /** As they were sent last; null before the second reply: many addresses come only once. */
  #bytes: Buffer | null = null
  /** What is left of each quantity of each limit, in turn. */
  #entries: readonly Entry[] = []

  constructor(limits: readonly OwnedLimit[]) {
    this.#limits = limits
  }

  /** The fields as they are sent. @param usages by limit. */
  lines(usages: readonly Usage[]): string {
    if (this.#bytes !== null && this.#rewrite(this.#bytes, usages)) return this.#bytes.toString('latin1')
    return this.#write(usages)
  }

  /** @returns false: another text is needed, since a number has more digits or fewer. */
  #rewrite(bytes: Buffer, usages: readonly Usage[]): boolean {
    const entries = this.#entries
    let nth = 0
    for (let at = 0; at < usages.length; at++) {
      const { limit } = this.#limits[at]!
      const { requests, events, bytes: quotaBytes, burst } = limit
      const used = usages[at]!
      const seconds = secondsLeft(limit, used)
      if (
        requests !== null &&
        !put(bytes, entries[nth++]!, remaining(requests, burst, used.requests), seconds)
      )
        return false
      if (events !== null && !put(bytes, entries[nth++]!, remaining(events, burst, used.events), seconds))
        return false
      if (
        quotaBytes !== null &&
        !put(bytes, entries[nth++]!, remaining(quotaBytes, burst, used.bytes), seconds)
      )
        return false
    }
    return true
  }

  #write(usages: readonly Usage[]): string {
    const isFirst = this.#begin === null
    this.#begin ??= `ratelimit-policy: ${this.#limits.flatMap(policiesOf).join(', ')}\r\nratelimit: `
    let text = this.#begin
    this.#entries = this.#limits.flatMap(({ owner, limit }, at) =>
      quantitiesOf(limit).map((quantity, nth) => {
        const left = remaining(limit[quantity]!, limit.burst, usages[at]![quantity])
        const seconds = secondsLeft(limit, usages[at]!)
        text += `${at + nth === 0 ? '' : ', '}"${policyNames[owner][quantity]}";r=${left}`
        const leftNumber = numberAt(text.length, left)
        text += `;t=${seconds}`
        return { left: leftNumber, seconds: numberAt(text.length, seconds) }
      }),
    )
    text += '\r\n'
    if (!isFirst) {
      // A slice of the pool of Node's buffers would keep 8 KiB for each address.
      if (this.#bytes?.length !== text.length) this.#bytes = Buffer.allocUnsafeSlow(text.length)
      this.#bytes.write(text, 'latin1')
    }
    return text
  }
}

/** What is left of a quantity, and for how long. */
interface Entry {
  readonly left: WrittenNumber
  readonly seconds: WrittenNumber
}

/** A number in the bytes. */
interface WrittenNumber {
  /** Behind its last digit. */
  readonly end: number
  /** The least number with as many digits, and the least one with more. */
  readonly least: number
  readonly tooLarge: number
  number: number
}

function numberAt(end: number, number: number): WrittenNumber {
  // A number that is not exact is written as it is told.
  if (!Number.isSafeInteger(number)) return { end, least: 0, tooLarge: 0, number }
  let tooLarge = 10
  while (tooLarge <= number) tooLarge *= 10
  return { end, least: tooLarge === 10 ? 0 : tooLarge / 10, tooLarge, number }
}

/** @returns see {@link rewrite}. */
function put(bytes: Buffer, entry: Entry, left: number, seconds: number): boolean {
  return rewrite(bytes, entry.left, left) && rewrite(bytes, entry.seconds, seconds)
}

/** Writes the digits that changed. @returns false: the number has more digits or fewer, or it is too large to be exact. */
function rewrite(bytes: Buffer, written: WrittenNumber, number: number): boolean {
  let was = written.number
  if (number === was) return true
  if (number < written.least || number >= written.tooLarge || !Number.isSafeInteger(number)) return false
  written.number = number
  let at = written.end
  let now = number
  do {
    const tenth = Math.trunc(now / 10)
    bytes[--at] = zero + now - tenth * 10
    now = tenth
    was = Math.trunc(was / 10)
  } while (now !== was)
  return true
}

const zero = '0'.charCodeAt(0)

/** What is left of a quota in its window. */
export function remaining(quota: number, burst: number, used: number): number {
  return Math.max(0, quota * burst - used)
}

/** Until the window ends, in whole seconds. A window that a reload made shorter may have ended. */
function secondsLeft({ windowMs }: RateLimit, { openMs }: Usage): number {
  return Math.max(0, Math.ceil((windowMs - openMs) / 1000))
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

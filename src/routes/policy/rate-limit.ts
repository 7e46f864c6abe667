import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { HttpConfig } from '../../config/config.ts'
import type { LimitedQuantity, RateLimit } from '../../config/limits.ts'
import { GatewayError } from '../../errors.ts'
import {
  excessOf,
  type Charge,
  type Cost,
  type LimitStore,
  type Subject,
  type Usage,
  type Verdict,
} from '../../limits/limit-counts.ts'
import type { AccessKey } from '../http/access-key.ts'
import type { Charges } from '../http/charges.ts'
import { type HeaderSource, holdHeaders } from '../http/held-headers.ts'
import { KnownAddresses, type KnownAddress } from './known-addresses.ts'
import { RateLimitFields, remaining, type LimitOwner } from './rate-limit-fields.ts'

/** Requests that a limit refused, by owner and quantity. */
export type LimitedRequests = Readonly<Record<LimitOwner, Readonly<Record<LimitedQuantity, number>>>>

/**
 * Limits requests, events and bytes by key and by address. An IPv6 network of 64 bits is one address.
 *
 * A request is charged in two steps: for itself and the length that it tells, before its body is read; and for its events and the rest of
 * its bytes, before the first event is accepted. Each step is charged to all limits of the request, or to none. A request that the second step
 * refuses stays charged for the first one: its body was read, and a limit of requests bounds how often that can be in vain. A body that is
 * refused for itself is charged for the bytes that came of it. A request that is refused
 * gets 429 with `Retry-After`, and nothing of it is accepted. A request that a limit could never take gets 413.
 *
 * Replies name each policy and what is left of it (draft-ietf-httpapi-ratelimit-headers-10).
 *
 * The limits can be replaced while requests come: {@link reload} is one assignment, and the counts are elsewhere ({@link LimitStore}). The
 * limits of keys come with the keys.
 */
export class RateLimits {
  readonly #counting: Counting
  /** By key: what its requests are charged to, whatever their address is. */
  readonly #ofKeys = new WeakMap<AccessKey, KeyRules>()
  #addresses: KnownAddresses<AddressRules>

  /** `MAX_BODY_BYTES`. */
  readonly #bodyBytes: number

  constructor(http: AddressLimits & Pick<HttpConfig, 'limits'>, store: LimitStore) {
    this.#bodyBytes = http.limits.bodyBytes
    this.#counting = { store, limited: { key: zeros(), key_address: zeros(), address: zeros() } }
    this.#addresses = addressesOf(http)
  }

  /** Other limits of addresses hold from now on. What was counted of an address stays. */
  reload(http: AddressLimits): void {
    this.#addresses = addressesOf(http)
  }

  /** What counts as one client, and whether limits of addresses hold for it. */
  readonly lookUp = (address: string): { readonly network: string; readonly isAllowed: boolean } =>
    this.#addresses.get(address)

  get limited(): LimitedRequests {
    return this.#counting.limited
  }

  /** Limits the requests on the routes of a scope. It comes behind the guard of keys. */
  guard(app: FastifyInstance): void {
    app.decorateRequest('charges', null)
    app.addHook('onRequest', (request, reply, done) => {
      // A browser sends a preflight by itself, and its page cannot react to a refusal.
      const rules = request.method === 'OPTIONS' ? none : this.#rulesOf(request)
      if (rules.subjects.length === 0) return done()
      const charges = new RequestCharges(rules, this.#counting, reply.raw)
      request.charges = charges
      holdHeaders(reply.raw, charges)
      charges.chargeHeader(toldBytes(request.raw.headers, this.#bodyBytes), done)
    })
  }

  #rulesOf(request: FastifyRequest): Rules {
    const { accessKey } = request
    const address = this.#addresses.get(request.ip)
    if (accessKey === null) return address.known.own
    let rules = address.known.withKey.get(accessKey)
    if (rules === undefined) {
      rules = this.#join(accessKey, address)
      address.known.withKey.set(accessKey, rules)
    }
    return rules
  }

  /** Everything that the requests of a key from an address are charged to. */
  #join(key: AccessKey, { network, isAllowed, known }: KnownAddress<AddressRules>): Rules {
    const { own, perAddress } = this.#ofKey(key)
    const subjects = own === null ? [] : [own]
    if (perAddress !== null && !isAllowed) {
      const { id, limit } = perAddress
      subjects.push(ruleOf('key_address', `${id}${network}`, limit, `an address with ${key.name}`))
    }
    return subjects.length === 0 ? known.own : rulesOf([...subjects, ...known.own.subjects])
  }

  #ofKey(key: AccessKey): KeyRules {
    const known = this.#ofKeys.get(key)
    if (known !== undefined) return known
    const { name, limits, addressLimits } = key
    const rules: KeyRules = {
      own: limits === null ? null : ruleOf('key', `key:${name}`, limits, `the key ${name}`),
      perAddress: addressLimits === null ? null : { id: `key:${name}@`, limit: addressLimits },
    }
    this.#ofKeys.set(key, rules)
    return rules
  }
}

/** The limits of addresses, as the configuration has them. */
export type AddressLimits = Pick<HttpConfig, 'rateLimit' | 'rateLimitAllow'>

/** One limit that a request is charged to. */
interface Rule extends Subject {
  readonly owner: LimitOwner
  /** For people. */
  readonly whose: string
  /** The last problem of each quantity that had run out. */
  readonly refusals: Partial<Record<LimitedQuantity, GatewayError>>
}

interface KeyRules {
  readonly own: Rule | null
  readonly perAddress: Subject | null
}

/** What one request is charged to, and what follows from it. It is made once for all requests of a key from an address. */
interface Rules {
  readonly subjects: readonly Rule[]
  /** What replies say of the limits. */
  readonly fields: RateLimitFields
  readonly limitsEvents: boolean
  readonly limitsBytes: boolean
}

interface AddressRules {
  /** For requests without a key. */
  readonly own: Rules
  readonly withKey: WeakMap<AccessKey, Rules>
}

const none = rulesOf([])

function rulesOf(subjects: readonly Rule[]): Rules {
  return {
    subjects,
    fields: new RateLimitFields(subjects),
    limitsEvents: subjects.some(({ limit }) => limit.events !== null),
    limitsBytes: subjects.some(({ limit }) => limit.bytes !== null),
  }
}

function addressesOf({ rateLimit, rateLimitAllow }: AddressLimits): KnownAddresses<AddressRules> {
  return new KnownAddresses(rateLimitAllow, (network, isAllowed) => ({
    own:
      rateLimit === null || isAllowed
        ? none
        : rulesOf([ruleOf('address', `address:${network}`, rateLimit, 'an address')]),
    withKey: new WeakMap(),
  }))
}

function ruleOf(owner: LimitOwner, id: string, limit: RateLimit, whose: string): Rule {
  return { owner, id, limit, whose, refusals: {} }
}

/** The charges of one request. Its reply says what the limits are, and what is left of each. */
class RequestCharges implements Charges, HeaderSource {
  readonly #rules: Rules
  readonly #counting: Counting
  readonly #response: ServerResponse
  #declaredBytes = 0
  #isBodyCharged = false
  /** By rule; empty before the first charge. */
  #usages: readonly Usage[] = notCharged

  constructor(rules: Rules, counting: Counting, response: ServerResponse) {
    this.#rules = rules
    this.#counting = counting
    this.#response = response
  }

  /** Charges a request before its body is read. @param bytes see {@link toldBytes}. */
  chargeHeader(bytes: number, done: (problem?: GatewayError) => void): void {
    this.#declaredBytes = bytes
    this.#charge({ requests: 1, events: 0, bytes }, done)
  }

  /** @inheritdoc */
  chargeBody(events: number, bytes: number, done: (problem?: GatewayError) => void): void {
    this.#isBodyCharged = true
    const { limitsEvents, limitsBytes } = this.#rules
    const more = Math.max(0, bytes - this.#declaredBytes)
    if (limitsEvents || (limitsBytes && more > 0)) this.#charge({ requests: 0, events, bytes: more }, done)
    else done()
  }

  /** @inheritdoc */
  chargeRefused(bytes: number): void {
    const more = bytes - this.#declaredBytes
    if (this.#isBodyCharged || more <= 0 || !this.#rules.limitsBytes) return
    this.#isBodyCharged = true
    this.#chargeBytes(more, ({ refusedBy, usages }) => {
      if (refusedBy === -1) return
      const left = this.#rules.subjects.map(({ limit }, nth) =>
        limit.bytes === null ? more : remaining(limit.bytes, limit.burst, usages[nth]!.bytes),
      )
      const most = Math.min(more, ...left)
      if (most > 0) this.#chargeBytes(most, () => {})
    })
  }

  #chargeBytes(bytes: number, done: (verdict: Verdict) => void): void {
    const { subjects } = this.#rules
    this.#counting.store.charge({ subjects, cost: { requests: 0, events: 0, bytes } }, (verdict) => {
      this.#usages = verdict.usages
      done(verdict)
    })
  }

  /** Where the counts are in this process, nothing is made for a verdict that comes later. */
  #charge(cost: Cost, done: (problem?: GatewayError) => void): void {
    const charge = { subjects: this.#rules.subjects, cost }
    const verdict = this.#counting.store.chargeNow(charge)
    if (verdict === null) this.#chargeLater(charge, done)
    else done(this.#problemOf(cost, verdict))
  }

  #chargeLater(charge: Charge, done: (problem?: GatewayError) => void): void {
    this.#counting.store.charge(charge, (verdict) => {
      const problem = this.#problemOf(charge.cost, verdict)
      // A request that was found to be malformed before its body was charged, or to have no end, has its reply (`Connections`). Nobody waits
      // for another one.
      if (this.#isBodyCharged || !this.#response.headersSent) done(problem)
    })
  }

  #problemOf(cost: Cost, { refusedBy, usages }: Verdict): GatewayError | undefined {
    this.#usages = usages
    if (refusedBy === -1) return undefined
    const rule = this.#rules.subjects[refusedBy]!
    const usage = usages[refusedBy]!
    const quantity = excessOf(usage, rule.limit, cost) ?? 'requests'
    this.#counting.limited[rule.owner][quantity]++
    return refusalOf(rule, quantity, { cost: cost[quantity], used: usage[quantity], openMs: usage.openMs })
  }

  /** @inheritdoc */
  lines(): string {
    if (this.#usages.length === 0) return ''
    return this.#rules.fields.lines(this.#usages)
  }
}

const notCharged: readonly Usage[] = []

/**
 * The bytes that a request tells of its body. A body of untold length has one at least, so a limit that has run out refuses it unread. One that is
 * above `MAX_BODY_BYTES` is never read, so nothing is charged for it.
 */
function toldBytes(headers: IncomingHttpHeaders, bodyBytes: number): number {
  const length = headers['content-length']
  if (length !== undefined) return Number(length) > bodyBytes ? 0 : Number(length)
  return headers['transfer-encoding'] === undefined ? 0 : 1
}

/** What the charges of all requests share. */
interface Counting {
  readonly store: LimitStore
  readonly limited: Record<LimitOwner, Record<LimitedQuantity, number>>
}

/**
 * Why a limit refuses a request, and when the limit would take it. A client that floods gets one problem until the time that it tells
 * changes: to refuse a request has to cost less than to take one.
 */
function refusalOf(
  rule: Rule,
  quantity: LimitedQuantity,
  { cost, used, openMs }: { cost: number; used: number; openMs: number },
): GatewayError {
  const { owner, limit, whose, refusals } = rule
  const { windowMs, burst } = limit
  const quota = limit[quantity]!
  const most = quota * burst
  const windows = Math.ceil((used + cost - most) / quota)
  const retryAfterSeconds = Math.max(1, Math.ceil((windows * windowMs - openMs) / 1000))
  const known = refusals[quantity]
  if (cost <= most && known?.retryAfterSeconds === retryAfterSeconds) return known
  const atOnce = burst === 1 ? '' : `, and ${most} at once after a quiet time`
  const text = `${whose} may send ${quota} ${quantity} in ${windowMs} ms${atOnce}`
  const extensions = { limit: { of: owner, quantity, quota, windowMs, burst } }
  if (cost > most) {
    const detail = `${text}; the request alone has ${cost}: send it in parts, nothing of it was accepted`
    return new GatewayError(quantity === 'events' ? 'too_many_events' : 'body_too_large', detail, {
      extensions,
    })
  }
  const detail = `${text}; nothing of the request was accepted, send it again after ${retryAfterSeconds} s`
  return (refusals[quantity] = new GatewayError('rate_limited', detail, { extensions, retryAfterSeconds }))
}

function zeros(): Record<LimitedQuantity, number> {
  return { requests: 0, events: 0, bytes: 0 }
}

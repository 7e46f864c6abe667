import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../../errors.ts'
import { clientNetwork } from '../http/client-address.ts'

/** `RATE_LIMIT_MAX` requests in `RATE_LIMIT_WINDOW`. */
export interface RateLimit {
  readonly max: number
  readonly windowMs: number
}

/** Requests of an address in its present window, and the milliseconds until that ends. */
export interface RequestCount {
  readonly current: number
  readonly ttl: number
}

/** Counts a request of an address where its other requests are counted too. Never rejects. */
export type CountRequest = (address: string) => Promise<RequestCount>

/**
 * Limits the requests of an address (an IPv6 network of 64 bits counts as one) on the routes that are registered in the
 * same scope afterwards. Every reply says what is left, in the header fields of draft-ietf-httpapi-ratelimit-headers-10;
 * a refused request gets 429 and `Retry-After`, and nothing of it was accepted.
 * @param countRequest where several processes share the limit; null: this process counts by itself.
 */
export async function registerRateLimit(
  app: FastifyInstance,
  { max, windowMs }: RateLimit,
  countRequest: CountRequest | null,
): Promise<void> {
  const store = countRequest === null ? {} : { store: storeOf(countRequest) }
  await app.register(rateLimit, {
    global: false,
    max,
    timeWindow: windowMs,
    keyGenerator: (request) => clientNetwork(request.ip),
    ...store,
  })
  const count = app.createRateLimit()
  const policy = `"default";q=${max};w=${Math.ceil(windowMs / 1000)}`

  app.addHook('onRequest', async (request, reply) => {
    // A preflight is the browser's, and the page can do nothing about it.
    if (request.method === 'OPTIONS') return
    const state = await count(request)
    if (state.isAllowed) return
    // Raw, for the ingest routes reply past Fastify.
    reply.raw.setHeader('ratelimit-policy', policy)
    reply.raw.setHeader('ratelimit', `"default";r=${state.remaining};t=${state.ttlInSeconds}`)
    if (!state.isExceeded) return
    throw new GatewayError('rate_limited', `an address may send ${max} requests in ${windowMs} ms`, {
      retryAfterSeconds: Math.max(1, state.ttlInSeconds),
    })
  })
}

/** The plug-in asks a class of its own making. */
function storeOf(countRequest: CountRequest) {
  return class Store {
    incr(address: string, answer: (error: Error | null, count?: RequestCount) => void): void {
      void countRequest(address).then((count) => answer(null, count))
    }

    child(): Store {
      return this
    }
  }
}

import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../../errors.ts'
import type { CountRequest, RequestCount } from '../../request-count.ts'
import { clientNetwork } from '../http/client-address.ts'

/** `RATE_LIMIT_MAX` requests in `RATE_LIMIT_WINDOW`. */
export interface RateLimit {
  readonly max: number
  readonly windowMs: number
}

/**
 * Limits the requests of an address on the routes that are registered in the same scope afterwards. An IPv6 network of 64 bits counts as one
 * address. Every reply says how many requests are left, in the header fields of draft-ietf-httpapi-ratelimit-headers-10. A refused request
 * gets 429 and `Retry-After`, and none of its events is accepted.
 * @param countRequest counts the requests of all processes that share the limit; null: this process counts by itself.
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
    // The browser sends a preflight by itself, and the page cannot react to a refusal.
    if (request.method === 'OPTIONS') return
    const state = await count(request)
    if (state.isAllowed) return
    // Set on the raw reply, since the ingest routes reply past Fastify.
    reply.raw.setHeader('ratelimit-policy', policy)
    reply.raw.setHeader('ratelimit', `"default";r=${state.remaining};t=${state.ttlInSeconds}`)
    if (!state.isExceeded) return
    throw new GatewayError('rate_limited', `an address may send ${max} requests in ${windowMs} ms`, {
      retryAfterSeconds: Math.max(1, state.ttlInSeconds),
    })
  })
}

/** A store of the plug-in's form: a class, of which the plug-in makes an instance. */
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

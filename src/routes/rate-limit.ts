import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../errors.ts'

/** `RATE_LIMIT_MAX` requests in `RATE_LIMIT_WINDOW`. */
export interface RateLimit {
  readonly max: number
  readonly windowMs: number
}

/**
 * Limits the requests of an address (an IPv6 network of 64 bits counts as one) on the routes that are registered in the
 * same scope afterwards. Every reply says what is left, in the header fields of draft-ietf-httpapi-ratelimit-headers-10;
 * a refused request gets 429 and `Retry-After`, and nothing of it was accepted.
 */
export async function registerRateLimit(app: FastifyInstance, { max, windowMs }: RateLimit): Promise<void> {
  await app.register(rateLimit, { global: false, max, timeWindow: windowMs })
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

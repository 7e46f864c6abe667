import type { GatewayError } from '../../errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What the request still has to be charged for; null: nothing. `policy/rate-limit.ts` sets it. */
    charges: Charges | null
  }
}

/** Limits of events and bytes, which are known when the body of a request was read. */
export interface Charges {
  /**
   * Charges the events of a request and the bytes of its body, once both are known, and before anything is accepted.
   * @param done is called once: with the problem of the limit that refuses them, or without one.
   */
  chargeBody(events: number, bytes: number, done: (problem?: GatewayError) => void): void
  /**
   * Charges the bytes of a body that was refused, or left, before its events were known. What the limits do not have any more is not charged.
   * Does nothing behind `chargeBody`.
   */
  chargeRefused(bytes: number): void
}

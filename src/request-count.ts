/**
 * The count behind `RATE_LIMIT_MAX`: the requests of an address in its present window, and the milliseconds until the window ends. A file
 * of its own, since `routes/policy/rate-limit.ts` asks for it, and `workers/` keeps the counts of all processes.
 */
export interface RequestCount {
  readonly current: number
  readonly ttl: number
}

/** Counts a request of an address together with its other requests. Never rejects. */
export type CountRequest = (address: string) => Promise<RequestCount>

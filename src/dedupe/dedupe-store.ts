/**
 * What was accepted lately, by key. Read this file of the folder first.
 *
 * `dedupe/` keeps a client that sends a request again from making a second record of it: by the request's
 * `Idempotency-Key`, or by the `id` of each event. A key is *claimed* when a request with it is decoded, and *kept* once
 * the request is accepted; if it is not, the key is *released*, so that a refusal never stands in the way of a retry. The
 * folder knows neither HTTP nor Kafka.
 */
export interface DedupeStore {
  /**
   * Claims all keys that are new, or none. Nobody else gets them until they are kept or released.
   * @param done is called once, at once where the store is in this process. Where a key is `busy`, `contested` or
   * `reused`, nothing was claimed.
   * @param asked keys that are looked up in the same step and never claimed; what they are comes behind the others. Where
   * one of them is `busy` or `contested`, nothing was claimed.
   */
  claim(keys: readonly DedupeKey[], done: ClaimListener, asked?: readonly DedupeKey[]): void
  /**
   * The records of keys that claim number `claim` got are accepted: the keys are known from now on, until `untilMs` by
   * the monotonic clock (`performance.now()`), so that no step of the wall clock makes the time shorter or longer.
   */
  keep(claim: number, keys: readonly DedupeKey[], untilMs: number): void
  /**
   * Nothing was accepted of what had these keys, or it is lost and its client was told so. Ends what claim number `claim`
   * got and kept, and nothing that another claim of the same names has got or kept since.
   */
  release(claim: number, keys: readonly DedupeKey[]): void
  /** An earlier process kept the key. To be called before the first claim. */
  learn(key: DedupeKey, untilMs: number): void
  /** An earlier process released a key after all that {@link learn} was called with. */
  unlearn(name: string): void
  /** Keys that are known now; null where only the store knows. */
  readonly size: number | null
  /** Keys that were forgotten before their time, since there was no room for more. */
  readonly forgotten: number
}

/**
 * Is told what each key is, in order, and the number of the claim, which no other claim of the store has. An error: the
 * store cannot be reached, and nothing was claimed.
 */
export type ClaimListener = (error: Error | null, found: readonly Found[], claim: number) => void

/** What a request or an event is told by. */
export interface DedupeKey {
  /** Unique in its stream; at most {@link maxKeyLength} characters. */
  readonly name: string
  /** What has to be the same each time; the empty text: anything goes. */
  readonly fingerprint: string
}

/**
 * What a key is: `new`, and claimed by this; `seen`, accepted before; `reused`, accepted before with another fingerprint;
 * `busy`, claimed by a request that has no answer yet; `contested`, the same with another fingerprint.
 */
export type Found = 'new' | 'seen' | 'reused' | 'busy' | 'contested'

/** Whether a store claims what is new of a request. `count`: how many of the keys it claims; the others are asked for. */
export function mayClaim(found: readonly Found[], count: number): boolean {
  return found.every((each, nth) => each === 'new' || each === 'seen' || (each === 'reused' && nth >= count))
}

/** Longer names are to be hashed: the room that an entry takes is bounded. */
export const maxKeyLength = 64

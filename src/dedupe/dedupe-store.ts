/**
 * The keys of what was accepted lately. Read this file of the folder first.
 *
 * `dedupe/` recognizes a request that a client sends again, so that the request makes no second record. It goes by the request's
 * `Idempotency-Key`, or by the `id` of each event. A key is *claimed* when a request with the key was decoded. It is *kept* once
 * the request is accepted, and *released* if the request is refused: a refusal never keeps a retry from being accepted. The
 * folder knows the producer's interface. It knows neither HTTP nor Kafka.
 */
export interface DedupeStore {
  /**
   * Claims all keys that are new, or none. No other request gets these keys until they are kept or released.
   * @param keys if one of them is `busy`, `contested` or `reused`, nothing is claimed.
   * @param done is called once. A store in this process calls it before this method returns.
   * @param asked keys that are looked up in the same step and never claimed. Their results come behind those of `keys`. If one of
   * them is `busy` or `contested`, nothing is claimed.
   */
  claim(keys: readonly DedupeKey[], done: ClaimListener, asked?: readonly DedupeKey[]): void
  /**
   * Keeps keys that claim number `claim` got: their records are accepted. The keys are known until `untilMs` by the monotonic
   * clock (`performance.now()`), so that no step of the wall clock makes the time shorter or longer.
   */
  keep(claim: number, keys: readonly DedupeKey[], untilMs: number): void
  /**
   * Releases keys that claim number `claim` got or kept: their records were refused, or are lost and the client was told so. Keys
   * of the same names that another claim has got or kept since stay as they are.
   */
  release(claim: number, keys: readonly DedupeKey[]): void
  /** Takes over a key that an earlier process kept. To be called before the first claim. */
  learn(key: DedupeKey, untilMs: number): void
  /** Forgets a key that was learned: the earlier process released it after it had kept it. */
  unlearn(name: string): void
  /** Number of keys that are known now; null if only the shared store knows. */
  readonly size: number | null
  /** Number of keys that were forgotten before their time, to make room. */
  readonly forgotten: number
}

/**
 * Is told what each key is, in order, and the number of the claim. No other claim of the store has the same number. An error says
 * that the store cannot be reached; then nothing was claimed.
 */
export type ClaimListener = (error: Error | null, found: readonly Found[], claim: number) => void

/** Identifies a request or an event. */
export interface DedupeKey {
  /** Unique in its stream; at most {@link maxKeyLength} characters. */
  readonly name: string
  /** Identifies the content: a repetition has the same fingerprint. Empty: any content is a repetition. */
  readonly fingerprint: string
}

/**
 * What a key is.
 * - `new`: nobody has it.
 * - `seen`: it was accepted before.
 * - `reused`: it was accepted before, with another fingerprint.
 * - `busy`: a request that has no answer yet has claimed it.
 * - `contested`: such a request has claimed it with another fingerprint.
 */
export type Found = 'new' | 'seen' | 'reused' | 'busy' | 'contested'

/**
 * Whether a store claims the new keys of a request. The script in `redis-scripts.ts` has the same rule.
 * @param count how many of the keys are to be claimed. Those behind them are only asked for.
 */
export function mayClaim(found: readonly Found[], count: number): boolean {
  return found.every((each, nth) => !isBusy(each) && (nth >= count || !hasOtherContent(each)))
}

/** Whether a request that has no answer yet has the key. */
export function isBusy(found: Found): boolean {
  switch (found) {
    case 'new':
    case 'seen':
    case 'reused':
      return false
    case 'busy':
    case 'contested':
      return true
  }
}

/** Whether the key stands for other content, accepted or claimed. */
export function hasOtherContent(found: Found): boolean {
  switch (found) {
    case 'new':
    case 'seen':
    case 'busy':
      return false
    case 'reused':
    case 'contested':
      return true
  }
}

/** Longer names are to be hashed, so that the room of an entry is bounded. */
export const maxKeyLength = 64

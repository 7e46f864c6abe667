/** What a client prefers, of what Chute offers (RFC 7240). */
export interface Preferences {
  /** `handling=strict`: one invalid event refuses the request. */
  readonly strict: boolean
  /** `return=minimal`: no body on success. */
  readonly minimal: boolean
  /** `wait`: seconds to wait for the outcome, at most {@link maxWaitSeconds}; null: not asked for. */
  readonly waitSeconds: number | null
  /** Value of `Preference-Applied` (section 3), or null if none was. */
  readonly applied: string | null
}

/** Longest `wait`: less than what load balancers let a request hang. */
export const maxWaitSeconds = 30

const none: Preferences = { strict: false, minimal: false, waitSeconds: null, applied: null }

/**
 * Reads a `Prefer` header. What is unknown or malformed is ignored, as RFC 7240, section 2 demands; of a preference
 * that is given twice, the first counts.
 */
export function readPreferences(header: string | string[] | undefined): Preferences {
  if (header === undefined) return none
  const wishes = new Map<string, string>()
  for (const part of String(header).split(',')) {
    const [name = '', value = ''] = (part.split(';')[0] ?? '').split('=').map((text) => text.trim())
    const key = name.toLowerCase()
    if (!wishes.has(key)) wishes.set(key, value.replace(/^"(.*)"$/, '$1').toLowerCase())
  }
  const applied: string[] = []
  const handling = wishes.get('handling')
  if (handling === 'strict' || handling === 'lenient') applied.push(`handling=${handling}`)
  const minimal = wishes.get('return') === 'minimal'
  if (minimal) applied.push('return=minimal')
  const wait = wishes.get('wait') ?? ''
  // At least one digit, and no sign: `wait` is delta-seconds (section 4.3).
  const waitSeconds = /^\d{1,9}$/.test(wait) ? Math.min(Number(wait), maxWaitSeconds) : null
  if (waitSeconds !== null) applied.push(`wait=${waitSeconds}`)
  return {
    strict: handling === 'strict',
    minimal,
    waitSeconds,
    applied: applied.length === 0 ? null : applied.join(', '),
  }
}

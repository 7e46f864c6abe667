/** The preferences of a client that Chute can meet (RFC 7240). */
export interface Preferences {
  /** `handling=strict`: one invalid event refuses the request. */
  readonly strict: boolean
  /** `return=minimal`: no body on success. */
  readonly minimal: boolean
  /** `wait`: seconds to wait for the outcomes, at most {@link maxWaitSeconds}; null: the client does not wait for them. */
  readonly waitSeconds: number | null
  /** Value of `Preference-Applied` (section 3); null if no preference is applied. */
  readonly applied: string | null
}

/** Longest `wait`. Load balancers let a request wait for longer than this. */
export const maxWaitSeconds = 30

const none: Preferences = { strict: false, minimal: false, waitSeconds: null, applied: null }

/**
 * Reads a `Prefer` header. Unknown and malformed preferences are ignored, as RFC 7240, section 2 demands. If a preference is given twice, the
 * first one counts.
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
  // `wait` is delta-seconds (section 4.3): digits without a sign.
  const waitSeconds = /^\d{1,9}$/.test(wait) ? Math.min(Number(wait), maxWaitSeconds) : null
  if (waitSeconds !== null) applied.push(`wait=${waitSeconds}`)
  return {
    strict: handling === 'strict',
    minimal,
    waitSeconds,
    applied: applied.length === 0 ? null : applied.join(', '),
  }
}

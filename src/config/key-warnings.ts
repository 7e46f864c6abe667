import { sha256OfKey, type HttpConfig } from './config.ts'

/** What an operator should know of keys that ended, that end within a week, or whose values everybody can read. */
export function warningsOfKeys({ keys }: Pick<HttpConfig, 'keys'>, nowMs = Date.now()): string[] {
  return keys.flatMap(({ name, sha256, notAfterMs }) => {
    const warnings: string[] = []
    if (sha256.some((hash) => publishedHashes.has(hash)))
      warnings.push(
        `the key ${name} has a value of Chute's examples, which everybody can read: chute keys new`,
      )
    if (notAfterMs !== null && notAfterMs - nowMs < soonMs) {
      const at = new Date(notAfterMs).toISOString()
      warnings.push(
        notAfterMs <= nowMs
          ? `the key ${name} ended on ${at}, and its requests get 401: take it away, or move notAfter`
          : `the key ${name} ends on ${at}: give its clients another one, or move notAfter`,
      )
    }
    return warnings
  })
}

/** Of deploy/keys/keys.yaml, and of docs/security.md. */
const publishedHashes: ReadonlySet<string> = new Set([
  ...['chk_pub_only_for_this_machine', 'chk_adm_only_for_this_machine'].map(sha256OfKey),
  '8e1026b900220ffe4355b36925efdde5f552996f5fea913f84dbd2038d33bc83',
])
const soonMs = 7 * 86_400_000

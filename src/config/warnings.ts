import { certificatesOf, ownCertificates, warningsOfCertificates } from './certificates.ts'
import { isLoopback, type Config, type HttpConfig } from './config.ts'
import { warningsOfKeys } from './key-warnings.ts'

/** What is likely not meant in a configuration that can be used: certificates and keys that end, and windows of limits below a second. In sentences. */
export function warningsOfConfig(config: Config): string[] {
  return [
    ...warningsOfCertificates(ownCertificates(certificatesOf(config), config.pemFiles)),
    ...warningsOfDoor(config.http),
  ]
}

/** The same of keys and limits, which a reload changes. */
export function warningsOfDoor(http: HttpConfig): string[] {
  return [...warningsOfWindows(http), ...warningsOfKeys(http)]
}

/** A window without a unit is in milliseconds, and 60 most often means 60 seconds. */
export function warningsOfWindows({ rateLimit, keys }: Pick<HttpConfig, 'rateLimit' | 'keys'>): string[] {
  const limits = [
    ['RATE_LIMIT_WINDOW', rateLimit] as const,
    ...keys.flatMap(({ name, limits: ofKey, addressLimits }) => [
      [`keys.${name}.limits.window`, ofKey] as const,
      [`keys.${name}.addressLimits.window`, addressLimits] as const,
    ]),
  ]
  return limits.flatMap(([setting, limit]) =>
    limit === null || limit.windowMs >= 1_000
      ? []
      : `${setting}: the window is ${limit.windowMs} ms. A number without a unit is in milliseconds: a minute is 60s`,
  )
}

/** A door that is open to a network, and what is missing there. Each with the way out. */
export function weaknessesOfDoor({
  host,
  keys,
  tls,
  adminPort,
  rateLimit,
  trustProxyHops,
}: HttpConfig): { readonly detail: string; readonly remedy: string }[] {
  // A proxy in front may have all of it.
  if (isLoopback(host) || trustProxyHops > 0) return []
  const found: { detail: string; remedy: string }[] = []
  if (keys.length > 0 && tls === null)
    found.push({
      detail: `keys go over ${host} in plain HTTP, where everyone on the way can read them`,
      remedy: 'Set TLS_CERT_FILE and TLS_KEY_FILE, or have a proxy with TLS in front and set TRUST_PROXY=1.',
    })
  if (
    rateLimit === null &&
    keys.every(({ limits, addressLimits }) => limits === null && addressLimits === null)
  )
    found.push({
      detail: `nothing limits what a client of ${host} may send`,
      remedy:
        'Set RATE_LIMIT_MAX, RATE_LIMIT_EVENTS or RATE_LIMIT_BYTES, or limits of a key (docs/limits.md).',
    })
  if (adminPort !== null && keys.length > 0)
    found.push({
      detail: `ADMIN_PORT listens on ${host} too, and asks for no key`,
      remedy: 'Let a firewall or a network policy keep strangers from this port.',
    })
  return found
}

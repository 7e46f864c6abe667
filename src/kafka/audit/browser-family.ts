/** The families of browsers that the audit tells apart. */
export type Browser =
  | 'Chrome'
  | 'Edge'
  | 'Firefox'
  | 'Opera'
  | 'Safari'
  | 'Samsung Internet'
  | 'other'
  | 'none'

/**
 * In the order in which they are tried. A browser that is made of another one names both, and Chrome names Safari.
 * CriOS, FxiOS and EdgiOS are the names on iOS.
 */
const families: readonly (readonly [Browser, RegExp])[] = [
  ['Edge', /\bEdg(?:e|A|iOS)?\//],
  ['Opera', /\b(?:OPR|Opera|OPT)\//],
  ['Samsung Internet', /\bSamsungBrowser\//],
  ['Firefox', /\b(?:Firefox|FxiOS)\//],
  ['Chrome', /\b(?:HeadlessChrome|Chrome|CriOS)\//],
  ['Safari', /\bVersion\/.* Safari\//],
]

/** The family of a browser, by its `User-Agent`. `none`: there is no such header in the record. */
export function browserOf(userAgent: string | null): Browser {
  if (userAgent === null) return 'none'
  return families.find(([, pattern]) => pattern.test(userAgent))?.[0] ?? 'other'
}

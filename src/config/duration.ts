const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const

/**
 * Reads a duration: `60000` (milliseconds), `500ms`, `60s`, `1m`, `1h`. Whole numbers only.
 * @returns milliseconds, or null if the text is no duration.
 */
export function parseDurationMs(text: string): number | null {
  const match = /^(\d{1,15})\s*(ms|s|m|h)?$/.exec(text.trim())
  if (match === null) return null
  return Number(match[1]) * unitMs[(match[2] ?? 'ms') as keyof typeof unitMs]
}

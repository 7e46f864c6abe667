import { z } from 'zod'

/** Why a value was refused, and what would be right. */
export class Refusal {
  readonly problem: string
  readonly remedy: string

  constructor(problem: string, remedy: string) {
    this.problem = problem
    this.remedy = remedy
  }
}

/**
 * Makes a zod schema of a function that reads one value of the environment or of the file, or refuses it. The remedy goes
 * into the `params` of zod's issue. The function is not called where the value is missing and has a default.
 */
export function setting<T>(read: (value: unknown) => T | Refusal) {
  return z.unknown().transform((value, context): T => {
    const result = read(value)
    if (!(result instanceof Refusal)) return result
    context.addIssue({ code: 'custom', message: result.problem, params: { remedy: result.remedy } })
    return z.NEVER
  })
}

/** A value as a problem quotes it: 80 characters at most. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing'
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}

/** The longest wait of Node's timers, in milliseconds: 24.8 days. It is also the largest value of Kafka's `int` settings. */
const maxInt32 = 2_147_483_647

/** The unit of a whole number; null for a plain count. */
export type Unit = 'milliseconds' | 'bytes' | null

/** A whole number within bounds, both included. It is a number or a text of digits, without a unit. */
export function wholeNumber(unit: Unit, least: number, most = maxInt32) {
  return setting<number>((value) => {
    const number = typeof value === 'string' && /^-?\d+$/.test(value.trim()) ? Number(value) : value
    const range = `${least} to ${most}`
    const what = unit === null ? 'a whole number' : `${unit} as a plain whole number`
    if (typeof number !== 'number' || !Number.isInteger(number)) {
      const meant = typeof value === 'string' ? withoutUnit(value, unit) : null
      const hint = meant !== null && meant >= least && meant <= most ? `: write ${meant}` : ''
      return new Refusal(`is ${quote(value)}, not a plain number`, `Give ${what}, ${range}${hint}.`)
    }
    if (number >= least && number <= most) return number
    return new Refusal(`is ${quote(value)}, out of range`, `Give ${what}, ${range}.`)
  })
}

function withoutUnit(text: string, unit: Unit): number | null {
  if (unit === 'milliseconds') return parseDurationMs(text.toLowerCase())
  if (unit === null) return null
  const match = /^(\d{1,9})\s*([kmg])i?b?$/i.exec(text.trim())
  if (match === null) return null
  return Number(match[1]) * 1024 ** ('kmg'.indexOf((match[2] ?? '').toLowerCase()) + 1)
}

/** `true` or `false`, as a boolean or as a text. */
export function trueOrFalse() {
  return setting<boolean>((value) => {
    const text = String(value).toLowerCase()
    if (text === 'true' || text === 'false') return text === 'true'
    return new Refusal(`is ${quote(value)}`, 'Give true or false.')
  })
}

/** One of the words, in upper or lower case. */
export function oneOf<const T extends string>(words: readonly T[]) {
  return setting<T>((value) => {
    const word = words.find((each) => typeof value === 'string' && each === value.trim().toLowerCase())
    return word ?? new Refusal(`is ${quote(value)}`, `Give one of: ${words.join(', ')}.`)
  })
}

/** A text that is not empty. */
export function nonEmptyText() {
  return setting<string>((value) => {
    if (typeof value === 'string' && value.trim() !== '') return value.trim()
    return new Refusal(`is ${quote(value)}`, 'Give a text that is not empty.')
  })
}

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

/** Words that a setting takes, each with its meaning: `a (this), b (that) or c (both)`. */
export function wordsWithMeanings(meanings: Readonly<Record<string, string>>): string {
  const words = Object.entries(meanings).map(([word, meaning]) => `${word} (${meaning})`)
  return `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
}

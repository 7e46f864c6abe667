import { z } from 'zod'
import type { ConfigProblem } from './config.ts'

/** What {@link reference} has of a schema. */
interface SettingMeta {
  /** What the setting acts on, in Markdown. Each entry of a shape has it. */
  readonly what?: string
  /** What to give: `Give ${give}.` is the remedy of a wrong value. */
  readonly give?: string
  /** The values in a few words, in Markdown, for the table. */
  readonly takes?: string
  /** Said in the table in place of the default; `{}` stands for the default. Left out: the default is one value, or none. */
  readonly byDefault?: string
  /** The bounds of a whole number. They say what it takes, and what to give. */
  readonly bounds?: Bounds
  /** A secret: the problem of a wrong value, which does not quote the value. */
  readonly problem?: string
  /** The remedy where a required setting is not set. */
  readonly ifNotSet?: string
  /** The value may also stand in the file that `NAME_FILE` names. Docker and Kubernetes hand out secrets as files. */
  readonly orInFile?: boolean
}

/** The bounds of a whole number, both included. */
interface Bounds {
  /** null: a plain count. */
  readonly unit: 'milliseconds' | 'bytes' | null
  readonly least: number
  readonly most: number
  /** A word that is taken as well. */
  readonly or?: string
}

/**
 * What is to be said of a setting, beside its type, default and bounds. The schema is the reference: the problems of a value
 * ({@link flawOf}) and the row in docs/configuration.md (dev/settings-reference.ts) are made of it. A kind of setting registers what
 * holds for each of its settings. An entry of a shape wraps the kind (`default`, `optional`, `nonoptional`) and registers what holds
 * for itself, since `register` on the kind would replace what the kind has. zod's own `meta` would copy the schema, and take any key.
 */
export const reference = z.registry<SettingMeta>()

/** The metadata of a schema, with the metadata of what `default`, `nullable`, `optional` and `nonoptional` were put around. */
export function metaOf(schema: z.core.$ZodType): SettingMeta {
  const isAround =
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNonOptional
  return { ...(isAround && metaOf(schema.unwrap())), ...reference.get(schema) }
}

/** Why a value was refused, and what would be right. */
export type Flaw = Omit<ConfigProblem, 'path'>

/**
 * Puts an issue of zod into words. They quote the value as it was written, which zod no longer has, and say what to write
 * in place of it.
 */
export function flawOf(value: unknown, schema: z.ZodType, issue: z.core.$ZodIssue): Flaw {
  const { give, bounds, problem = `is ${quote(value)}`, ifNotSet } = metaOf(schema)
  if (issue.code === 'custom' && issue.params !== undefined)
    return { problem: issue.message, remedy: String(issue.params['remedy']) }
  if (value === undefined && ifNotSet !== undefined) return { problem: 'is not set', remedy: ifNotSet }
  if (bounds === undefined) return { problem, remedy: `Give ${give}.` }
  const { unit, least, most, or } = bounds
  const isOut = issue.code === 'too_small' || issue.code === 'too_big'
  const meant = typeof value === 'string' && !isOut ? withoutUnit(value, unit) : null
  const what = unit === null ? 'a whole number' : `${unit} as a plain whole number`
  const hint = meant !== null && meant >= least && meant <= most ? `: write ${meant}` : ''
  return {
    problem: `${problem}, ${isOut ? 'out of range' : 'not a plain number'}`,
    remedy: `Give ${what}, ${least} to ${most}${hint}.${or === undefined ? '' : ` Or: ${or}.`}`,
  }
}

/** A check whose words depend on the value, as zod wants it: `schema.check(refuseIf(flawOfTopic))`. */
export function refuseIf<T>(flawIn: (value: T) => Flaw | null): z.core.CheckFn<T> {
  return ({ value, issues }) => {
    const flaw = flawIn(value)
    if (flaw === null) return
    issues.push({ code: 'custom', input: value, message: flaw.problem, params: { remedy: flaw.remedy } })
  }
}

/** A value as a problem quotes it: 80 characters at most. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing'
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}

/** The longest wait of Node's timers, in milliseconds: 24.8 days. It is also the largest value of Kafka's `int` settings. */
export const maxInt32 = 2_147_483_647

/** z.coerce would also read '', '0x10', '1e3' and true as numbers. */
const fromDigits = z.transform((value) =>
  typeof value === 'string' && /^-?\d+$/.test(value.trim()) ? Number(value) : value,
)

/** A whole number within bounds, both included. It is a number or a text of digits, without a unit. */
export function wholeNumber(unit: Bounds['unit'], least: number, most = maxInt32) {
  const bounded = z.int().check(z.gte(least), z.lte(most))
  return z.pipe(fromDigits, bounded).register(reference, { bounds: { unit, least, most } })
}

function withoutUnit(text: string, unit: Bounds['unit']): number | null {
  if (unit === 'milliseconds') return parseDurationMs(text.toLowerCase())
  if (unit === null) return null
  const match = /^(\d{1,9})\s*([kmg])i?b?$/i.exec(text.trim())
  if (match === null) return null
  return Number(match[1]) * 1024 ** ('kmg'.indexOf((match[2] ?? '').toLowerCase()) + 1)
}

/** `true` or `false`, as a boolean or as a text. */
export const trueOrFalse = z
  .union([z.boolean(), z.stringbool({ truthy: ['true'], falsy: ['false'] })])
  .register(reference, { give: 'true or false', takes: '`true`, `false`' })

/** `on` or `off`. JSON has neither word, and YAML 1.1 reads them as true and false. */
export const onOrOff = z
  .union([z.boolean(), z.stringbool({ truthy: ['on'], falsy: ['off'], case: 'sensitive' })])
  .register(reference, { give: 'on or off', takes: '`on`, `off`' })

/** One of the words, in upper or lower case. */
export function oneOf<const T extends string>(words: readonly T[]) {
  const meta = { give: `one of: ${words.join(', ')}`, takes: asCode(words) }
  return z.string().trim().toLowerCase().pipe(z.enum(words)).register(reference, meta)
}

/** Words as a cell of the tables has them. */
export function asCode(words: readonly string[]): string {
  return words.map((word) => `\`${word}\``).join(', ')
}

/** A text that is not empty. */
export const nonEmptyText = z
  .string()
  .trim()
  .min(1)
  .register(reference, { give: 'a text that is not empty', takes: 'text' })

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

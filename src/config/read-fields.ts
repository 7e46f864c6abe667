import { z } from 'zod'
import type { ConfigProblem } from './config.ts'
import { flawOf } from './setting.ts'

/** The fields that could be read. All fields are there if there was no problem. */
export type FieldValues<S extends z.ZodRawShape> = { [K in keyof S]?: z.output<S[K]> }

/**
 * Reads an object field by field. One bad field hides neither the problems of the other fields nor their values, which are
 * checked for contradictions next. A schema made by `z.object` would give no values as soon as one field is bad.
 */
export function readFields<S extends z.ZodRawShape>(
  shape: S,
  input: Readonly<Record<string, unknown>>,
  path: (key: string) => string,
  problems: ConfigProblem[],
): FieldValues<S> {
  const values: FieldValues<S> = {}
  for (const key of Object.keys(shape) as (keyof S & string)[]) {
    const field = shape[key] as z.ZodType<z.output<S[typeof key]>>
    const result = field.safeParse(input[key])
    const issue = result.error?.issues[0]
    if (issue === undefined) values[key] = result.data
    else problems.push({ path: path(key), ...flawOf(input[key], field, issue) })
  }
  return values
}

/**
 * The defaults that a shape has itself, for fields that could not be read: `{ ...defaultsOf(shape), ...values }`. Defaults that
 * depend on other settings, and of settings that a contradiction names only where they are written, are not in a shape.
 */
export function defaultsOf<S extends z.ZodRawShape>(shape: S): Defaults<S> {
  const fields = Object.entries(shape).filter(([, field]) => field instanceof z.ZodDefault)
  return Object.fromEntries(fields.map(([key, field]) => [key, z.parse(field, undefined)])) as Defaults<S>
}

type Defaults<S extends z.ZodRawShape> = {
  [K in keyof S as S[K] extends z.ZodDefault ? K : never]: z.output<S[K]>
}

/** Refuses each key that is not known, and names the key that was probably meant. A misspelt setting must not go unnoticed. */
export function refuseUnknownKeys(
  input: Readonly<Record<string, unknown>>,
  known: readonly string[],
  path: (key: string) => string,
  problems: ConfigProblem[],
): void {
  for (const key of Object.keys(input)) {
    if (known.includes(key)) continue
    const meant = nearestKey(key, known)
    const hint = meant === null ? '' : `Did you mean ${meant}? `
    problems.push({
      path: path(key),
      problem: 'is not a setting',
      remedy: `${hint}Known here: ${known.join(', ')}.`,
    })
  }
}

/** Whether a value of the file is a map. */
export function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Finds the known name that was probably meant by an unknown one: `linger.ms` for `lingerMs`, `KAFKA_BROKERS` for
 * `KAFKA_BROKER`. Case, dots, dashes and underscores do not count. Two letters at most may be wrong.
 * @returns null if nothing is near.
 */
export function nearestName(unknown: string, known: readonly string[]): string | null {
  const wanted = lettersOf(unknown)
  let nearest: string | null = null
  let fewestEdits = Math.min(2, Math.floor(wanted.length / 3))
  for (const name of known) {
    const edits = editDistance(wanted, lettersOf(name))
    if (edits > fewestEdits || (edits === fewestEdits && nearest !== null)) continue
    nearest = name
    fewestEdits = edits
  }
  return nearest
}

/** As {@link nearestName}. It also finds a name by its beginning: `max.in.flight.requests.per.connection` for `max.in.flight`. */
export function nearestKey(unknown: string, known: readonly string[]): string | null {
  const wanted = lettersOf(unknown)
  const isPartOf = (name: string) => lettersOf(name).startsWith(wanted) || wanted.startsWith(lettersOf(name))
  return nearestName(unknown, known) ?? (wanted.length < 4 ? null : (known.find(isPartOf) ?? null))
}

function lettersOf(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
}

/** Levenshtein's distance: the fewest letters to add, leave out or change. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const change = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}

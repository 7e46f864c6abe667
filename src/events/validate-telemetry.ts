import type { z } from 'zod'
import { toJsonPointer } from './json-flaw.ts'
import { tooManyMembers } from './reduce-event.ts'
import { maxLabels, shortText, telemetrySchema, telemetrySchemaOf } from './telemetry-schema.ts'
import { isEpochTime, isRfc3339, type TimestampUnit } from './timestamp-format.ts'

/** What is wrong with an event, and where: `pointer` is a JSON pointer into the event (RFC 6901). */
export interface EventProblem {
  readonly pointer: string
  readonly detail: string
}

/**
 * Checks an event against {@link telemetrySchema}. Hand-written checks find valid events, in a tenth of the time that zod takes. zod judges all
 * other events, so only zod says what is wrong.
 * @param unit of the event's `timestamp`, where it is a number.
 * @returns null if the event fits.
 */
export function checkTelemetry(value: unknown, unit: TimestampUnit = 'ms'): EventProblem | null {
  if (isTelemetry(value, unit)) return null
  return problemOf(schemaOf(unit).safeParse(withFewLabels(value)), value)
}

/**
 * The event as zod gets it. zod makes four issues for each bad label, and only the first issue is told: an event of 32 KB has room for
 * thousands of bad labels, which take zod up to 60 ms. So zod gets the first bad label alone; without a bad one, a few labels too many.
 */
function withFewLabels(event: unknown): unknown {
  if (!isObject(event) || !isObject(event['labels'])) return event
  const { labels } = event
  let count = 0
  for (const name in labels) {
    if (!isLabel(labels[name])) return { ...event, labels: { [name]: labels[name] } }
    count++
  }
  return count > maxLabels ? { ...event, labels: tooManyMembers } : event
}

/** The first issue that zod has found with an event, in the words of a problem; null: the event fits. */
export function problemOf(result: z.ZodSafeParseResult<unknown>, event: unknown): EventProblem | null {
  const issue = result.error?.issues[0]
  return issue === undefined ? null : describeIssue(issue, event)
}

/** Whether {@link telemetrySchema} accepts a value that `JSON.parse` made. A property test compares both. */
export function isTelemetry(value: unknown, unit: TimestampUnit = 'ms'): boolean {
  return (
    isObject(value) &&
    isShortText(value['name']) &&
    Number.isFinite(value['value']) &&
    (value['timestamp'] === undefined || isTimestamp(value['timestamp'], unit)) &&
    (value['unit'] === undefined || isShortText(value['unit'])) &&
    (value['labels'] === undefined || areLabels(value['labels'])) &&
    (value['source'] === undefined || isShortText(value['source'])) &&
    (value['id'] === undefined || isShortText(value['id']))
  )
}

/** Made when a stream first needs it. */
function schemaOf(unit: TimestampUnit): typeof telemetrySchema {
  const made = schemas.get(unit) ?? telemetrySchemaOf(unit)
  schemas.set(unit, made)
  return made
}

const schemas = new Map([['ms' as TimestampUnit, telemetrySchema]])

/** {@link shortText} as a check. */
export function isShortText(value: unknown): boolean {
  return typeof value === 'string' && shortText.test(value)
}

/** The rule of `timestamp` is in telemetry-schema.ts, here, and in `timestampEnd` of scan-telemetry.ts. */
function isTimestamp(value: unknown, unit: TimestampUnit): boolean {
  if (typeof value === 'number') return isEpochTime(value, unit)
  return typeof value === 'string' && isRfc3339(value)
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function areLabels(value: unknown): boolean {
  if (!isObject(value)) return false
  let count = 0
  for (const name in value) {
    if (!isLabel(value[name])) return false
    if (++count > maxLabels) return false
  }
  return true
}

function isLabel(value: unknown): boolean {
  return typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)
}

type Issue = z.core.$ZodIssue

/** An issue of zod as a problem: what the event must have, and what it has. */
function describeIssue(issue: Issue, event: unknown): EventProblem {
  const pointer = toJsonPointer(issue.path)
  const actual = nameOf(valueAt(event, issue.path))
  switch (issue.code) {
    case 'invalid_type':
      return {
        pointer,
        detail: `must be ${expectation(issue.expected)}, got ${actual}${wayOut(issue.path, actual)}`,
      }
    case 'invalid_union':
      return {
        pointer,
        detail: `must be ${unionExpectation(issue.path)}, got ${actual}${wayOut(issue.path, actual)}`,
      }
    case 'too_small':
      return { pointer, detail: 'must be a time of 1970 or later' }
    default:
      return { pointer, detail: issue.message }
  }
}

/** Libraries write null for a field without a value, and JavaScript writes it for NaN. */
function wayOut(path: readonly PropertyKey[], actual: string): string {
  if (actual !== 'null' || path.length === 0) return ''
  if (path[0] === 'value')
    return ' (JavaScript writes null for NaN and Infinity); leave the event out where there is no value'
  return path[0] === 'name' ? '' : '; leave the field out where there is no value'
}

function expectation(expected: string): string {
  switch (expected) {
    case 'object':
    case 'record':
      return 'an object'
    case 'number':
      return 'a finite number'
    default:
      return `a ${expected}`
  }
}

function unionExpectation(path: readonly PropertyKey[]): string {
  return path[0] === 'timestamp'
    ? 'epoch milliseconds or a date and time of RFC 3339 with an offset'
    : 'a string, a finite number or a boolean'
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let at = value
  for (const step of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined
    at = (at as Readonly<Record<PropertyKey, unknown>>)[step]
  }
  return at
}

function nameOf(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'number' && !Number.isFinite(value)) return 'a number too large for a double'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

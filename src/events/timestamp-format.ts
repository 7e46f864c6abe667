/**
 * The formats of times. Which times an event may have is a rule of `telemetry-schema.ts`, which also names the two other places of that rule.
 *
 * `date-time` of RFC 3339, section 5.6, with leap seconds. The offset is needed: a time without an offset is not one moment. {@link isRfc3339}
 * checks that the month has the day.
 */
const rfc3339 =
  /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/

/** Whether a text is a moment in the format of RFC 3339, with a day that its month has. */
export function isRfc3339(text: string): boolean {
  const match = rfc3339.exec(text)
  if (match === null) return false
  const day = Number(match[3])
  if (day <= 28) return true
  // Day 0 of the next month is the last day of this month.
  return day <= new Date(Date.UTC(2000 + (Number(match[1]) % 400), Number(match[2]), 0)).getUTCDate()
}

/** A stream's setting `timestampUnit`. It has the members of `TimestampUnit` in config/record-sources.ts. `auto`: any of the units. */
export type TimestampUnit = 'auto' | 'ms' | 's' | 'us' | 'ns'

/**
 * Whether a number is a time in the unit of a stream. The units do not overlap between 2000 and 2100: a number of these years in one unit is no
 * number of these years in another. So a number of another unit is refused, and so is what comes later than 2099. A smaller number is a time of a
 * clock that was not set, and is taken.
 */
export function isEpochTime(number: number, unit: TimestampUnit): boolean {
  if (!(number >= 0)) return false
  const looksLike = unitOf(number)
  if (unit === 'auto') return looksLike !== null || number < startSeconds
  return looksLike === unit || (looksLike === null && number < endSeconds * unitsASecond[unit])
}

/** What {@link isEpochTime} takes in milliseconds, the usual unit, in the words of JSON Schema. */
export const epochMsBounds = {
  minimum: 0,
  exclusiveMaximum: 4_102_444_800_000,
  // Seconds of the years from 2000 to 2099.
  not: { minimum: 946_684_800, exclusiveMaximum: 4_102_444_800 },
} as const

/** What is wrong with a number that {@link isEpochTime} refuses, and the way out. */
export function flawOfEpochTime(number: number, unit: TimestampUnit): string {
  const looksLike = unitOf(number)
  const taken = unit === 'auto' ? unitNames.map((each) => words[each]).join(', ') : words[unit]
  if (unit === 'auto' || looksLike === null) return `must be a time from 1970 to 2099 in ${taken}`
  return `looks like ${words[looksLike]}, and the stream takes ${taken}: send ${taken}, or set timestampUnit: ${looksLike} for the stream`
}

type Unit = Exclude<TimestampUnit, 'auto'>

/** The unit in which a number is a time from 2000 to 2099; null if there is none. */
function unitOf(number: number): Unit | null {
  return (
    unitNames.find(
      (unit) => number >= startSeconds * unitsASecond[unit] && number < endSeconds * unitsASecond[unit],
    ) ?? null
  )
}

const unitsASecond: Readonly<Record<Unit, number>> = { s: 1, ms: 1e3, us: 1e6, ns: 1e9 }
const unitNames = Object.keys(unitsASecond) as Unit[]
const words: Readonly<Record<Unit, string>> = {
  s: 'seconds',
  ms: 'milliseconds',
  us: 'microseconds',
  ns: 'nanoseconds',
}
/** 2000-01-01 and 2100-01-01. */
const startSeconds = 946_684_800
const endSeconds = 4_102_444_800

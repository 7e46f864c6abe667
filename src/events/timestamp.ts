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

/** Largest time that a `Date` holds, in epoch milliseconds (ECMA-262, section 21.4.1.1). */
export const maxEpochMs = 8.64e15

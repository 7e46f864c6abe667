import { z } from 'zod'
import {
  epochMsBounds,
  flawOfEpochTime,
  isEpochTime,
  isRfc3339,
  type TimestampUnit,
} from './timestamp-format.ts'

/** Most labels that an event may have. */
export const maxLabels = 64

/** 1 to 255 characters (Unicode code points), none of them a control character (C0, DEL, C1). */
// eslint-disable-next-line no-control-regex -- refusing them is the point
export const shortText = /^[^\u0000-\u001f\u007f-\u009f]{1,255}$/u

/** {@link shortText} as a schema. */
export const shortTextSchema = z
  .string()
  .regex(shortText, 'must have 1 to 255 characters and no control characters')
  .meta({ minLength: 1, maxLength: 255 })

/**
 * The built-in event. `openapi.yaml` is generated from this schema. Fields that are not named pass through.
 *
 * Two faster checks must agree with the schema: the hand-written one in `validate-telemetry.ts`, and the scanner of bytes in
 * `scan-telemetry.ts`. A rule that changes here, such as the rule of `timestamp`, has to change in both of them. No rule here may depend on
 * the clock: CONTRIBUTING.md ("A rule by the clock"). A property test compares all
 * three (`test/unit/events/scan-telemetry.test.ts`).
 */
export const telemetrySchema = telemetrySchemaOf('ms')

/** {@link telemetrySchema} for a stream whose `timestamp` has another unit. */
export function telemetrySchemaOf(unit: TimestampUnit) {
  return z
    .looseObject({
      name: shortTextSchema.describe('What was measured or what happened'),
      value: z.number().describe('The measurement; a finite number'),
      timestamp: timestampSchema(unit)
        .optional()
        .describe(
          "When it was measured. It stays in the event; the record's own timestamp is the time of receipt",
        ),
      unit: shortTextSchema.optional().describe('Unit of the value'),
      labels: z
        .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
        .refine((labels) => Object.keys(labels).length <= maxLabels, `must have ${maxLabels} entries at most`)
        .meta({ maxProperties: maxLabels })
        .optional()
        .describe('Dimensions'),
      source: shortTextSchema
        .optional()
        .describe("The device or session: it becomes the record's key, so that one source keeps its order"),
      id: shortTextSchema.optional().describe('Together with the source: to tell duplicates by'),
    })
    .describe('A telemetry event. Other fields pass through')
}

/** When something was: epoch time in the unit of the stream, or RFC 3339. */
export function timestampSchema(unit: TimestampUnit) {
  return z.union([
    z
      .number()
      .min(0)
      .refine((number) => isEpochTime(number, unit), {
        error: ({ input }) => flawOfEpochTime(Number(input), unit),
      })
      .meta({
        ...epochMsBounds,
        description:
          'Epoch milliseconds. A stream can be set to another unit (timestampUnit), with other bounds',
      }),
    z
      .string()
      .refine(isRfc3339, 'must be a date and time of RFC 3339 with an offset, such as 2025-01-31T12:00:00Z')
      .meta({ format: 'date-time', description: 'RFC 3339' }),
  ])
}

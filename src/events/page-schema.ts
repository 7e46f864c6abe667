import { z } from 'zod'
import { shortTextSchema, timestampSchema } from './telemetry-schema.ts'
import { isObject, isShortText, problemOf, type EventProblem } from './validate-telemetry.ts'

const text = z.string().nullish()

/**
 * An event of a page (`schema: page`), which is no measurement: it needs a name, and no number. `null` stands for a field that is
 * not there, as `JSON.stringify` makes it of NaN. `openapi.yaml` is generated from this schema too. Fields that are not named pass through.
 */
export const pageSchema = z
  .looseObject({
    name: shortTextSchema.describe('What happened'),
    url: text.describe('The address of the page'),
    referrer: text.describe('The address of the page before'),
    title: text.describe('The title of the page'),
    properties: z
      .record(z.string(), z.unknown())
      .nullish()
      .describe('What else belongs to the event: any JSON'),
    value: z.number().nullish().describe('A number, where there is one'),
    timestamp: timestampSchema('ms').nullish().describe('When it happened'),
    session: shortTextSchema
      .nullish()
      .describe("The session: it becomes the record's key, so that one session keeps its order"),
    id: shortTextSchema
      .nullish()
      .describe('Together with `source`, where there is one: to tell duplicates by'),
  })
  .describe('An event of a page. Other fields pass through')

/** Checks an event against {@link pageSchema}. @returns null if the event fits. */
export function checkPage(value: unknown): EventProblem | null {
  return problemOf(pageSchema.safeParse(value), value)
}

/**
 * Whether {@link pageSchema} accepts a value. A value without a name does not get to zod: zod makes an error for each value that it refuses,
 * and a small body has room for thousands of them.
 */
export function isPage(value: unknown): boolean {
  return isObject(value) && isShortText(value['name']) && pageSchema.safeParse(value).success
}

import { z } from 'zod'
import { shortTextSchema } from './telemetry-schema.ts'
import { isObject, problemOf, type EventProblem } from './validate-telemetry.ts'

/**
 * A report that a browser has sent by itself (`schema: reports`), in one of its two forms: an entry of `application/reports+json`, which
 * has a `type` (Reporting API, section 3.2; Network Error Logging, section 7), or `application/csp-report` (CSP Level 2, section 4.4).
 * `openapi.yaml` is generated from this schema too. zod leaves it to {@link hasForm} that there is one of the forms. What a browser adds passes through.
 */
export const reportSchema = z
  .looseObject({
    type: shortTextSchema
      .nullish()
      .describe('What the report is about: `csp-violation`, `deprecation`, `network-error` …'),
    url: z.string().nullish().describe('The page, or the request, that the report is about'),
    age: z.number().nullish().describe('How long the browser kept the report, in milliseconds'),
    user_agent: z.string().nullish().describe('The browser'),
    body: z.unknown().optional().describe('What there is to say. Each type has fields of its own'),
    'csp-report': z
      .record(z.string(), z.unknown())
      .nullish()
      .describe('The old form: what a policy with `report-uri` has refused'),
  })
  .meta({
    description: 'A report that a browser has sent by itself. Other fields pass through',
    // For `openapi.yaml` alone. `hasForm` says the same to the gateway.
    anyOf: [
      { required: ['type'], properties: { type: { type: 'string' } } },
      { required: ['csp-report'], properties: { 'csp-report': { type: 'object' } } },
    ],
  })

/** Checks a report against {@link reportSchema}. @returns null if it fits. */
export function checkReport(value: unknown): EventProblem | null {
  const problem = problemOf(reportSchema.safeParse(value), value)
  return problem ?? (hasForm(value as Forms) ? null : noForm)
}

/** Whether {@link checkReport} finds nothing wrong. A value without a form does not get to zod, as in `isPage`. */
export function isReport(value: unknown): boolean {
  return isObject(value) && hasForm(value) && reportSchema.safeParse(value).success
}

interface Forms {
  readonly type?: unknown
  readonly 'csp-report'?: unknown
}

function hasForm(report: Forms): boolean {
  return (report.type ?? report['csp-report'] ?? null) !== null
}

const noForm: EventProblem = {
  pointer: '/type',
  detail:
    'is missing: a report has a type (application/reports+json), or it has csp-report (application/csp-report)',
}

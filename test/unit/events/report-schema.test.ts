import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { buildOpenapiDocument } from '../../../dev/openapi-document.ts'
import { compileEventSchema } from '../../../src/events/event-schema.ts'
import { reportSchema } from '../../../src/events/report-schema.ts'

const reports = compileEventSchema('reports')

describe('schema: reports', () => {
  test.each([
    {
      age: 53_531,
      body: { blockedURL: 'inline', disposition: 'enforce', effectiveDirective: 'script-src-elem' },
      type: 'csp-violation',
      url: 'https://shop.example/cart',
      user_agent: 'Mozilla/5.0',
    },
    { type: 'network-error', age: 0, url: 'https://shop.example/', body: { phase: 'dns', status_code: 0 } },
    { type: 'deprecation', body: null, url: null, user_agent: null },
    { type: 'a-type-of-the-future', body: [1], and: 'more' },
    { 'csp-report': { 'document-uri': 'https://shop.example/cart', 'violated-directive': 'img-src' } },
  ])('takes %j, which has one of the two forms', (event) => {
    expect([reports.check(event), reports.fits(event)]).toEqual([null, true])
  })

  test.each([
    [{ name: 'clicked', value: 1 }, '/type', expect.stringContaining('is missing: a report has a type')],
    [{ type: null, 'csp-report': null }, '/type', expect.stringContaining('is missing')],
    [{ type: 7 }, '/type', 'must be a string, got a number'],
    [{ type: '' }, '/type', 'must have 1 to 255 characters and no control characters'],
    [{ type: 'csp-violation', age: 'old' }, '/age', 'must be a finite number, got a string'],
    [{ 'csp-report': 'img-src' }, '/csp-report', 'must be an object, got a string'],
    ['csp-violation', '', 'must be an object, got a string'],
  ])('refuses %j', (event, pointer, detail) => {
    expect([reports.check(event), reports.fits(event)]).toEqual([{ pointer, detail }, false])
  })

  test('takes a large report too, of which only the named fields are read', () => {
    const event = Buffer.from(JSON.stringify({ body: { sample: 'x'.repeat(1e5) }, type: 'csp-violation' }))
    const parts = reports.valueOf(event, 0, event.length, 1_000)
    let step = parts.next()
    while (step.done !== true) step = parts.next()
    expect(reports.fits(step.value)).toBe(true)
  })
})

test('a value without a form is refused without zod, which takes long', () => {
  const parse = vi.spyOn(reportSchema, 'safeParse')
  onTestFinished(() => parse.mockRestore())
  for (const value of [1, null, [], {}, { type: null }, { url: 'a' }])
    expect(reports.fits(value), JSON.stringify(value)).toBe(false)
  expect(parse).not.toHaveBeenCalled()
})

test('the contract takes a report if, and only if, the gateway takes it', () => {
  const { components } = buildOpenapiDocument('1') as { components: { schemas: { Report: object } } }
  const inContract = new Ajv2020({ strict: false }).compile(components.schemas.Report)
  const given: Record<string, unknown[]> = {
    type: [undefined, null, '', 'a', '\n', 'x'.repeat(256), '😀'.repeat(255), 7, {}],
    'csp-report': [undefined, null, {}, { 'blocked-uri': 'inline' }, [], '', 7],
    age: [undefined, null, 1.5, '1'],
    url: [undefined, null, '', 7],
    body: [undefined, null, []],
  }
  let values: object[] = [{}]
  for (const [name, some] of Object.entries(given))
    values = values.flatMap((value) => some.map((each) => ({ ...value, [name]: each })))
  const sent = values.map((value) => JSON.parse(JSON.stringify(value)) as unknown)
  const verdicts = [...sent, null, 'a', 7, []].map((value) => {
    const isTaken = reports.fits(value)
    expect([inContract(value), reports.check(value) === null], JSON.stringify(value)).toEqual([
      isTaken,
      isTaken,
    ])
    return isTaken
  })
  expect(new Set(verdicts).size).toBe(2)
})

import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { compileEventSchema } from '../../../src/events/event-schema.ts'
import { pageSchema } from '../../../src/events/page-schema.ts'

const page = compileEventSchema('page')

describe('schema: page', () => {
  test.each([
    { name: 'clicked' },
    {
      name: 'page.view',
      url: 'https://a.example/',
      referrer: '',
      title: 'A shop',
      timestamp: 1_764_000_000_000,
    },
    {
      name: 'a',
      url: null,
      referrer: null,
      title: null,
      properties: null,
      value: null,
      timestamp: null,
      id: null,
    },
    { name: 'a', session: null, labels: null, source: null, unit: null, anything: [null] },
    { name: 'a', properties: { plan: 'pro', cart: [1, { deep: null }] }, source: 'https://a.example/app.js' },
  ])('takes %j, which has a name and no number', (event) => {
    expect([page.check(event), page.fits(event)]).toEqual([null, true])
  })

  test.each([
    [{}, '/name', 'must be a string, got nothing'],
    [{ name: '' }, '/name', 'must have 1 to 255 characters and no control characters'],
    [{ name: 'a', url: 1 }, '/url', 'must be a string, got a number'],
    [{ name: 'a', properties: [] }, '/properties', 'must be an object, got an array'],
    [{ name: 'a', value: 'much' }, '/value', 'must be a finite number, got a string'],
    [{ name: 'a', id: 7 }, '/id', 'must be a string, got a number'],
    [
      { name: 'a', timestamp: 'noon' },
      '/timestamp',
      'must be a date and time of RFC 3339 with an offset, such as 2025-01-31T12:00:00Z',
    ],
    [[], '', 'must be an object, got an array'],
  ])('refuses %j', (event, pointer, detail) => {
    expect([page.check(event), page.fits(event)]).toEqual([{ pointer, detail }, false])
  })

  test('takes a large event too, of which only the named fields are read', () => {
    const event = Buffer.from(
      JSON.stringify({ name: 'a', properties: { text: 'x'.repeat(1e5) }, id: 'i', session: 's' }),
    )
    const parts = page.valueOf(event, 0, event.length, 1_000)
    let step = parts.next()
    while (step.done !== true) step = parts.next()
    expect(step.value).toMatchObject({ name: 'a', id: 'i', session: 's' })
    expect(page.fits(step.value)).toBe(true)
  })
})

test('a value without a name is refused without zod, which takes long', () => {
  const parse = vi.spyOn(pageSchema, 'safeParse')
  onTestFinished(() => parse.mockRestore())
  for (const value of [1, null, [], {}, { name: 1 }, { name: '' }])
    expect(page.fits(value), JSON.stringify(value)).toBe(false)
  expect(parse).not.toHaveBeenCalled()
})

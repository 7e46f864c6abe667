import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { browserOf } from '../../../../src/kafka/audit/browser-family.ts'
import {
  SessionBook,
  type ClientFigures,
  type SessionBookOptions,
} from '../../../../src/kafka/audit/session-book.ts'

const start = Date.UTC(2026, 0, 1)
const gapMs = 60_000

interface Event {
  readonly session: string
  readonly number: number
  readonly before?: readonly string[]
  readonly partition?: number
  readonly atMs?: number
  readonly headers?: Readonly<Record<string, Buffer>>
}

function take(book: SessionBook, event: Event): void {
  const { session, number, before, partition = 0, atMs = 0, headers = {} } = event
  const value = Buffer.from(JSON.stringify({ before, session, id: `${session}-${number}` }))
  book.take({ partition, timestampMs: start + atMs, headers, value })
}

function bookOf(
  events: readonly Event[],
  { lows = new Map([[0, 0]]), ...changes }: Partial<SessionBookOptions> & { lows?: Map<number, number> } = {},
): SessionBook {
  const book = new SessionBook('t', lows, {
    sessionGapMs: gapMs,
    maxSessions: 1_000,
    keyHeader: 'key',
    browserHeader: 'ua',
    ...changes,
  })
  for (const event of events) take(book, event)
  return book
}

const numbered = (session: string, ...numbers: number[]): Event[] =>
  numbers.map((number) => ({ session, number }))
const closed = (book: SessionBook): ClientFigures => book.findings(start + 10 * gapMs).totals

/** Numbers of a session as they were written, in any order, and the truth about them. */
const lives = fc.array(
  fc.record({
    count: fc.integer({ min: 1, max: 40 }),
    lost: fc.uniqueArray(fc.integer({ min: 1, max: 40 })),
    twice: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 8 }),
    isTold: fc.boolean(),
  }),
  { minLength: 1, maxLength: 12 },
)

test('whatever is lost, written twice and mixed up, over any partitions, the figures are the true ones', () => {
  fc.assert(
    fc.property(lives, fc.infiniteStream(fc.nat()), (sessions, random) => {
      const next = (below: number): number => (random.next().value as number) % below
      const truth = { seen: 0, missing: 0, missingAtEnd: 0, endsTold: 0, duplicated: 0 }
      const events: Event[] = []
      sessions.forEach(({ count, lost, twice, isTold }, nth) => {
        const session = `1${nth}`
        const all = Array.from({ length: count }, (_, index) => index + 1)
        const there = all.filter((number) => !lost.includes(number))
        const again = twice.filter((number) => there.includes(number))
        const last = there.at(-1) ?? 0
        events.push(...numbered(session, ...there, ...again))
        truth.seen += there.length
        truth.duplicated += again.length
        truth.missing += last - there.length
        if (!isTold) return
        events.push({ session: '999', number: 1 + truth.endsTold, before: [`${session}-${count}`] })
        truth.endsTold++
        truth.seen++
        truth.missingAtEnd += count - last
      })
      const shuffled = events
        .map((event) => ({ event: { ...event, partition: next(3) }, place: next(1_000) }))
        .toSorted((one, other) => one.place - other.place)
        .map(({ event }) => event)
      expect(closed(bookOf(shuffled))).toMatchObject(truth)
    }),
  )
})

describe('the sessions of browsers', () => {
  test('an event behind a higher number is out of order in the same partition, and not in another', () => {
    const inOne = numbered('1', 1, 3, 2, 4)
    expect(closed(bookOf(inOne))).toMatchObject({ reordered: 1, missing: 0, duplicated: 0 })
    const inTwo = inOne.map((event) => ({ ...event, partition: event.number % 2 }))
    expect(closed(bookOf(inTwo))).toMatchObject({ reordered: 0, missing: 0, duplicated: 0 })
  })

  test('of an open session nothing counts as missing, and a late event fills the gap of a closed one', () => {
    const book = bookOf(numbered('1', 1, 4))
    expect(book.findings(start + gapMs - 1).totals).toMatchObject({ open: 1, missing: 0, missingOpen: 2 })
    expect(closed(book)).toMatchObject({ open: 0, missing: 2, missingOpen: 0, late: 0 })
    take(book, { session: '1', number: 2, atMs: gapMs + 1 })
    expect(closed(book)).toMatchObject({ missing: 1, late: 1, seen: 3 })
  })

  test('a session that only a later one tells of was lost as a whole', () => {
    const book = bookOf([{ session: '2', number: 1, before: ['1-7'] }])
    expect(closed(book)).toMatchObject({ sessions: 2, seen: 1, missing: 0, missingAtEnd: 7, endsTold: 1 })
    for (const number of [1, 2, 3]) take(book, { session: '1', number })
    expect(closed(book)).toMatchObject({ sessions: 2, seen: 4, missingAtEnd: 4 })
  })

  test('where the log’s beginning is gone, the head of a session is unseen, and a session that is only told of is untraced', () => {
    const lows = new Map([[0, 5]])
    const events: Event[] = [
      { session: '1', number: 3 },
      { session: '2', number: 4, atMs: 2 * gapMs },
      { session: '3', number: 1, before: ['9-9'], atMs: 2 * gapMs },
    ]
    const findings = bookOf(events, { lows }).findings(start + 10 * gapMs)
    expect(findings.totals).toMatchObject({ sessions: 3, unseen: 2, missing: 3, missingAtEnd: 0 })
    expect(findings.untraced).toBe(1)
  })

  test('more sessions than are remembered stay in the sums, and their number is told', () => {
    const events = Array.from({ length: 50 }, (_, nth) => numbered(`1${nth}`, 1, 3)).flat()
    const findings = bookOf(events, { maxSessions: 10 }).findings(start + 10 * gapMs)
    expect(findings).toMatchObject({ forgotten: 40, totals: { sessions: 50, seen: 100, missing: 50 } })
  })

  test('a session holds a thousand ranges of missing numbers, and counts the ranges before them', () => {
    const numbers = Array.from({ length: 3_000 }, (_, nth) => 2 * nth + 2)
    expect(closed(bookOf(numbered('1', ...numbers)))).toMatchObject({ seen: 3_000, missing: 3_000 })
  })

  test('what no browser client writes is no event of a session', () => {
    const book = bookOf([{ session: '1', number: 999_999_999 }])
    const values = [
      null,
      'no JSON',
      '[1]',
      'null',
      '{"id":"1-0","session":"1"}',
      '{"id":"2-1","session":"1"}',
      `{"id":"1-01","session":"1"}`,
      `{"id":"${'1'.repeat(300)}-1","session":"${'1'.repeat(300)}"}`,
    ]
    for (const value of values) {
      const bytes = value === null ? null : Buffer.from(value)
      book.take({ partition: 0, timestampMs: start, headers: {}, value: bytes })
    }
    take(book, { session: '4', number: 1, atMs: 9e15 })
    const words = ['1-1000000', 'x', 7 as never, '2-2']
    take(book, { session: '3', number: 1, before: words })
    const findings = book.findings(start + 10 * gapMs)
    expect(findings).toMatchObject({
      records: 11,
      unmarked: 9,
      byDay: [{ name: '2026-01-01' }, { name: 'none' }],
    })
    expect(findings.totals).toMatchObject({ sessions: 3, seen: 2, missing: 0, missingAtEnd: 2 })
  })

  test('sums are by key, browser and day of the session, and losses are in the timeline', () => {
    const headers = (key: string, ua: string) => ({ key: Buffer.from(key), ua: Buffer.from(ua) })
    const dayMs = 86_400_000
    const report = bookOf([
      { session: '1', number: 1, headers: headers('shop', 'Mozilla/5.0 Chrome/143.0 Safari/537.36') },
      { session: '1', number: 4, headers: headers('shop', 'Mozilla/5.0 Chrome/143.0 Safari/537.36') },
      { session: '2', number: 1, headers: headers('blog', 'curl/8'), atMs: dayMs, before: ['1-6'] },
    ]).report(start + 2 * dayMs)
    expect(report.byKey).toMatchObject([
      { name: 'blog', sessions: 1, missing: 0 },
      { name: 'shop', sessions: 1, missing: 2, missingAtEnd: 2, seen: 2 },
    ])
    expect(report.byBrowser.map(({ name }) => name)).toEqual(['Chrome', 'other'])
    expect(report.byDay).toMatchObject([
      { name: '2026-01-01', missing: 2 },
      { name: '2026-01-02', missing: 0 },
    ])
    expect(report.lossRatio).toBeCloseTo(4 / 7)
    expect(report.timeline.buckets.reduce((sum, { lost }) => sum + lost, 0)).toBe(4)
  })
})

test.each([
  [
    'Chrome',
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36',
  ],
  [
    'Chrome',
    'Mozilla/5.0 (iPhone) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/143.0 Mobile/15E148 Safari/604.1',
  ],
  ['Edge', 'Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/143.0.0.0 Safari/537.36 Edg/143.0.0.0'],
  ['Firefox', 'Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0'],
  ['Opera', 'Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/143.0.0.0 Safari/537.36 OPR/127.0.0.0'],
  ['Safari', 'Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.2 Safari/605.1.15'],
  [
    'Samsung Internet',
    'Mozilla/5.0 (Linux; Android 10; K) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36',
  ],
  ['other', 'curl/8.5.0'],
  ['none', null],
])('%s is the family of %s', (family, userAgent) => {
  expect(browserOf(userAgent)).toBe(family)
})

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  keptInAll,
  keptOfEach,
  type LiveEvent,
  LiveEvents,
  LiveFeed,
  perSecondOfEach,
  shownBody,
  shownText,
} from '../../src/live-events.ts'
import type { ErrorCode } from '../../src/errors.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function event(overrides: Partial<LiveEvent> = {}): LiveEvent {
  return {
    id: '1',
    timeMs: 0,
    fate: 'refused',
    stream: 'web',
    transport: 'http',
    origin: null,
    key: null,
    code: 'invalid_event',
    detail: null,
    reply: null,
    index: null,
    events: null,
    path: null,
    text: null,
    bytes: null,
    ...overrides,
  }
}

/** Shows `count` events, where as many are admitted. @returns how many were. */
function show(live: LiveEvents, count: number, stream: string, code: ErrorCode | null): number {
  let shown = 0
  for (let nth = 0; nth < count; nth++) {
    if (!live.admits(stream, code)) continue
    live.show(event({ fate: code === null ? 'taken' : 'refused', stream, code, index: nth }))
    shown++
  }
  return shown
}

/** Watches, and collects what is told. */
function watch(source: LiveEvents | LiveFeed): { readonly seen: LiveEvent[]; readonly stop: () => void } {
  const seen: LiveEvent[] = []
  return { seen, stop: source.watch((events) => void seen.push(...events)) }
}

describe('the live events of a process', () => {
  test('are kept where they were refused, and told to whoever watches later', () => {
    const live = new LiveEvents()
    expect(live.isWatched).toBe(false)
    show(live, 2, 'web', 'invalid_event')
    const { seen, stop } = watch(live)
    expect(live.isWatched).toBe(true)
    expect(seen.map(({ index }) => index)).toEqual([0, 1])
    show(live, 1, 'web', null)
    vi.advanceTimersByTime(100)
    expect(seen.map(({ fate }) => fate)).toEqual(['refused', 'refused', 'taken'])
    expect(new Set(seen.map(({ id }) => id)).size).toBe(3)

    stop()
    expect(live.isWatched).toBe(false)
    expect(watch(live).seen.map(({ fate }) => fate)).toEqual(['refused', 'refused'])
  })

  test('are at most so many a second of each code and stream, and a flood of one takes no place of another', () => {
    const live = new LiveEvents()
    expect(show(live, 1_000, 'web', 'key_missing')).toBe(perSecondOfEach)
    expect(show(live, 1, 'web', 'invalid_event')).toBe(1)
    expect(show(live, 1, 'other', 'key_missing')).toBe(1)
    expect(show(live, 1_000, 'web', null)).toBe(perSecondOfEach)
    vi.advanceTimersByTime(1_000)
    expect(show(live, 1_000, 'web', 'key_missing')).toBe(perSecondOfEach)
    for (let second = 0; second < 10; second++) {
      vi.advanceTimersByTime(1_000)
      show(live, 1_000, 'web', 'key_missing')
    }
    const kept = watch(live).seen
    const of = (code: ErrorCode, stream = 'web') =>
      kept.filter((each) => each.code === code && each.stream === stream).length
    expect([of('key_missing'), of('invalid_event'), of('key_missing', 'other')]).toEqual([keptOfEach, 1, 1])
  })

  test('are at most so many a second in all, the taken ones apart from the refused ones', () => {
    const live = new LiveEvents()
    const streams = Array.from({ length: 50 }, (_, nth) => `s${nth}`)
    const shown = (code: ErrorCode | null) =>
      streams.reduce((sum, stream) => sum + show(live, 10, stream, code), 0)
    expect(shown(null)).toBe(100)
    expect(shown('invalid_event')).toBe(100)
  })
})

describe('a feed', () => {
  test('keeps no more than its bound, and forgets what was quiet for the longest time', () => {
    const feed = new LiveFeed(() => {})
    for (let nth = 0; nth < keptInAll + 10; nth++)
      feed.publish([event({ id: String(nth), stream: `s${nth}`, timeMs: nth })])
    const kept = watch(feed).seen
    expect(kept.length).toBe(keptInAll)
    expect(kept[0]!.id).toBe('10')
    feed.forget()
    expect(watch(feed).seen).toEqual([])
    feed.publish([event()])
    expect(watch(feed).seen.length).toBe(1)
  })

  test('says when the first listener comes and when the last one goes', () => {
    const said: boolean[] = []
    const feed = new LiveFeed((isWatched) => said.push(isWatched))
    const [one, other] = [watch(feed), watch(feed)]
    one.stop()
    one.stop()
    expect(said).toEqual([true])
    other.stop()
    expect(said).toEqual([true, false])
  })
})

describe('what is shown of a text of a client', () => {
  test.each([
    ['plain, with "quotes" and é and 😀', 'plain, with "quotes" and é and 😀'],
    ['\u001b[2J\u0007\n\t\u007f\u009b', String.raw`\u001b[2J\u0007\n\t\u007f\u009b`],
    ['\u202egnp.exe\u2066\ufeff', String.raw`\u202egnp.exe\u2066\ufeff`],
    ['\ud800', String.raw`\ud800`],
    ['?key=chk_pub_o5smw2rek98ddpc4wr7co3mpzfotior&a', '?key=chk_…&a'],
  ])('%j is %j', (text, shown) => {
    expect(shownText(text, 100)).toBe(shown)
  })

  test('is cut, and a key at the cut is left out too', () => {
    expect(shownText('a'.repeat(1_000_000), 20)).toBe(`${'a'.repeat(19)}…`)
    expect(shownText(`${'a'.repeat(10)} chk_pub_secret`, 20)).toBe(`${'a'.repeat(10)} chk_…`)
  })

  test('has 200 bytes of a body, and no half of a character', () => {
    expect(shownBody(Buffer.from('x'.repeat(199) + 'é€'))).toBe(`${'x'.repeat(199)}…`)
    expect(shownBody(Buffer.from('€'.repeat(200)))).toBe(`${'€'.repeat(66)}…`)
    expect(shownBody(Buffer.from([0x22, 0xff, 0x22]))).toBe('"\ufffd"')
    expect(shownBody(Buffer.from('[{"a":1}]'), 1, 8)).toBe('{"a":1}')
  })
})

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { DedupeEvent, Fate } from '../../../src/dedupe/claim-round.ts'
import { Deduplicator, type DedupeJournal, type Verdict } from '../../../src/dedupe/deduplicator.ts'
import { MemoryDedupeStore } from '../../../src/dedupe/memory-dedupe-store.ts'

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }))
afterEach(() => void vi.useRealTimers())

const windowMs = 600_000
const long = 'x'.repeat(200)

/** Keeps notes as a disk would: a key is bytes there. */
class Journal implements DedupeJournal {
  readonly notes: { key: string; value: Buffer; untilMs: number }[] = []

  note(key: string, value: Buffer, untilMs: number): void {
    this.notes.push({ key: Buffer.from(key).toString(), value: Buffer.from(value), untilMs })
  }

  noteLater(key: string, value: Buffer, untilMs: number): void {
    this.note(key, value, untilMs)
  }

  readNotes(_windowMs: number, each: (key: string, value: Buffer, untilMs: number) => void): void {
    for (const { key, value, untilMs } of this.notes) each(key, value, untilMs)
  }
}

function dedupe(journal: DedupeJournal | null = null): Deduplicator {
  return new Deduplicator({ store: new MemoryDedupeStore(1_000), windowMs, journal, isShared: false })
}

function event(id: string, digest = 'd', source = ''): DedupeEvent {
  return { id, source, digest }
}

function judge(
  deduplicator: Deduplicator,
  request: { key?: string; body?: string; ids?: (string | null)[]; events?: (DedupeEvent | null)[] },
): Verdict {
  const { key = null, body = 'body', ids = null } = request
  const events = request.events ?? ids?.map((id) => (id === null ? null : event(id))) ?? null
  let answer: Verdict | null = null
  deduplicator.claim({ key, body: Buffer.from(body), events }, (_, verdict) => (answer = verdict))
  if (answer === null) throw new Error('no answer at once')
  return answer
}

/** Judges a request and accepts it. @returns what becomes of its events; null: all are new. */
function accept(deduplicator: Deduplicator, request: Parameters<typeof judge>[1]): readonly Fate[] | null {
  const verdict = judge(deduplicator, request)
  if (verdict.kind !== 'claimed') throw new Error(verdict.kind)
  verdict.claim.note()
  verdict.claim.keep()
  return verdict.fates
}

describe('a request with a key', () => {
  test('is a repetition once it was accepted, busy before', () => {
    const known = dedupe()
    const first = judge(known, { key: 'k' })
    expect(judge(known, { key: 'k' }).kind).toBe('busy')
    if (first.kind === 'claimed') first.claim.keep()
    expect(judge(known, { key: 'k' }).kind).toBe('replay')
  })

  test('with another body is told', () => {
    const known = dedupe()
    accept(known, { key: 'k', body: 'one' })
    expect(judge(known, { key: 'k', body: 'two' }).kind).toBe('reused')
  })

  test('that was refused can be sent again, with any body', () => {
    const known = dedupe()
    const first = judge(known, { key: 'k', body: 'one' })
    if (first.kind === 'claimed') first.claim.release()
    expect(judge(known, { key: 'k', body: 'two' }).kind).toBe('claimed')
  })

  test('that is a repetition leaves no id behind that it did not bring', () => {
    const known = dedupe()
    accept(known, { key: 'k', body: 'one', ids: ['a'] })
    expect(judge(known, { key: 'k', body: 'one', ids: ['b'] }).kind).toBe('replay')
    expect(accept(known, { ids: ['b'] })).toBeNull()
  })

  test('is not taken for an id of the same text', () => {
    const known = dedupe()
    accept(known, { key: 'same' })
    expect(accept(known, { ids: ['same'] })).toBeNull()
  })

  test('of any length is known by all of it', () => {
    const known = dedupe()
    accept(known, { key: `${long}1` })
    expect(judge(known, { key: `${long}1` }).kind).toBe('replay')
    expect(judge(known, { key: `${long}2` }).kind).toBe('claimed')
  })
})

describe('events with ids', () => {
  test('are seen one by one; those without an id never', () => {
    const known = dedupe()
    expect(accept(known, { ids: ['a', null, 'b'] })).toBeNull()
    expect(accept(known, { ids: ['b', null, 'c', 'a'] })).toEqual(['seen', 'new', 'new', 'seen'])
  })

  test('are seen within a request, from the second on', () => {
    expect(accept(dedupe(), { ids: ['a', 'a', null, 'a'] })).toEqual(['new', 'seen', 'new', 'seen'])
  })

  test('of a request that is under way keep another from going on, in part too', () => {
    const known = dedupe()
    judge(known, { ids: ['a'] })
    expect(judge(known, { ids: ['b', 'a'] }).kind).toBe('busy')
    expect(judge(known, { ids: ['b'] }).kind).toBe('claimed')
  })

  test('are forgotten after the window', () => {
    const known = dedupe()
    accept(known, { ids: ['a'] })
    vi.advanceTimersByTime(windowMs - 1)
    expect(judge(known, { ids: ['a'] })).toMatchObject({ fates: ['seen'] })
    vi.advanceTimersByTime(1)
    expect(accept(known, { ids: ['a'] })).toBeNull()
  })
})

describe('an id that comes again', () => {
  test('from another source is another event', () => {
    const known = dedupe()
    accept(known, { events: [event('1', 'd', 'a')] })
    expect(
      accept(known, { events: [event('1', 'd', 'b'), event('1', 'e', ''), event('1', 'd', 'a')] }),
    ).toEqual(['new', 'new', 'seen'])
  })

  test.each([
    ['short', ''],
    ['long', long],
  ])('with half a character is told from one with another half: %s', (_, front) => {
    const halves = ['\ud83d', '\ud83e', '\udc00', '\ufffd', String.raw`"\ud83d`].map((end) => front + end)
    const events = halves.flatMap((half) => [event(half), event('1', 'd', half)])
    expect(accept(dedupe(), { events })).toBeNull()
  })

  test('never stands for another pair of source and id, however they are put together', () => {
    const known = dedupe()
    const pairs = [
      ['1:a', 'b'],
      ['1', ':ab'],
      ['1:', 'ab'],
      ['1:ab', ''],
      ['', '1:ab'],
      [long, 'a'],
      [`${long}a`, ''],
      [long.slice(1), `x${long}`],
    ] as const
    for (const [id, source] of pairs) expect(accept(known, { events: [event(id, 'd', source)] })).toBeNull()
  })

  test('with other content is a conflict, and the first content goes on being known', () => {
    const known = dedupe()
    accept(known, { events: [event('1', 'first')] })
    expect(accept(known, { events: [event('1', 'other'), event('2')] })).toEqual(['conflict', 'new'])
    expect(accept(known, { events: [event('1', 'first'), event('1', 'other'), event('2')] })).toEqual([
      'seen',
      'conflict',
      'seen',
    ])
  })

  test('is compared with what was accepted, wherever that stands in the request', () => {
    const known = dedupe()
    accept(known, { events: [event('1', 'c')] })
    const contents = ['a', 'b', 'c', 'a', 'c'].map((digest) => event('1', digest))
    expect(accept(known, { events: [...contents, event('2')] })).toEqual([
      'conflict',
      'conflict',
      'seen',
      'conflict',
      'seen',
      'new',
    ])
  })

  test('with other content in one request is a conflict with the first of them', () => {
    const events = [event('1', 'a'), event('1', 'b'), event('1', 'a')]
    expect(accept(dedupe(), { events })).toEqual(['new', 'conflict', 'seen'])
  })

  test('with other content, while the first has no answer yet, has to wait for it', () => {
    const known = dedupe()
    const first = judge(known, { events: [event('1', 'a')] })
    expect(judge(known, { events: [event('1', 'b')] }).kind).toBe('busy')
    if (first.kind === 'claimed') first.claim.release()
    expect(accept(known, { events: [event('1', 'b')] })).toBeNull()
  })

  test('with other content in a request with a key: its repetition has the same conflict', () => {
    const known = dedupe()
    accept(known, { events: [event('1', 'a')] })
    const request = { key: 'k', events: [event('1', 'b'), event('2'), null] }
    expect(accept(known, request)).toEqual(['conflict', 'new', 'new'])
    expect(judge(known, request)).toEqual({ kind: 'replay', fates: ['conflict', 'seen', 'seen'] })
  })

  test('with other content leaves nothing claimed when the request is refused', () => {
    const known = dedupe()
    accept(known, { events: [event('1', 'a')] })
    const refused = judge(known, { key: 'k', events: [event('1', 'b'), event('2')] })
    if (refused.kind === 'claimed') refused.claim.release()
    expect(accept(known, { key: 'k', events: [event('2')] })).toBeNull()
  })
})

describe('with a journal of a version that knew the id alone', () => {
  test('its ids are seen, whatever source and content they come with, until their time is over', () => {
    const journal = new Journal()
    journal.note('ia', Buffer.alloc(0), Date.now() + windowMs - 1)
    journal.note('kk', Buffer.from('x'.repeat(16)), Date.now() + windowMs)
    const known = dedupe(journal)
    const events = [event('a', 'd', 'source'), event('b')]
    expect(accept(known, { events })).toEqual(['seen', 'new'])
    expect(judge(known, { key: 'k' }).kind).toBe('reused')
    expect(judge(known, { events: [event('a', 'e', 'other')] })).toMatchObject({ fates: ['seen'] })
    vi.advanceTimersByTime(windowMs - 1)
    expect(accept(known, { events: [event('a', 'd', 'source')] })).toBeNull()
  })

  test('an id that it released after all is new', () => {
    const journal = new Journal()
    journal.note('ia', Buffer.alloc(0), Date.now() + windowMs)
    journal.note('ia', Buffer.from('-'), Date.now() + windowMs)
    expect(accept(dedupe(journal), { events: [event('a')] })).toBeNull()
  })
})

describe('with a journal', () => {
  test('another process knows what this one accepted, for what is left of the window', () => {
    const journal = new Journal()
    const first = dedupe(journal)
    accept(first, { key: 'k', body: 'one', ids: ['a', long] })
    vi.advanceTimersByTime(windowMs - 1)
    const second = dedupe(journal)
    expect(judge(second, { key: 'k', body: 'one' }).kind).toBe('replay')
    expect(judge(second, { key: 'k', body: 'two' }).kind).toBe('reused')
    expect(accept(second, { ids: ['a', long, 'new'] })).toEqual(['seen', 'seen', 'new'])
    vi.advanceTimersByTime(1)
    const third = dedupe(journal)
    expect(judge(third, { key: 'k', body: 'two' }).kind).toBe('claimed')
  })

  test('another process knows an id, or a source, that ends in half a character', () => {
    const journal = new Journal()
    const events = [event('a\ud83d'), event('1', 'd', 'a\ud83d'), event('😀')]
    accept(dedupe(journal), { events })
    expect(accept(dedupe(journal), { events })).toEqual(['seen', 'seen', 'seen'])
  })

  test('a step of the wall clock forgets nothing while the process lives', () => {
    const known = dedupe(new Journal())
    accept(known, { key: 'k', ids: ['a'] })
    vi.setSystemTime(Date.now() + 2 * windowMs)
    expect(judge(known, { key: 'k', ids: ['a'] }).kind).toBe('replay')
    vi.advanceTimersByTime(windowMs)
    expect(judge(known, { key: 'k', ids: ['a'] }).kind).toBe('claimed')
  })

  test('a wall clock that was set back makes no key last for longer than a window', () => {
    const journal = new Journal()
    accept(dedupe(journal), { key: 'k' })
    vi.setSystemTime(Date.now() - 3_600_000)
    const second = dedupe(journal)
    expect(judge(second, { key: 'k' }).kind).toBe('replay')
    vi.advanceTimersByTime(windowMs)
    expect(judge(second, { key: 'k' }).kind).toBe('claimed')
  })

  test('another process knows nothing of what was accepted, and then lost and told so', () => {
    const journal = new Journal()
    const first = dedupe(journal)
    const lost = judge(first, { key: 'k', ids: ['a'] })
    if (lost.kind !== 'claimed') throw new Error(lost.kind)
    lost.claim.note()
    lost.claim.keep()
    lost.claim.release()
    const second = dedupe(journal)
    expect(accept(second, { key: 'k', ids: ['a'] })).toBeNull()
    const third = dedupe(journal)
    expect(judge(third, { key: 'k', ids: ['a'] }).kind).toBe('replay')
  })

  test('it knows nothing of what was noted and not accepted, in this process', () => {
    const known = dedupe(new Journal())
    const verdict = judge(known, { key: 'k' })
    if (verdict.kind !== 'claimed') throw new Error(verdict.kind)
    verdict.claim.note()
    verdict.claim.release()
    expect(judge(known, { key: 'k' }).kind).toBe('claimed')
  })
})

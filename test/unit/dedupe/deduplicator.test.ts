import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Deduplicator, type DedupeJournal, type Verdict } from '../../../src/dedupe/deduplicator.ts'
import { MemoryDedupeStore } from '../../../src/dedupe/memory-dedupe-store.ts'

beforeEach(() => void vi.useFakeTimers({ now: 1_700_000_000_000 }))
afterEach(() => void vi.useRealTimers())

const windowMs = 600_000
const long = 'x'.repeat(200)

/** Keeps notes as a disk would. */
class Journal implements DedupeJournal {
  readonly notes: { key: string; value: Buffer; untilMs: number }[] = []

  note(key: string, value: Buffer, untilMs: number): void {
    this.notes.push({ key, value: Buffer.from(value), untilMs })
  }

  noteLater(key: string, value: Buffer, untilMs: number): void {
    this.note(key, value, untilMs)
  }

  readNotes(_windowMs: number, each: (key: string, value: Buffer, untilMs: number) => void): void {
    for (const { key, value, untilMs } of this.notes) each(key, value, untilMs)
  }
}

function dedupe(journal: DedupeJournal | null = null): Deduplicator {
  return new Deduplicator({ store: new MemoryDedupeStore(1_000), windowMs, journal })
}

function judge(
  deduplicator: Deduplicator,
  request: { key?: string; body?: string; ids?: (string | null)[] },
): Verdict {
  const { key = null, body = 'body', ids = null } = request
  let answer: Verdict | null = null
  deduplicator.claim({ key, body: Buffer.from(body), ids }, (_, verdict) => (answer = verdict))
  if (answer === null) throw new Error('no answer at once')
  return answer
}

/** Judges a request and accepts it. @returns which events were seen. */
function accept(deduplicator: Deduplicator, request: Parameters<typeof judge>[1]): readonly boolean[] | null {
  const verdict = judge(deduplicator, request)
  if (verdict.kind !== 'claimed') throw new Error(verdict.kind)
  verdict.claim.note()
  verdict.claim.keep()
  return verdict.seen
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
    expect(accept(known, { ids: ['b', null, 'c', 'a'] })).toEqual([true, false, false, true])
  })

  test('are seen within a request, from the second on', () => {
    expect(accept(dedupe(), { ids: ['a', 'a', null, 'a'] })).toEqual([false, true, false, true])
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
    expect(judge(known, { ids: ['a'] })).toMatchObject({ seen: [true] })
    vi.advanceTimersByTime(1)
    expect(accept(known, { ids: ['a'] })).toBeNull()
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
    expect(accept(second, { ids: ['a', long, 'new'] })).toEqual([true, true, false])
    vi.advanceTimersByTime(1)
    const third = dedupe(journal)
    expect(judge(third, { key: 'k', body: 'two' }).kind).toBe('claimed')
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

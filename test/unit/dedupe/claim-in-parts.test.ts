import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DedupeEvent, DedupeRequest } from '../../../src/dedupe/claim-round.ts'
import { Deduplicator, type Verdict } from '../../../src/dedupe/deduplicator.ts'
import type { Step } from '../../../src/dedupe/steps.ts'
import type { ClaimListener, DedupeKey, DedupeStore } from '../../../src/dedupe/dedupe-store.ts'
import { MemoryDedupeStore } from '../../../src/dedupe/memory-dedupe-store.ts'
import { casesOf } from '../../support/forms.ts'

/** Answers claims later, as a store on another machine does. */
class LateStore extends MemoryDedupeStore implements DedupeStore {
  readonly answers: (() => void)[] = []

  override claim(keys: readonly DedupeKey[], done: ClaimListener, asked: readonly DedupeKey[] = []): void {
    super.claim(keys, (...answer) => this.answers.push(() => done(...answer)), asked)
  }
}

/** Steps that were begun, oldest first. */
class Turns {
  readonly steps: Step[] = []
  readonly #store: DedupeStore

  constructor(store: DedupeStore) {
    this.#store = store
  }

  readonly begin = (step: Step): void => {
    this.steps.push(step)
  }

  /** Does one step. @returns false if there is none. */
  next(): boolean {
    const step = this.steps.shift()
    if (step !== undefined) {
      const left = step()
      if (left !== undefined) this.steps.unshift(left)
      return true
    }
    const answer = this.#store instanceof LateStore ? this.#store.answers.shift() : undefined
    answer?.()
    return answer !== undefined
  }
}

function dedupe(store: DedupeStore, isShared = false): Deduplicator {
  return new Deduplicator({ store, windowMs: 600_000, journal: null, isShared, partKeys: 2 })
}

function requestOf(events: readonly (string | null)[], key: string | null = null): DedupeRequest {
  const parse = (text: string): DedupeEvent => ({ id: text[0]!, source: '', digest: text.slice(1) })
  return {
    key,
    body: Buffer.from('body'),
    events: events.map((text) => (text === null ? null : parse(text))),
  }
}

function claimAtOnce(known: Deduplicator, request: DedupeRequest): Verdict {
  let verdict: Verdict | null = null
  known.claim(request, (_, answer) => (verdict = answer))
  if (verdict === null) throw new Error('no answer at once')
  return verdict
}

/** @param between is called before each step. */
function claimInParts(
  store: DedupeStore,
  known: Deduplicator,
  request: DedupeRequest,
  between: (steps: number) => void = () => undefined,
): Verdict {
  const turns = new Turns(store)
  let verdict: Verdict | null = null
  known.claim(request, (_, answer) => (verdict = answer), turns.begin)
  let steps = 0
  do between(steps++)
  while (turns.next())
  if (verdict === null) throw new Error('no answer')
  return verdict
}

const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
const event = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(fc.constantFrom(...ids), fc.constantFrom('1', '2')).map((text) => text.join('')),
  },
  fc.constant(null),
)
const request = fc.record({
  events: fc.array(event, { minLength: 1, maxLength: 9 }),
  key: fc.constantFrom(null, null, 'k', 'l'),
  end: fc.constantFrom('keep', 'keep', 'release', 'leave open'),
})

describe('a claim in parts', () => {
  test.each([
    ['at once', MemoryDedupeStore],
    ['later', LateStore],
  ])('has the verdict of a claim in one go, by a store that answers %s', (_, Store) => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 6 }), fc.boolean(), (requests, isShared) => {
        const stores = [new MemoryDedupeStore(1_000), new Store(1_000)] as const
        const [whole, parted] = [dedupe(stores[0], isShared), dedupe(stores[1], isShared)]
        for (const { events, key, end } of requests) {
          const verdicts = [
            claimAtOnce(whole, requestOf(events, key)),
            claimInParts(stores[1], parted, requestOf(events, key)),
          ] as const
          expect({ ...verdicts[1], claim: null }).toEqual({ ...verdicts[0], claim: null })
          for (const verdict of verdicts) {
            if (verdict.kind !== 'claimed' || end === 'leave open') continue
            for (const part of [verdict.claim, ...verdict.claim.parts])
              if (part.parts.length === 0) part[end === 'keep' ? 'keep' : 'release']()
          }
        }
        expect(stores[1].size).toBe(stores[0].size)
        // What is still claimed, is claimed in both.
        const all = ids.map((id) => `${id}1`)
        for (const each of all)
          expect(claimInParts(stores[1], parted, requestOf([each])).kind).toBe(
            claimAtOnce(whole, requestOf([each])).kind,
          )
      }),
      { numRuns: casesOf(1_000) },
    )
  })

  test('keeps another request from an id as soon as its part is claimed, and from no other id', () => {
    const store = new MemoryDedupeStore(1_000)
    const known = dedupe(store)
    const kinds: string[] = []
    const verdict = claimInParts(store, known, requestOf(['a1', 'b1', 'c1', 'd1', 'e1']), () => {
      const [first, last] = ['a1', 'x1'].map((id) => claimAtOnce(known, requestOf([id])))
      kinds.push(first!.kind)
      for (const each of [first!, last!]) if (each.kind === 'claimed') each.claim.release()
      expect(last!.kind).toBe('claimed')
    })
    expect(verdict.kind).toBe('claimed')
    // Three steps for the names, and then a part a step.
    expect(kinds.slice(0, 6)).toEqual(['claimed', 'claimed', 'claimed', 'claimed', 'busy', 'busy'])
  })

  test.each([
    ['at once', MemoryDedupeStore],
    ['later', LateStore],
  ])('lets go of all parts where a later one is busy, by a store that answers %s', (_, Store) => {
    const store = new Store(1_000)
    const known = dedupe(store)
    const beside = dedupe(store)
    const rival = requestOf(['f1'])
    const verdict = claimInParts(store, known, requestOf(['a1', 'b1', 'c1', 'd1', 'e1', 'f1']), (steps) => {
      // A request that claims at once, after the first part is claimed.
      if (steps === 4) MemoryDedupeStore.prototype.claim.call(store, keysOf(rival), () => undefined)
    })
    expect(verdict).toEqual({ kind: 'busy' })
    expect(claimInParts(store, beside, requestOf(['a1', 'b1', 'c1', 'd1', 'e1'])).kind).toBe('claimed')
  })

  test('that fails in a later part lets go of those before it', () => {
    const store = new MemoryDedupeStore(1_000)
    const known = dedupe(store)
    const claim = store.claim.bind(store)
    let claims = 0
    store.claim = (keys, done, asked) =>
      ++claims === 3 ? done(new Error('Redis is away'), [], -1) : claim(keys, done, asked)
    const turns = new Turns(store)
    const answers: unknown[] = []
    const six = requestOf(['a1', 'b1', 'c1', 'd1', 'e1', 'f1'])
    known.claim(six, (error, verdict) => answers.push(error?.message, verdict), turns.begin)
    while (turns.next());
    expect(answers).toEqual(['Redis is away', null])
    expect(claimAtOnce(known, six).kind).toBe('claimed')
  })
})

function keysOf({ events }: DedupeRequest): DedupeKey[] {
  return events!.map((each) => ({ name: `e${each!.id.length}:${each!.id}`, fingerprint: each!.digest }))
}

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { SequenceTrack } from '../../../../src/kafka/audit/sequence-track.ts'

function trackOf(sequences: readonly number[]): SequenceTrack {
  const track = new SequenceTrack()
  sequences.forEach((sequence, nth) => track.see(sequence, 1_000 + nth))
  return track
}

test('tells what each record says about those before it', () => {
  const track = new SequenceTrack()
  const said = [0, 1, 4, 2, 2, 5, 1, 3].map((sequence) => track.see(sequence, 0))
  expect(said).toEqual(['next', 'next', 'gap', 'reordered', 'duplicate', 'next', 'duplicate', 'reordered'])
  expect(track).toMatchObject({ first: 0, last: 5, records: 8, duplicated: 2, reordered: 2 })
  expect(track.missing).toEqual([])
})

test('a writer whose first records were not seen has a gap from 0 on', () => {
  const track = trackOf([7, 8])
  expect(track.missing).toEqual([{ from: 0, to: 6, atMs: 1_000 }])
  expect(track).toMatchObject({ first: 7, last: 8 })
})

test('what is missing below an end counts those behind the last one seen', () => {
  const track = trackOf([0, 1, 5])
  expect([0, 2, 4, 6, 10].map((end) => track.missingBelow(end))).toEqual([0, 0, 2, 3, 7])
  expect(new SequenceTrack().missingBelow(3)).toBe(3)
})

test('remembers when a gap was noticed, also of what is left of it', () => {
  const track = trackOf([0, 10, 5])
  expect([4, 5, 6].map((sequence) => track.missedAtMs(sequence))).toEqual([1_001, null, 1_001])
})

test('whatever comes in whatever order, missing and duplicated are what a set says', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(60), { minLength: 1, maxLength: 80 }), (sequences) => {
      const track = trackOf(sequences)
      const seen = new Set(sequences)
      const highest = Math.max(...sequences)
      expect(track.last).toBe(highest)
      expect(track.duplicated).toBe(sequences.length - seen.size)
      expect(track.missingBelow(highest + 1)).toBe(highest + 1 - seen.size)
      const missing = track.missing.flatMap(({ from, to }) =>
        Array.from({ length: to - from + 1 }, (_, i) => from + i),
      )
      expect(missing).toEqual(Array.from({ length: highest }, (_, i) => i).filter((i) => !seen.has(i)))
    }),
  )
})

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { EventRanges } from '../../../src/events/event-ranges.ts'

const body = Buffer.from('0123456789'.repeat(100))
const place = fc.nat({ max: 900 })
const anyEvent = fc.record({
  start: place,
  size: fc.nat({ max: 90 }),
  key: fc.oneof(
    fc.constant(null),
    fc.record({ start: place, size: fc.integer({ min: 1, max: 20 }) }),
    // As it was parsed; also one that is longer than what others share.
    fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
    fc.integer({ min: 300, max: 400 }).map((length) => '§'.repeat(length)),
  ),
  isOut: fc.boolean(),
})

test('gives back each event and its key, also when others were taken out', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 30 }), fc.constantFrom(1, 100), (some, times) => {
      // A hundred times as many go beyond the first page.
      const events = Array.from({ length: times }, () => some).flat()
      const ranges = new EventRanges()
      for (const { start, size, key } of events) {
        if (typeof key === 'string') ranges.addParsed(start, start + size, key, Buffer.byteLength(key))
        else ranges.add(start, start + size, key?.start ?? 0, key === null ? 0 : key.start + key.size)
      }
      const expectToHold = (held: typeof events): void => {
        expect(ranges.count).toBe(held.length)
        let totalBytes = 0
        for (const [index, { start, size, key }] of held.entries()) {
          expect([ranges.start(index), ranges.end(index)]).toEqual([start, start + size])
          const found = ranges.key(index, body)?.subarray(ranges.keyStart(index), ranges.keyEnd(index))
          const text = typeof key === 'object' && key !== null ? sliceOf(key) : key
          expect(found?.toString() ?? null).toBe(text)
          totalBytes += size + Buffer.byteLength(text ?? '')
        }
        expect(ranges.totalBytes).toBe(totalBytes)
      }
      expectToHold(events)
      ranges.keepOnly((index) => !events[index]!.isOut)
      expectToHold(events.filter(({ isOut }) => !isOut))
      ranges.clear()
      expectToHold([])
    }),
  )
})

function sliceOf({ start, size }: { start: number; size: number }): string {
  return body.toString('latin1', start, start + size)
}

test('the memory of many events is used again, and not while somebody has it', () => {
  const filled = (first: number): EventRanges => {
    const ranges = new EventRanges()
    for (let nth = 0; nth < 3_000; nth++) ranges.add(first + nth, first + nth + 1, 0, 0)
    return ranges
  }
  const [one, other] = [filled(0), filled(10_000)]
  one.release()
  // A second call gives nothing away again.
  one.release()
  expect(one.count).toBe(3_000)
  const [third, fourth] = [filled(20_000), filled(30_000)]
  const places = [other, third, fourth].map((ranges) => [
    ranges.start(128),
    ranges.start(2_999),
    ranges.end(1_152),
  ])
  expect(places).toEqual([10_000, 20_000, 30_000].map((first) => [first + 128, first + 2_999, first + 1_153]))
})

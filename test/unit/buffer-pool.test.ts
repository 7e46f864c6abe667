import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { BufferPool } from '../../src/buffer-pool.ts'

test('a buffer that was given back is taken again by who needs its size', () => {
  const buffers = new BufferPool(10_000)
  const buffer = buffers.take(1_000)
  expect(buffer).toHaveLength(1_024)
  buffers.give(buffer)
  expect(buffers.take(2_000)).not.toBe(buffer)
  expect(buffers.take(600)).toBe(buffer)
  expect(buffers.take(600)).not.toBe(buffer)
})

test('buffers of other sizes than its own are not kept', () => {
  const buffers = new BufferPool(10_000)
  const odd = Buffer.alloc(1_000)
  buffers.give(odd)
  expect(buffers.take(1_000)).not.toBe(odd)
})

test('sizes that nobody takes any more leave their room to others', () => {
  const buffers = new BufferPool(8_192)
  buffers.give(Buffer.alloc(4_096))
  buffers.give(Buffer.alloc(4_096))
  const buffer = buffers.take(512)
  buffers.give(buffer)
  expect(buffers.take(512)).toBe(buffer)
})

test('no more is kept than the limit, and nobody gets the same buffer as another', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 5_000 }), { maxLength: 30 })
  fc.assert(
    fc.property(sizes, sizes, (first, second) => {
      const buffers = new BufferPool(8_192)
      const given = new Set(first.map((size) => buffers.take(size)))
      for (const buffer of given) buffers.give(buffer)
      const taken = second.map((size) => buffers.take(size))
      expect(new Set(taken).size).toBe(taken.length)
      for (const [index, buffer] of taken.entries())
        expect(buffer.length).toBeGreaterThanOrEqual(second[index]!)
      const keptBytes = taken
        .filter((buffer) => given.has(buffer))
        .reduce((sum, { length }) => sum + length, 0)
      expect(keptBytes).toBeLessThanOrEqual(8_192)
    }),
  )
})

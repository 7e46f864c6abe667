import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { BodyRoom, recycleBody } from '../../../src/events/body-reader.ts'

test('holds the pieces in their order, in never more than four times what came', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 0, max: 100_000 }),
      (pieces, more) => {
        const whole = Buffer.concat(pieces)
        const room = new BodyRoom(whole.length + more)
        let sizeBytes = 0
        for (const piece of pieces) {
          room.add(Buffer.from(piece))
          sizeBytes += piece.length
          expect(room.body).toHaveLength(sizeBytes)
          // Sizes are powers of two.
          expect(room.body.buffer.byteLength).toBeLessThanOrEqual(Math.max(512, 8 * sizeBytes))
        }
        expect(room.body).toEqual(whole)
        recycleBody(room.body)
      },
    ),
  )
})

test('gives a buffer to the next body once it is recycled, and to one of them', () => {
  const first = roomOf('first', 100_000)
  const memory = first.body.buffer
  expect(roomOf('meanwhile', 100_000).body.buffer).not.toBe(memory)
  recycleBody(first.body)
  recycleBody(first.body)
  const second = roomOf('second', 100_000)
  expect(second.body.buffer).toBe(memory)
  expect(roomOf('third', 100_000).body.buffer).not.toBe(memory)
  expect(second.body.toString('latin1', 0, 6)).toBe('second')
})

test('takes nothing back that it did not give', () => {
  const foreign = Buffer.allocUnsafeSlow(131_072)
  recycleBody(foreign)
  expect(roomOf('mine', 100_000).body.buffer).not.toBe(foreign.buffer)
})

function roomOf(text: string, sizeBytes: number): BodyRoom {
  const room = new BodyRoom(sizeBytes)
  room.add(Buffer.from(text.padEnd(sizeBytes)))
  return room
}

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { readVarint, sizeOfVarint, writeVarint } from '../../../../src/kafka/protocol/record-format.ts'

/** Reads a zigzag varint in exact integers. */
function read(bytes: Uint8Array): bigint {
  let zigzag = 0n
  bytes.forEach((byte, index) => (zigzag |= BigInt(byte & 0x7f) << BigInt(7 * index)))
  return (zigzag >> 1n) ^ -(zigzag & 1n)
}

test.each([
  [0, [0x00]],
  [-1, [0x01]],
  [1, [0x02]],
  [63, [0x7e]],
  [-64, [0x7f]],
  [64, [0x80, 0x01]],
  [8191, [0xfe, 0x7f]],
  [-8193, [0x81, 0x80, 0x01]],
  [2_147_483_647, [0xfe, 0xff, 0xff, 0xff, 0x0f]],
  [-2_147_483_648, [0xff, 0xff, 0xff, 0xff, 0x0f]],
])('writes %i as in the tests of Kafka', (value, expected) => {
  const buffer = Buffer.alloc(8, 0xaa)
  const end = writeVarint(buffer, value, 1)
  expect([...buffer.subarray(1, end)]).toEqual(expected)
  expect(buffer[end]).toBe(0xaa)
})

test('every 32-bit integer can be read back, and takes what it is said to take', () => {
  const integer = fc.oneof(fc.integer(), fc.integer({ min: -200, max: 200 }))
  fc.assert(
    fc.property(integer, (value) => {
      const buffer = Buffer.alloc(8)
      const end = writeVarint(buffer, value, 0)
      expect(end).toBe(sizeOfVarint(value))
      expect(read(buffer.subarray(0, end))).toBe(BigInt(value))
      expect(readVarint(buffer, 0)).toBe(value)
    }),
  )
})

import { createRequire } from 'node:module'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { murmur2, partitionForHash } from '../../../../src/kafka/protocol/murmur2.ts'

const require = createRequire(import.meta.url)
const defaultPartitioner = require('kafkajs/src/producer/partitioners/default/index.js') as () => (choice: {
  topic: string
  partitionMetadata: { partitionId: number; leader: number }[]
  message: { key: Buffer }
}) => number

/** `UtilsTest.testMurmur2` of Apache Kafka; the last two are of clients that were checked against it. */
test.each([
  [Buffer.from('21'), -973_932_308],
  [Buffer.from('foobar'), -790_332_482],
  [Buffer.from('a-little-bit-long-string'), -985_981_536],
  [Buffer.from('a-little-bit-longer-string'), -1_486_304_829],
  [Buffer.from('lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8'), -58_897_971],
  [Buffer.from('abc'), 479_470_107],
  [Buffer.from([12, 42, 56, 24, 109, 111]), 274_204_207],
  [Buffer.alloc(0), 275_646_681],
])('murmur2 of %s is what Kafka makes of it', (key, expected) => {
  expect(murmur2(key)).toBe(expected)
})

test('only the bytes from start to end are hashed', () => {
  const key = Buffer.from('before foobar behind')
  expect(murmur2(key, 7, 13)).toBe(murmur2(Buffer.from('foobar')))
})

describe('partitionForKey', () => {
  test('cuts the sign bit off', () => {
    expect(partitionForHash(murmur2(Buffer.from('a foobar'), 2, 8), 6)).toBe((-790_332_482 & 0x7fffffff) % 6)
  })

  test("agrees with kafkajs's Java-compatible partitioner on every key", () => {
    const choose = defaultPartitioner()
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.integer({ min: 1, max: 50 }), (bytes, count) => {
        const key = Buffer.from(bytes)
        const partitionMetadata = Array.from({ length: count }, (_, partitionId) => ({
          partitionId,
          leader: 1,
        }))
        const theirs = choose({ topic: 'events', partitionMetadata, message: { key } })
        expect(partitionForHash(murmur2(key), count)).toBe(theirs)
      }),
      { numRuns: 300 },
    )
  })
})

import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { gunzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import type * as Lz4 from 'lz4-napi'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { ProducerConfig } from '../../../../src/config/config.ts'
import { Accumulator } from '../../../../src/kafka/producer/accumulator.ts'
import { BufferPool } from '../../../../src/buffer-pool.ts'
import { BufferMemory } from '../../../../src/kafka/producer/buffer-memory.ts'
import { murmur2, partitionForHash } from '../../../../src/kafka/protocol/murmur2.ts'
import { recordSizeUpperBound } from '../../../../src/kafka/producer/producer.ts'
import type { ProducerBatch } from '../../../../src/kafka/producer/producer-batch.ts'
import { seededRandom } from '../../../support/fault-run.ts'
import { codecsHere, producerConfig } from '../../../support/producer-fixture.ts'
import { readBatch, readRecords } from '../../../support/record-batch-reader.ts'
import { pass, useVirtualClock } from '../../../support/virtual-clock.ts'
import { RecordBytes } from '../../../../src/kafka/protocol/record-bytes.ts'

beforeEach(() => {
  useVirtualClock()
  vi.spyOn(Math, 'random').mockImplementation(seededRandom(1))
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

function setUp(overrides: Partial<ProducerConfig> = {}, partitionCount = 1) {
  const memory = new BufferMemory(10_000_000)
  const onReady = vi.fn()
  const config = producerConfig(overrides)
  const buffers = new BufferPool(1 << 20)
  const accumulator = new Accumulator({ config, memory, buffers, onReady, awaitedLingerMs: 2 })
  accumulator.repartition(partitionCount)
  const append = (value: string, key: string | null = null): ProducerBatch => {
    const body = Buffer.from(value)
    const keyBuffer = key === null ? null : Buffer.from(key)
    const keyBytes = keyBuffer?.length ?? 0
    const sizeBytes = recordSizeUpperBound(keyBytes, body.length)
    memory.reserve(sizeBytes)
    return accumulator.append(RecordBytes.of(body, keyBuffer, Date.now()), sizeBytes)
  }
  /** Takes every batch that is due, one of each partition in turn. @param partitions null: all can be written to. */
  const drain = (partitions: readonly number[] | null = null): ProducerBatch[] => {
    const batches: ProducerBatch[] = []
    for (let before = -1; batches.length > before;) {
      before = batches.length
      for (const queue of accumulator.queues) {
        if (partitions?.includes(queue.partition) === false) continue
        const batch = accumulator.peek(queue, performance.now())
        if (batch === null) continue
        accumulator.take(queue, batch)
        batches.push(batch)
      }
    }
    return batches
  }
  return { accumulator, memory, buffers, onReady, append, drain }
}

function recordsOf(batch: ProducerBatch): { key: string | null; value: string }[] {
  return readBatch(batch.seal()).records!.map(({ key, value }) => ({ key, value }))
}

describe('a batch becomes due', () => {
  test('linger.ms after its first record, and not before', async () => {
    const { append, drain, onReady } = setUp({ lingerMs: 50 })
    append('a')
    await pass(30)
    append('b')
    expect(drain()).toEqual([])
    await pass(19)
    expect(drain()).toEqual([])
    expect(onReady).not.toHaveBeenCalled()
    await pass(1)
    expect(onReady).toHaveBeenCalled()
    expect(drain().map(({ recordCount }) => recordCount)).toEqual([2])
  })

  test('sooner if a client waits for it, where the sender has no reason against it', async () => {
    const { accumulator, append, onReady } = setUp({ lingerMs: 50 })
    const [queue] = accumulator.queues
    const batch = append('a')
    batch.hurry()
    append('b').hurry()
    expect(accumulator.peek(queue!, performance.now())).toBeNull()
    await pass(2)
    expect(onReady).toHaveBeenCalledTimes(1)
    expect(accumulator.peek(queue!, performance.now(), false)).toBeNull()
    expect(accumulator.peek(queue!, performance.now())).toBe(batch)
    expect(batch.recordCount).toBe(2)
  })

  test('no later because a client waits for it', async () => {
    const { append, drain } = setUp({ lingerMs: 1 })
    append('a').hurry()
    await pass(1)
    expect(drain()).toHaveLength(1)
  })

  test('together with those that were opened in the same period, with one timer for all', async () => {
    const { append, drain } = setUp({ lingerMs: 50 }, 2)
    const [first, second] = ['a', 'b', 'c', 'd', 'e'].toSorted(
      (a, b) => partitionOf(a, 2) - partitionOf(b, 2),
    ) as [string, string]
    const other = ['a', 'b', 'c', 'd', 'e'].findLast((key) => partitionOf(key, 2) === 1)!
    expect(second).toBeDefined()
    append('1', first)
    await pass(20)
    append('2', other)
    expect(vi.getTimerCount()).toBe(1)
    await pass(29)
    expect(drain()).toHaveLength(0)
    await pass(1)
    expect(drain()).toHaveLength(2)
    await pass(100)
    expect(vi.getTimerCount()).toBe(0)
    append('3', first)
    await pass(49)
    expect(drain()).toHaveLength(0)
    await pass(1)
    expect(drain()).toHaveLength(1)
  })

  test('at once with linger.ms 0', () => {
    const { append, drain, onReady } = setUp({ lingerMs: 0 })
    append('a')
    expect(onReady).toHaveBeenCalledOnce()
    expect(drain()).toHaveLength(1)
  })

  test('when the next record would pass batch.size', () => {
    const { append, drain, onReady } = setUp({ lingerMs: 5_000, batchSizeBytes: 300 })
    for (let i = 0; i < 10; i++) append('x'.repeat(50))
    expect(onReady).toHaveBeenCalled()
    const batches = drain()
    expect(batches.length).toBeGreaterThan(1)
    for (const batch of batches) expect(batch.sizeBytes).toBeLessThanOrEqual(300)
  })

  test('with a flush', () => {
    const { append, drain, accumulator } = setUp({ lingerMs: 5_000 })
    append('a')
    accumulator.flush()
    expect(drain()).toHaveLength(1)
  })
})

describe('records without a key', () => {
  test('fill one batch after the other, and belong to no partition before one takes them', async () => {
    const { append, drain, accumulator } = setUp({ lingerMs: 5, batchSizeBytes: 1_000 }, 4)
    const batches = new Set<ProducerBatch>()
    for (let i = 0; i < 200; i++) batches.add(append('x'.repeat(50)))
    expect(batches.size).toBeGreaterThan(10)
    expect(batches.size).toBeLessThan(25)
    expect(new Set([...batches].map(({ partition }) => partition))).toEqual(new Set([-1]))
    await pass(10)
    expect(drain()).toEqual([...batches])
    expect(new Set([...batches].map(({ partition }) => partition))).toEqual(new Set([0, 1, 2, 3]))
    expect(accumulator.hasUnkeyed).toBe(false)
  })

  test('go to the partitions that can be written to, all of them', async () => {
    const { append, drain } = setUp({ batchSizeBytes: 300 }, 3)
    for (let i = 0; i < 60; i++) append('x'.repeat(50))
    for (let i = 0; i < 60; i++) append('x'.repeat(50), `${i}`)
    await pass(10)
    const taken = drain([0, 2])
    const unkeyed = taken.flatMap(recordsOf).filter(({ key }) => key === null)
    expect(unkeyed).toHaveLength(60)
    expect(new Set(taken.map(({ partition }) => partition))).toEqual(new Set([0, 2]))
    const left = drain().flatMap(recordsOf)
    expect(left.length).toBeGreaterThan(10)
    for (const { key } of left) expect(partitionOf(key!, 3)).toBe(1)
  })

  test('take their turn by age, so that neither they nor keys wait for ever', async () => {
    const { append, accumulator } = setUp({ batchSizeBytes: 150 }, 1)
    for (let i = 0; i < 10; i++) {
      append(`keyed ${i}`.padEnd(60), 'k')
      await pass(1)
      append(`unkeyed ${i}`.padEnd(60))
      await pass(1)
    }
    accumulator.flush()
    const order: string[] = []
    const [queue] = accumulator.queues
    for (let batch = accumulator.peek(queue!, 100); batch !== null; batch = accumulator.peek(queue!, 100)) {
      accumulator.take(queue!, batch)
      order.push(...recordsOf(batch).map(({ value }) => value.trim()))
    }
    expect(order).toEqual(Array.from({ length: 10 }, (_, i) => [`keyed ${i}`, `unkeyed ${i}`]).flat())
  })

  test('a batch of them that is due stays open as long as no partition takes it', async () => {
    const { append, drain } = setUp({ lingerMs: 5 }, 2)
    const batch = append('a')
    await pass(100)
    expect(drain([])).toEqual([])
    expect(append('b')).toBe(batch)
    expect(drain([1])).toEqual([batch])
    expect(batch).toMatchObject({ recordCount: 2, partition: 1 })
  })

  test('and those with one are all taken once, each kind in its order', () => {
    const record = fc.record({
      key: fc.option(fc.constantFrom('a', 'b', 'c', 'd', 'e')),
      padding: fc.nat(400),
      drains: fc.integer({ min: 0, max: 9 }).map((digit) => digit === 0),
    })
    fc.assert(
      fc.property(fc.array(record, { maxLength: 120 }), fc.integer({ min: 1, max: 5 }), (records, count) => {
        const { append, drain, accumulator, memory } = setUp({ lingerMs: 60_000, batchSizeBytes: 500 }, count)
        const batches: ProducerBatch[] = []
        const appended = new Map<ProducerBatch, number>()
        for (const [index, { key, padding, drains }] of records.entries()) {
          const batch = append(`${index} `.padEnd(padding), key)
          appended.set(batch, (appended.get(batch) ?? 0) + 1)
          if (drains) batches.push(...drain())
        }
        accumulator.flush()
        batches.push(...drain())
        expect(new Set(batches).size).toBe(batches.length)
        for (const batch of batches) expect(batch.recordCount).toBe(appended.get(batch))
        const byPartition = new Map<number, { key: string | null; value: string }[]>()
        for (const batch of batches) {
          const seen = byPartition.get(batch.partition) ?? []
          byPartition.set(batch.partition, [...seen, ...recordsOf(batch)])
        }
        const found = [...byPartition.values()].flat().map(({ value }) => Number.parseInt(value, 10))
        expect(found.toSorted((a, b) => a - b)).toEqual(records.map((_, index) => index))
        for (const [partition, seen] of byPartition) {
          for (const hasKey of [true, false]) {
            const some = seen.filter(({ key }) => (key !== null) === hasKey)
            const ids = some.map(({ value }) => Number.parseInt(value, 10))
            expect(ids).toEqual(ids.toSorted((a, b) => a - b))
          }
          for (const { key } of seen) if (key !== null) expect(partitionOf(key, count)).toBe(partition)
        }
        // What is not given back is what the batches weigh.
        const weight = batches.reduce((sum, batch) => sum + batch.sizeBytes, 0)
        expect(memory.totalBytes - memory.availableBytes).toBe(weight)
      }),
    )
  })
})

test('keys of any length and script go whole into the batch and to the partition that their bytes give', () => {
  const { append, drain, accumulator } = setUp({ batchSizeBytes: 1 << 20 }, 7)
  const keys = ['', 'ключ', '🔑'.repeat(400), 'k'.repeat(1_365), 'k'.repeat(1_366), 'é'.repeat(50_000)]
  for (const key of keys) append('v', key)
  accumulator.flush()
  const found = drain().flatMap((batch) => recordsOf(batch).map(({ key }) => [batch.partition, key]))
  expect(found.toSorted(byKey)).toEqual(keys.map((key) => [partitionOf(key, 7), key]).toSorted(byKey))
})

function byKey([, a]: (string | number | null)[], [, b]: (string | number | null)[]): number {
  return String(a) < String(b) ? -1 : 1
}

test('no batch passes max.message.bytes once that is known', () => {
  const { append, drain, accumulator } = setUp({ batchSizeBytes: 32_768 })
  accumulator.batchSizeLimitBytes = 400
  for (let i = 0; i < 20; i++) append('x'.repeat(100))
  accumulator.flush()
  for (const batch of drain()) expect(batch.sizeBytes).toBeLessThanOrEqual(400)
})

describe('takeExpired', () => {
  test('takes what was opened too long ago, the open batch too, and leaves the rest in order', async () => {
    const { append, drain, accumulator } = setUp({ lingerMs: 60_000, batchSizeBytes: 300 })
    for (let i = 0; i < 6; i++) {
      append(`${i}`.padEnd(150))
      await pass(100)
    }
    const expired = accumulator.takeExpired(performance.now(), 350)
    expect(expired.flatMap((batch) => batch.recordCount)).toEqual([1, 1, 1])
    accumulator.flush()
    expect(
      drain()
        .flatMap(recordsOf)
        .map(({ value }) => Number(value)),
    ).toEqual([3, 4, 5])
    append('open')
    await pass(400)
    expect(accumulator.takeExpired(performance.now(), 350)).toHaveLength(1)
    expect(drain()).toEqual([])
  })
})

test('takeAll takes everything, and leaves no timer', () => {
  const { append, drain, accumulator } = setUp({ lingerMs: 50, batchSizeBytes: 300 }, 3)
  for (let i = 0; i < 30; i++) append('x'.repeat(100), `${i}`)
  const batches = accumulator.takeAll()
  expect(batches.reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(30)
  expect(drain()).toEqual([])
  expect(vi.getTimerCount()).toBe(0)
})

describe('repartition', () => {
  const compressions = ['none', 'gzip'] as const

  test.each([
    [4, 1],
    [4, 3],
    [1, 4],
    [3, 3],
  ])('what waits goes to the partition that its key has now, in order (%d to %d)', async (before, after) => {
    for (const compressionType of compressions) {
      const { append, drain, accumulator, memory } = setUp({ batchSizeBytes: 400, compressionType }, before)
      for (let i = 0; i < 200; i++) append(`${i}`.padEnd(40), i % 5 === 0 ? null : `key-${i % 13}`)
      const left = accumulator.repartition(after)
      // As the account does.
      for (const batch of left) batch.state = 'settled'
      expect(left.length).toBeGreaterThan(10)
      expect(accumulator.partitionCount).toBe(after)
      for (let i = 200; i < 230; i++) append(`${i}`.padEnd(40), `key-${i % 13}`)
      accumulator.flush()
      vi.useRealTimers()
      const batches: ProducerBatch[] = []
      await vi.waitFor(() => {
        batches.push(...drain())
        expect(batches.reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(230)
      })
      useVirtualClock()
      const found = batches.flatMap((batch) => {
        const { recordsBytes, recordCount, attributes } = readBatch(batch.seal())
        const plain = attributes === 1 ? gunzipSync(recordsBytes) : recordsBytes
        return readRecords(plain, recordCount, 0).map(({ key, value }) => ({
          key,
          id: Number(value),
          partition: batch.partition,
        }))
      })
      expect(found.map(({ id }) => id).toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: 230 }, (_, id) => id),
      )
      for (let key = 0; key < 13; key++) {
        const own = found.filter((record) => record.key === `key-${key}`)
        expect(new Set(own.map(({ partition }) => partition))).toEqual(
          new Set([partitionOf(`key-${key}`, after)]),
        )
        expect(own.map(({ id }) => id)).toEqual(own.map(({ id }) => id).toSorted((a, b) => a - b))
      }
      const weight = batches.reduce((sum, batch) => sum + batch.sizeBytes, 0)
      expect(memory.totalBytes - memory.availableBytes).toBe(weight)
    }
  })

  test('who waits hears what became of each record, once, with its place and its offset', async () => {
    const { append, drain, accumulator } = setUp({ batchSizeBytes: 600 }, 3)
    const heard = new Map<number, { offset: bigint; partition: number }[]>()
    const idsOf = new Map<ProducerBatch, number[]>()
    for (let i = 0; i < 100; i++) {
      const batch = append(`${i}`.padEnd(30), `key-${i % 7}`)
      const ids = idsOf.get(batch) ?? []
      idsOf.set(batch, ids)
      if (ids.push(i) === 1)
        batch.onSettled(({ firstPlace, recordCount, baseOffset, partition }) => {
          for (let nth = 0; nth < recordCount; nth++) {
            const id = ids[firstPlace + nth]!
            heard.set(id, [...(heard.get(id) ?? []), { offset: baseOffset! + BigInt(nth), partition }])
          }
        })
    }
    accumulator.repartition(2)
    accumulator.repartition(5)
    accumulator.flush()
    const places = new Map<number, { offset: bigint; partition: number }>()
    let offset = 0n
    for (const batch of drain()) {
      const baseOffset = offset
      for (const { value } of recordsOf(batch))
        places.set(Number(value), { offset: offset++, partition: batch.partition })
      const { partition, recordCount } = batch
      const end = { outcome: 'acked', reason: null, partition } as const
      batch.notifySettled({ ...end, baseOffset, firstPlace: 0, recordCount })
    }
    await pass(1)
    for (const [id, [first, ...more]] of heard) {
      expect(more).toEqual([])
      expect(first).toEqual(places.get(id))
    }
    expect(heard.size).toBe(100)
  })

  test('keeps what counts from the acceptance of a record', async () => {
    const { append, accumulator } = setUp({ lingerMs: 60_000 }, 2)
    append('old', 'a')
    await pass(500)
    append('new', 'b')
    accumulator.repartition(1)
    expect(accumulator.takeExpired(performance.now(), 400).map(({ recordCount }) => recordCount)).toEqual([2])
  })

  test('what has no key and was on its way goes before what has no key and waits, and makes none of it older', async () => {
    const { append, accumulator, drain } = setUp({ lingerMs: 60_000, batchSizeBytes: 200 }, 2)
    append('on its way'.padEnd(100))
    append('waits'.padEnd(100))
    const onItsWay = accumulator.peek(accumulator.queues[1]!, performance.now())!
    accumulator.take(accumulator.queues[1]!, onItsWay)
    await pass(500)
    const open = append('late'.padEnd(100))
    expect(accumulator.repartition(1, [onItsWay])).toEqual([onItsWay])
    expect(open.createdAtMs).toBe(performance.now())
    expect(append('later')).toBe(open)
    accumulator.flush()
    const values = drain().map((batch) => recordsOf(batch).map(({ value }) => value.trim()))
    expect(values).toEqual([['on its way'], ['waits'], ['late', 'later']])
  })
})

describe('a queue', () => {
  test('of many batches is taken in order', () => {
    const { append, accumulator } = setUp({ lingerMs: 5_000, batchSizeBytes: 100 })
    for (let i = 0; i < 3_000; i++) append(`${i}`.padEnd(60), 'k')
    const taken: ProducerBatch[] = []
    const queue = accumulator.queues[0]!
    for (let batch = queue.take(); batch !== null; batch = queue.take()) taken.push(batch)
    expect(taken.flatMap(recordsOf).map(({ value }) => Number(value))).toEqual(
      Array.from({ length: 2_999 }, (_, index) => index),
    )
    expect(queue.isEmpty).toBe(true)
  })
})

describe('compression', () => {
  beforeEach(() => vi.useRealTimers())

  test('keeps the order of batches, whichever the codec is done with first', async () => {
    const { append, drain, accumulator } = setUp({
      compressionType: 'gzip',
      lingerMs: 0,
      batchSizeBytes: 150_000,
    })
    append('large '.repeat(30_000))
    append('small '.repeat(20))
    accumulator.flush()
    const batches: ProducerBatch[] = []
    await vi.waitFor(() => {
      batches.push(...drain())
      expect(batches).toHaveLength(2)
    })
    const values = batches.map((batch) => {
      const { attributes, recordsBytes, recordCount, isCrcRight } = readBatch(batch.seal())
      expect({ attributes, isCrcRight }).toEqual({ attributes: 1, isCrcRight: true })
      return readRecords(gunzipSync(recordsBytes), recordCount, 0)[0]!.value.slice(0, 5)
    })
    expect(values).toEqual(['large', 'small'])
  })

  test('gives back what it saves', async () => {
    const { append, drain, accumulator, memory } = setUp({ compressionType: 'lz4', lingerMs: 0 })
    append('x'.repeat(20_000))
    accumulator.flush()
    await vi.waitFor(() => expect(drain()).toHaveLength(1))
    expect(memory.totalBytes - memory.availableBytes).toBeLessThan(1_000)
  })

  test.each(codecsHere)(
    'never makes a batch larger than it was (%s), or the broker might refuse it',
    async (compressionType) => {
      const { accumulator, memory, drain } = setUp({ compressionType, lingerMs: 0 })
      const noise = randomBytes(100_000)
      const sizeBytes = recordSizeUpperBound(0, noise.length)
      memory.reserve(sizeBytes)
      const batch = accumulator.append(RecordBytes.of(noise, null, Date.now()), sizeBytes)
      accumulator.flush()
      await vi.waitFor(() => expect(drain()).toHaveLength(1))
      expect(batch.sizeBytes).toBeLessThanOrEqual(sizeBytes)
      expect(readBatch(batch.seal())).toMatchObject({ attributes: 0, isCrcRight: true })
      expect(memory.totalBytes - memory.availableBytes).toBe(batch.sizeBytes)
    },
  )

  test('a batch that expires under the codec stays expired', async () => {
    const { append, accumulator, onReady } = setUp({
      compressionType: 'gzip',
      lingerMs: 0,
      batchSizeBytes: 200,
    })
    append('x'.repeat(200))
    const batch = append('y')
    accumulator.flush()
    const [taken] = accumulator.takeAll()
    taken!.state = 'settled'
    taken!.release()
    onReady.mockClear()
    await vi.waitFor(() => expect(onReady).toHaveBeenCalled())
    expect(taken!.state).toBe('settled')
    expect(batch.state).toBe('open')
  })
})

test.each(codecsHere)(
  'while a codec (%s) reads a batch on its thread, nobody else gets the buffer of the batch',
  async (compressionType) => {
    vi.useRealTimers()
    const { append, accumulator, buffers, onReady, drain } = setUp({ compressionType, lingerMs: 0 })
    const give = vi.spyOn(buffers, 'give')
    append('x'.repeat(500_000))
    accumulator.flush()
    expect(drain()).toEqual([])
    for (const batch of accumulator.takeAll()) {
      expect(batch.compressing).toBe(true)
      batch.state = 'settled'
      batch.release()
    }
    onReady.mockClear()
    await vi.waitFor(() => expect(onReady).toHaveBeenCalled())
    expect(give).not.toHaveBeenCalled()
    // Behind the codec the buffer is free.
    append('x'.repeat(500_000))
    await vi.waitFor(() => expect(drain()).toHaveLength(1))
    expect(give).toHaveBeenCalledOnce()
  },
)

describe('a codec that fails', () => {
  test('leaves the batch as it is: it goes uncompressed', async () => {
    vi.useRealTimers()
    const library = createRequire(import.meta.url)('lz4-napi') as typeof Lz4
    const compress = vi.spyOn(library, 'compressFrame').mockRejectedValue(new Error('broken'))
    onTestFinished(() => compress.mockRestore())
    const memory = new BufferMemory(10_000)
    const accumulator = new Accumulator({
      config: producerConfig({ compressionType: 'lz4', lingerMs: 0 }),
      memory,
      buffers: new BufferPool(0),
      onReady: () => {},
    })
    accumulator.append(
      RecordBytes.of(Buffer.from('value'), null, 1_700_000_000_000),
      recordSizeUpperBound(0, 5),
    )
    const queue = accumulator.queues[0]!
    await vi.waitFor(() => expect(accumulator.peek(queue, performance.now() + 1)).not.toBeNull())
    const batch = accumulator.peek(queue, performance.now() + 1)!
    expect(readBatch(batch.seal())).toMatchObject({ attributes: 0, records: [{ value: 'value' }] })
  })
})

function partitionOf(key: string, partitionCount: number): number {
  const bytes = Buffer.from(key)
  return partitionForHash(murmur2(bytes), partitionCount)
}

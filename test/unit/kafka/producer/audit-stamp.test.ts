import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { auditHeaderKey, readAuditMark, type AuditMark } from '../../../../src/kafka/protocol/audit-header.ts'
import { Accumulator } from '../../../../src/kafka/producer/accumulator.ts'
import { AuditStamp } from '../../../../src/kafka/producer/audit-stamp.ts'
import { BufferPool } from '../../../../src/buffer-pool.ts'
import { BufferMemory } from '../../../../src/kafka/producer/buffer-memory.ts'
import { murmur2, partitionForHash } from '../../../../src/kafka/protocol/murmur2.ts'
import { recordSizeUpperBound } from '../../../../src/kafka/producer/producer.ts'
import { ProducerBatch } from '../../../../src/kafka/producer/producer-batch.ts'
import { decodeWithKafkajs } from '../../../support/kafkajs-decoder.ts'
import { producerConfig } from '../../../support/producer-fixture.ts'
import { useVirtualClock } from '../../../support/virtual-clock.ts'
import { RecordBytes } from '../../../../src/kafka/protocol/record-bytes.ts'

beforeEach(() => useVirtualClock())
afterEach(() => {
  vi.useRealTimers()
})

const totalBytes = 1 << 20

function setUp(partitionCount: number) {
  const memory = new BufferMemory(totalBytes)
  const stamp = new AuditStamp()
  const config = producerConfig({ batchSizeBytes: 400 })
  const buffers = new BufferPool(1 << 20)
  const accumulator = new Accumulator({ config, memory, buffers, stamp, onReady: () => {} })
  accumulator.repartition(partitionCount)
  const append = (value: string, key: string | null): void => {
    const body = Buffer.from(value)
    const keyBuffer = key === null ? null : Buffer.from(key)
    const keyBytes = keyBuffer?.length ?? 0
    const sizeBytes = recordSizeUpperBound(keyBytes, body.length, stamp.headerBytes)
    expect(memory.reserve(sizeBytes)).toBe(true)
    accumulator.append(RecordBytes.of(body, keyBuffer, 1_700_000_000_000), sizeBytes)
  }
  return { memory, stamp, accumulator, append }
}

/** What a sender takes, partition by partition in turn, in the order of taking. */
function takeAllOf(accumulator: Accumulator): ProducerBatch[] {
  accumulator.flush()
  const taken: ProducerBatch[] = []
  for (let before = -1; taken.length > before;) {
    before = taken.length
    for (const queue of accumulator.queues) {
      const batch = accumulator.peek(queue, performance.now())
      if (batch === null) continue
      accumulator.take(queue, batch)
      taken.push(batch)
    }
  }
  return taken
}

/** The marks of the records of batches in order, as kafkajs reads them. */
async function marksOf(batches: readonly ProducerBatch[]): Promise<AuditMark[]> {
  const marks: AuditMark[] = []
  for (const batch of batches) {
    const { records } = await decodeWithKafkajs(batch.seal())
    marks.push(...records.map(({ headers }) => readAuditMark(headers[auditHeaderKey]!)!))
  }
  return marks
}

test('each partition counts from 0 without a gap in the order of sending, with keys and without', async () => {
  const { stamp, accumulator, append } = setUp(3)
  for (let i = 0; i < 200; i++) append(`value ${i}`.padEnd(i % 90), i % 3 === 0 ? `key-${i % 7}` : null)
  const taken = takeAllOf(accumulator)
  let total = 0
  for (const partition of [0, 1, 2]) {
    const marks = await marksOf(taken.filter((batch) => batch.partition === partition))
    expect(marks).toEqual(marks.map((_, sequence) => ({ instance: stamp.instance, sequence })))
    expect(stamp.counts[partition]).toEqual({ instance: stamp.instance, partition, stamped: marks.length })
    expect(marks.length).toBeGreaterThan(20)
    total += marks.length
  }
  expect(total).toBe(200)
})

test('a partition that got no record is counted with none, also where it stands before one that got some', () => {
  const { stamp, accumulator, append } = setUp(3)
  append('value', keyOf(2, 3))
  takeAllOf(accumulator)
  const { instance } = stamp
  expect([...stamp.counts]).toStrictEqual([
    { instance, partition: 0, stamped: 0 },
    { instance, partition: 1, stamped: 0 },
    { instance, partition: 2, stamped: 1 },
  ])
})

test('what is never sent has numbers too, so that a reader sees that it is missing', () => {
  const { stamp, accumulator, append } = setUp(2)
  for (let i = 0; i < 40; i++) append(`value ${i}`.padEnd(60), i % 2 === 0 ? `key-${i}` : null)
  vi.advanceTimersByTime(1_000)
  append('later', null)
  const expired = accumulator.takeExpired(performance.now(), 500)
  const left = accumulator.takeAll()
  expect([...expired, ...left].reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(41)
  expect(stamp.counts.reduce((sum, { stamped }) => sum + stamped, 0)).toBe(41)
})

test('two stamps never share an instance', () => {
  expect(new AuditStamp().instance).not.toBe(new AuditStamp().instance)
})

test.each([0, 1, 100])(
  'the room that is reserved for a record of %d bytes holds its header too',
  (length) => {
    const { memory, accumulator, append } = setUp(1)
    append('x'.repeat(length), null)
    const [batch] = takeAllOf(accumulator)
    expect(batch!.sizeBytes).toBeLessThanOrEqual(totalBytes - memory.availableBytes)
  },
)

function keyOf(partition: number, partitionCount: number): string {
  for (let i = 0; ; i++) {
    const key = Buffer.from(`${i}`)
    if (partitionForHash(murmur2(key), partitionCount) === partition) return `${i}`
  }
}

test('a batch of an earlier process whose partition is gone goes under marks of this process, and no mark is missing', async () => {
  const { memory, stamp, accumulator } = setUp(2)
  const earlier = new AuditStamp()
  // Three records, which the earlier process had numbered 0 to 2.
  const batch = new ProducerBatch(1, performance.now(), Buffer.alloc(400), () => {})
  for (const value of ['a', 'b', 'c'])
    batch.append(RecordBytes.of(Buffer.from(value), Buffer.from(value), 1), Infinity, earlier.headers)
  batch.close()
  earlier.number(batch)
  batch.chargedBytes = batch.sizeBytes
  expect(memory.reserve(batch.chargedBytes)).toBe(true)
  stamp.resume(1, batch.firstHeaders!, 3)
  expect(stamp.counts).toContainEqual({ instance: earlier.instance, partition: 1, first: 0, stamped: 3 })

  accumulator.repartition(1, [batch])
  const marks = await marksOf(takeAllOf(accumulator))
  expect(marks).toEqual([0, 1, 2].map((sequence) => ({ instance: stamp.instance, sequence })))
  expect(stamp.counts).toEqual([{ instance: stamp.instance, partition: 0, stamped: 3 }])
})

test('a batch on its way to a partition that is gone leaves no number of that partition unused', async () => {
  const { stamp, accumulator, append } = setUp(2)
  for (let i = 0; i < 20; i++) append(`value ${i}`, `key ${i}`)
  const gone = takeAllOf(accumulator).filter(({ partition }) => partition === 1)
  expect(gone.length).toBeGreaterThan(0)
  const count = gone.reduce((sum, { recordCount }) => sum + recordCount, 0)
  accumulator.repartition(1, gone)
  await marksOf(takeAllOf(accumulator))
  expect(stamp.counts.filter(({ stamped }) => stamped > 0)).toEqual([
    { instance: stamp.instance, partition: 0, stamped: 20 },
  ])
  expect(count).toBeLessThan(20)
})

test('a batch of an earlier process that was not audited gets marks, and keeps its values', async () => {
  const { memory, stamp, accumulator } = setUp(2)
  const batch = new ProducerBatch(1, performance.now(), Buffer.alloc(400), () => {})
  const value = 'a value that is longer than a mark'
  batch.append(RecordBytes.of(Buffer.from(value), Buffer.from('k'), 1), Infinity, null)
  batch.close()
  batch.chargedBytes = batch.sizeBytes
  expect(memory.reserve(batch.chargedBytes)).toBe(true)
  accumulator.repartition(1, [batch])
  const taken = takeAllOf(accumulator)
  const { records } = await decodeWithKafkajs(taken[0]!.seal())
  expect(records.map((record) => record.value?.toString())).toEqual([value])
  expect(await marksOf(taken)).toEqual([{ instance: stamp.instance, sequence: 0 }])
  expect(stamp.counts).toEqual([{ instance: stamp.instance, partition: 0, stamped: 1 }])
})

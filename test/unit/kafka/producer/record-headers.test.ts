import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import {
  auditHeaderKey,
  readAuditHeader,
  type AuditHeader,
} from '../../../../src/kafka/protocol/audit-header.ts'
import { Accumulator } from '../../../../src/kafka/producer/accumulator.ts'
import { AuditHeaders } from '../../../../src/kafka/producer/record-headers.ts'
import { BufferPool } from '../../../../src/buffer-pool.ts'
import { BufferMemory } from '../../../../src/kafka/producer/buffer-memory.ts'
import { recordSizeUpperBound } from '../../../../src/kafka/producer/producer.ts'
import { ProducerBatch } from '../../../../src/kafka/producer/producer-batch.ts'
import { decodeWithKafkajs } from '../../../support/kafkajs-decoder.ts'
import { producerConfig, keyFor } from '../../../support/producer-fixture.ts'
import { useVirtualClock } from '../../../support/virtual-clock.ts'
import { DeadLetterHeaders } from '../../../../src/kafka/producer/at-least-once/dead-letters.ts'
import { encodeHeaders } from '../../../../src/kafka/protocol/record-format.ts'
import { RecordBytes } from '../../../../src/kafka/protocol/record-bytes.ts'

beforeEach(() => useVirtualClock())
afterEach(() => {
  vi.useRealTimers()
})

const totalBytes = 1 << 20

function setUp(partitionCount: number) {
  const memory = new BufferMemory(totalBytes)
  const headers = new AuditHeaders()
  const config = producerConfig({ batchSizeBytes: 400 })
  const buffers = new BufferPool(1 << 20)
  const accumulator = new Accumulator({ config, memory, buffers, headers, onReady: () => {} })
  accumulator.repartition(partitionCount)
  const append = (value: string, key: string | null): void => {
    const body = Buffer.from(value)
    const keyBuffer = key === null ? null : Buffer.from(key)
    const keyBytes = keyBuffer?.length ?? 0
    const sizeBytes = recordSizeUpperBound(keyBytes, body.length, headers.headerBytes)
    expect(memory.reserve(sizeBytes)).toBe(true)
    accumulator.append(RecordBytes.of(body, keyBuffer, 1_700_000_000_000), sizeBytes)
  }
  return { memory, headers, accumulator, append }
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
async function marksOf(batches: readonly ProducerBatch[]): Promise<AuditHeader[]> {
  const marks: AuditHeader[] = []
  for (const batch of batches) {
    const { records } = await decodeWithKafkajs(batch.seal())
    marks.push(...records.map(({ headers }) => readAuditHeader(headers[auditHeaderKey]!)!))
  }
  return marks
}

test('each partition counts from 0 without a gap in the order of sending, with keys and without', async () => {
  const { headers, accumulator, append } = setUp(3)
  for (let i = 0; i < 200; i++) append(`value ${i}`.padEnd(i % 90), i % 3 === 0 ? `key-${i % 7}` : null)
  const taken = takeAllOf(accumulator)
  let total = 0
  for (const partition of [0, 1, 2]) {
    const marks = await marksOf(taken.filter((batch) => batch.partition === partition))
    expect(marks).toEqual(marks.map((_, sequence) => ({ instance: headers.instance, sequence })))
    expect(headers.counts[partition]).toEqual({
      instance: headers.instance,
      partition,
      stamped: marks.length,
    })
    expect(marks.length).toBeGreaterThan(20)
    total += marks.length
  }
  expect(total).toBe(200)
})

test('a partition that got no record is counted with none, also where it stands before one that got some', () => {
  const { headers, accumulator, append } = setUp(3)
  append('value', keyFor(2, 3))
  takeAllOf(accumulator)
  const { instance } = headers
  expect([...headers.counts]).toStrictEqual([
    { instance, partition: 0, stamped: 0 },
    { instance, partition: 1, stamped: 0 },
    { instance, partition: 2, stamped: 1 },
  ])
})

test('what is never sent has numbers too, so that a reader sees that it is missing', () => {
  const { headers, accumulator, append } = setUp(2)
  for (let i = 0; i < 40; i++) append(`value ${i}`.padEnd(60), i % 2 === 0 ? `key-${i}` : null)
  vi.advanceTimersByTime(1_000)
  append('later', null)
  const expired = accumulator.takeExpired(performance.now(), 500)
  const left = accumulator.takeAll()
  expect([...expired, ...left].reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(41)
  expect(headers.counts.reduce((sum, { stamped }) => sum + stamped, 0)).toBe(41)
})

test('two stamps never share an instance', () => {
  expect(new AuditHeaders().instance).not.toBe(new AuditHeaders().instance)
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

test('a batch of an earlier process whose partition is gone goes under marks of this process, and no mark is missing', async () => {
  const { memory, headers, accumulator } = setUp(2)
  const earlier = new AuditHeaders()
  // Three records, which the earlier process had numbered 0 to 2.
  const batch = new ProducerBatch(1, performance.now(), Buffer.alloc(400), () => {})
  for (const value of ['a', 'b', 'c'])
    batch.append(RecordBytes.of(Buffer.from(value), Buffer.from(value), 1), Infinity, earlier.encoded)
  batch.close()
  earlier.number(batch)
  batch.chargedBytes = batch.sizeBytes
  expect(memory.reserve(batch.chargedBytes)).toBe(true)
  headers.resume(1, batch.firstHeaders!, 3)
  expect(headers.counts).toContainEqual({ instance: earlier.instance, partition: 1, first: 0, stamped: 3 })

  accumulator.repartition(1, [batch])
  const marks = await marksOf(takeAllOf(accumulator))
  expect(marks).toEqual([0, 1, 2].map((sequence) => ({ instance: headers.instance, sequence })))
  expect(headers.counts).toEqual([{ instance: headers.instance, partition: 0, stamped: 3 }])
})

test('a batch on its way to a partition that is gone leaves no number of that partition unused', async () => {
  const { headers, accumulator, append } = setUp(2)
  for (let i = 0; i < 20; i++) append(`value ${i}`, `key ${i}`)
  const gone = takeAllOf(accumulator).filter(({ partition }) => partition === 1)
  expect(gone.length).toBeGreaterThan(0)
  const count = gone.reduce((sum, { recordCount }) => sum + recordCount, 0)
  accumulator.repartition(1, gone)
  await marksOf(takeAllOf(accumulator))
  expect(headers.counts.filter(({ stamped }) => stamped > 0)).toEqual([
    { instance: headers.instance, partition: 0, stamped: 20 },
  ])
  expect(count).toBeLessThan(20)
})

test('a batch of an earlier process that was not audited gets marks, and keeps its values', async () => {
  const { memory, headers, accumulator } = setUp(2)
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
  expect(await marksOf(taken)).toEqual([{ instance: headers.instance, sequence: 0 }])
  expect(headers.counts).toEqual([{ instance: headers.instance, partition: 0, stamped: 1 }])
})

test('a dead letter that moves to another partition keeps the headers that say why it is one', async () => {
  const memory = new BufferMemory(totalBytes)
  const headers = new DeadLetterHeaders()
  const buffers = new BufferPool(1 << 20)
  const accumulator = new Accumulator({
    config: producerConfig({ lingerMs: 1_000 }),
    memory,
    buffers,
    headers,
    onReady: () => {},
  })
  accumulator.repartition(4)
  expect(memory.reserve(10_000)).toBe(true)
  for (const reason of ['invalid_record', 'message_too_large', 'corrupt_message']) {
    headers.encoded = encodeHeaders([{ key: 'reason', value: Buffer.from(reason) }])
    accumulator.append(RecordBytes.of(Buffer.from('value'), Buffer.from(reason), 1), 1_000)
  }
  accumulator.repartition(1)
  const [batch] = takeAllOf(accumulator)
  const { records } = await decodeWithKafkajs(batch!.seal())
  expect(records.map((record) => [record.key?.toString(), record.headers.reason?.toString()])).toEqual(
    expect.arrayContaining([
      ['invalid_record', 'invalid_record'],
      ['message_too_large', 'message_too_large'],
      ['corrupt_message', 'corrupt_message'],
    ]),
  )
})

test("a record's own headers stay when its topic gets other partitions, audited or not", async () => {
  for (const audit of [new AuditHeaders(), null]) {
    const accumulator = new Accumulator({
      config: producerConfig({ lingerMs: 1_000 }),
      memory: new BufferMemory(totalBytes),
      buffers: new BufferPool(1 << 20),
      headers: audit,
      onReady: () => {},
    })
    accumulator.repartition(4)
    const tenants = ['a', 'b', null]
    for (const tenant of tenants) {
      const own = tenant === null ? null : encodeHeaders([{ key: 'tenant', value: Buffer.from(tenant) }])
      accumulator.append(
        RecordBytes.of(Buffer.from('value'), Buffer.from(`key ${tenant}`), 1).headed(own),
        1_000,
      )
    }
    accumulator.repartition(2)
    accumulator.repartition(1)
    const [batch] = takeAllOf(accumulator)
    const { records } = await decodeWithKafkajs(batch!.seal())
    const found = records.map(({ key, headers }) => [key?.toString(), headers['tenant']?.toString() ?? null])
    expect(new Map(found as [string, string | null][])).toEqual(
      new Map(tenants.map((tenant) => [`key ${tenant}`, tenant])),
    )
    for (const { headers } of records)
      expect(Object.keys(headers).filter((name) => name === auditHeaderKey)).toHaveLength(
        audit === null ? 0 : 1,
      )
    if (audit !== null)
      expect(await marksOf([batch!])).toEqual(
        [0, 1, 2].map((sequence) => ({ instance: audit.instance, sequence })),
      )
  }
})

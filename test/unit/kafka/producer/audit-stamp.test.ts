import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { auditHeaderKey, readAuditMark, type AuditMark } from '../../../../src/kafka/audit-header.ts'
import { Accumulator } from '../../../../src/kafka/producer/accumulator.ts'
import { AuditStamp } from '../../../../src/kafka/producer/audit-stamp.ts'
import { BufferPool } from '../../../../src/buffer-pool.ts'
import { BufferMemory } from '../../../../src/kafka/producer/buffer-memory.ts'
import { recordSizeUpperBound } from '../../../../src/kafka/producer/producer.ts'
import { decodeWithKafkajs } from '../../../support/kafkajs-decoder.ts'
import { producerConfig } from '../../../support/producer-fixture.ts'
import { useVirtualClock } from '../../../support/virtual-clock.ts'

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
  accumulator.partitionCount = partitionCount
  const append = (value: string, key: string | null): void => {
    const body = Buffer.from(value)
    const keyBuffer = key === null ? null : Buffer.from(key)
    const keyBytes = keyBuffer?.length ?? 0
    const sizeBytes = recordSizeUpperBound(keyBytes, body.length, stamp.headerBytes)
    expect(memory.reserve(sizeBytes)).toBe(true)
    accumulator.append(body, 0, body.length, keyBuffer, 0, keyBytes, 1_700_000_000_000, sizeBytes)
  }
  return { memory, stamp, accumulator, append }
}

/** The marks of all records of a partition in order, as kafkajs reads them. */
async function marksIn(accumulator: Accumulator, partition: number): Promise<AuditMark[]> {
  const marks: AuditMark[] = []
  for (const batch of accumulator.queues[partition]!.takeAll()) {
    if (batch.state === 'open') batch.close()
    const { records } = await decodeWithKafkajs(batch.seal())
    marks.push(...records.map(({ headers }) => readAuditMark(headers[auditHeaderKey]!)!))
  }
  return marks
}

test('each partition counts from 0 without a gap, over full batches and the moves of the sticky partition', async () => {
  const { stamp, accumulator, append } = setUp(3)
  for (let i = 0; i < 200; i++) append(`value ${i}`.padEnd(i % 90), i % 3 === 0 ? `key-${i % 7}` : null)
  let total = 0
  for (const partition of [0, 1, 2]) {
    const marks = await marksIn(accumulator, partition)
    expect(marks).toEqual(marks.map((_, sequence) => ({ instance: stamp.instance, sequence })))
    expect(stamp.counts[partition]).toEqual({ instance: stamp.instance, partition, stamped: marks.length })
    expect(marks.length).toBeGreaterThan(20)
    total += marks.length
  }
  expect(total).toBe(200)
})

test('a partition that got no record is counted with none, also where it stands before one that got some', () => {
  const stamp = new AuditStamp()
  stamp.advance(2)
  const { instance } = stamp
  expect([...stamp.counts]).toStrictEqual([
    { instance, partition: 0, stamped: 0 },
    { instance, partition: 1, stamped: 0 },
    { instance, partition: 2, stamped: 1 },
  ])
})

test('two stamps never share an instance', () => {
  expect(new AuditStamp().instance).not.toBe(new AuditStamp().instance)
})

test.each([0, 1, 100])(
  'the room that is reserved for a record of %d bytes holds its header too',
  (length) => {
    const { memory, accumulator, append } = setUp(1)
    append('x'.repeat(length), null)
    const [batch] = accumulator.takeAll()
    batch!.close()
    expect(batch!.sizeBytes).toBeLessThanOrEqual(totalBytes - memory.availableBytes)
  },
)

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { decodeEvents } from '../../../../src/events/decode.ts'
import { EventBatch } from '../../../../src/events/event-batch.ts'
import { compileEventSchema } from '../../../../src/events/event-schema.ts'
import { reservationBytes } from '../../../../src/routes/ingest/admit.ts'
import { AwaitedAppend, type EventOutcome, type Outcomes } from '../../../../src/routes/ingest/append.ts'
import type { Settlement } from '../../../../src/kafka/producer/producer.ts'
import { FakeBatch, FakeProducer } from '../../../support/fake-producer.ts'
import { fakeLimits } from '../../../support/edge.ts'

function batchOf(lines: string): EventBatch {
  const options = { schema: compileEventSchema('any'), limits: fakeLimits, maxRecordBytes: 1000 }
  const batch = new EventBatch(Buffer.from(lines), options)
  decodeEvents(batch.body, 'ndjson', batch)
  return batch
}

function start(
  lines: string,
  producer = new FakeProducer(),
): { producer: FakeProducer; results: (EventOutcome[] | null)[] } {
  const batch = batchOf(lines)
  producer.reserve(reservationBytes(batch, 0))
  const results: (EventOutcome[] | null)[] = []
  const done = (outcomes: Outcomes | null): number =>
    results.push(outcomes === null ? null : outcomes.slice(0, outcomes.count))
  new AwaitedAppend(producer, batch, { waitMs: 5000, done, appender: producer }).append()
  return { producer, results }
}

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

describe('an awaited append', () => {
  test('tells the offset of each event by its place in the batch', () => {
    const producer = new FakeProducer()
    producer.batch.recordCount = 10
    const { results } = start('1\nbad\n2', producer)
    expect(producer.batch.listeners, 'one subscription for both').toBe(1)
    expect(producer.batch.isAwaited).toBe(true)
    producer.batch.settle({ outcome: 'confirmed', baseOffset: 9_007_199_254_740_993n })
    expect(results).toEqual([
      [
        {
          index: 0,
          outcome: 'confirmed',
          reason: null,
          topic: 'metrics-realtime',
          partition: 0,
          offset: '9007199254741003',
        },
        {
          index: 2,
          outcome: 'confirmed',
          reason: null,
          topic: 'metrics-realtime',
          partition: 0,
          offset: '9007199254741004',
        },
      ],
    ])
  })

  test('waits for every batch that has events of the request', () => {
    const producer = new FakeProducer()
    const first = producer.batch
    const second = new FakeBatch(3)
    const append = producer.append.bind(producer)
    producer.append = (...parameters) => {
      const taken = append(...parameters)
      producer.batch = second
      return taken
    }
    const { results } = start('1\n2\n3', producer)
    second.settle({ outcome: 'dropped', reason: 'expired' })
    expect(results).toEqual([])
    first.settle({ outcome: 'sent' })
    expect(
      results[0]?.map(({ index, outcome, reason, partition, offset }) => [
        index,
        outcome,
        reason,
        partition,
        offset,
      ]),
    ).toEqual([
      [0, 'sent', null, 0, null],
      [1, 'dropped', 'expired', 3, null],
      [2, 'dropped', 'expired', 3, null],
    ])
  })

  test('tells nothing when the time runs out, and nothing a second time after it', () => {
    const { producer, results } = start('1')
    vi.advanceTimersByTime(4999)
    expect(results).toEqual([])
    vi.advanceTimersByTime(1)
    expect(results).toEqual([null])
    producer.batch.settle()
    expect(results).toEqual([null])
  })

  test('leaves no timer behind when the outcome is known', () => {
    const { producer } = start('1')
    producer.batch.settle()
    expect(vi.getTimerCount()).toBe(0)
  })

  test('tells each event by the part of a split batch that has it, and judges no part without an event of the request', () => {
    const producer = new FakeProducer()
    const tell: ((settlement: Settlement) => void)[] = []
    producer.batch.onSettled = (listener) => void tell.push(listener)
    producer.batch.recordCount = 4
    const batch = batchOf('1\n2\n3')
    producer.reserve(reservationBytes(batch, 0))
    const results: (Outcomes | null)[] = []
    const done = (outcomes: Outcomes | null): number => results.push(outcomes)
    new AwaitedAppend(producer, batch, { waitMs: 5000, done, appender: producer }).append()
    const part = { partition: 0, reason: null, baseOffset: null } as const
    tell[0]!({ ...part, outcome: 'confirmed', baseOffset: 20n, firstPlace: 5, recordCount: 2 })
    tell[0]!({ ...part, outcome: 'dropped', reason: 'expired', firstPlace: 0, recordCount: 4 })
    expect(results).toEqual([])
    tell[0]!({ ...part, outcome: 'confirmed', baseOffset: 10n, firstPlace: 4, recordCount: 1 })
    expect(tell).toHaveLength(1)
    expect(results).toHaveLength(1)
    const outcomes = results[0]!
    expect(outcomes.isDelivered).toBe(true)
    expect(outcomes.slice(0, 3).map(({ index, offset }) => [index, offset])).toEqual([
      [0, '10'],
      [1, '20'],
      [2, '21'],
    ])
    expect(outcomes.slice(1, 2)).toEqual(outcomes.slice(0, 3).slice(1, 2))
  })
})

import { beforeEach, describe, expect, test } from 'vitest'
import { LinkIsolation, type SetApart } from '../../../../src/kafka/network/link-isolation.ts'

const broker = 'kafka-1:9092'
const minute = 60_000
let told: SetApart[]
let isolation: LinkIsolation

beforeEach(() => {
  told = []
  isolation = new LinkIsolation((event) => told.push(event))
})

function isApart(topic: string, nowMs: number): boolean {
  return isolation.apartUntilMs(topic, nowMs) > 0
}

describe('a topic that is refused after the shared connection ended', () => {
  test('is set apart for a minute, by name, and no other topic is', () => {
    isolation.cut(broker, ['good', 'poison'], true, 0)
    isolation.refused('poison', 'INVALID_RECORD', 10)
    expect(told).toEqual([
      { why: 'refused', broker, topics: ['poison'], kafkaError: 'INVALID_RECORD', forMs: minute },
    ])
    expect([isApart('poison', 11), isApart('good', 11), isApart('poison', 10 + minute)]).toEqual([
      true,
      false,
      false,
    ])
  })

  test('is set apart for twice as long each time, up to ten minutes, and for a minute again after ten good minutes', () => {
    let nowMs = 0
    const minutes: number[] = []
    for (let i = 0; i < 6; i++) {
      isolation.cut(broker, ['poison'], true, nowMs)
      isolation.refused('poison', 'INVALID_RECORD', nowMs)
      minutes.push(told.at(-1)!.forMs / minute)
      nowMs = isolation.apartUntilMs('poison', nowMs)
    }
    expect(minutes).toEqual([1, 2, 4, 8, 10, 10])
    nowMs += 10 * minute
    isolation.cut(broker, ['poison'], true, nowMs)
    isolation.refused('poison', 'INVALID_RECORD', nowMs)
    expect(told.at(-1)!.forMs).toBe(minute)
  })

  test('is not to blame if it had not been written to, or if that was long ago, or if the broker was away', () => {
    isolation.refused('never', 'INVALID_RECORD', 0)
    isolation.cut(broker, ['written'], true, 0)
    isolation.refused('other', 'INVALID_RECORD', 1)
    isolation.refused('written', 'INVALID_RECORD', minute + 1)
    isolation.cut(broker, ['written'], true, 2 * minute)
    isolation.unreachable(broker)
    isolation.refused('written', 'INVALID_RECORD', 2 * minute + 1)
    expect(told).toEqual([])
  })
})

describe('a connection that ends twice within a minute without a word', () => {
  test('sets each topic apart that was written to both times', () => {
    isolation.cut(broker, ['a', 'b', 'poison'], true, 0)
    isolation.cut(broker, ['b', 'poison', 'c'], true, 1_000)
    expect(told).toEqual([{ why: 'cut', broker, topics: ['b', 'poison'], kafkaError: null, forMs: minute }])
  })

  test('tells of the one that ends its own connection too, once; the others come back', () => {
    isolation.cut(broker, ['good', 'poison'], true, 0)
    isolation.cut(broker, ['good', 'poison'], true, 1_000)
    isolation.cut(broker, ['poison'], false, 2_000)
    isolation.cut(broker, ['poison'], false, 3_000)
    expect(told.slice(1)).toEqual([
      { why: 'cut', broker, topics: ['poison'], kafkaError: null, forMs: 2 * minute },
    ])
    expect([isApart('good', 62_000), isApart('poison', 62_000)]).toEqual([false, true])
  })

  test.each([
    ['more than a minute lies between', () => {}, 2 * minute],
    ['the broker could not be reached in between', () => isolation.unreachable(broker), 1_000],
    ['the first end has a cause', () => isolation.refused('poison', 'MESSAGE_TOO_LARGE', 10), 1_000],
  ])('sets nobody apart where %s', (_, between, secondMs) => {
    isolation.cut(broker, ['good', 'poison'], true, 0)
    between()
    const before = told.length
    isolation.cut(broker, ['good'], true, secondMs)
    expect(told).toHaveLength(before)
  })

  test('sets nobody apart where no topic was written to', () => {
    isolation.cut(broker, [], true, 0)
    isolation.cut(broker, ['good'], true, 1)
    expect(told).toEqual([])
  })
})

describe('a topic whose replicas did not have a write in time', () => {
  test('is set apart at once, told once, and for twice as long each time that it is too slow by itself', () => {
    isolation.heldUp(['slow', 'slow-too'], 'REQUEST_TIMED_OUT', 0)
    expect(told).toEqual([
      {
        why: 'held-up',
        broker: null,
        topics: ['slow', 'slow-too'],
        kafkaError: 'REQUEST_TIMED_OUT',
        forMs: 60_000,
      },
    ])
    expect([isApart('slow', 59_999), isApart('good', 1), isApart('slow', 60_001)]).toEqual([
      true,
      false,
      false,
    ])
    isolation.heldUp(['slow'], 'REQUEST_TIMED_OUT', 30_000)
    expect([isApart('slow', 149_999), isApart('slow', 150_001)]).toEqual([true, false])
    expect(told.length).toBe(1)
  })

  test('is set apart once, though several brokers and several of its streams tell of it', () => {
    isolation.heldUp(['slow', 'slow'], 'REQUEST_TIMED_OUT', 0)
    isolation.heldUp(['slow'], 'REQUEST_TIMED_OUT', 1)
    isolation.heldUp(['slow'], 'REQUEST_TIMED_OUT', 4_900)
    expect([isApart('slow', 59_999), isApart('slow', 60_000)]).toEqual([true, false])
    expect(told.map(({ topics, forMs }) => [topics, forMs])).toEqual([[['slow'], minute]])
  })

  test('does not lend its longer time to a topic that is told with it', () => {
    isolation.heldUp(['slow'], 'REQUEST_TIMED_OUT', 0)
    isolation.heldUp(['slow', 'new'], 'REQUEST_TIMED_OUT', 30_000)
    expect(told.at(-1)).toMatchObject({ topics: ['new'], forMs: minute })
  })

  test('is leaving for a twelfth of its time', () => {
    const isLeaving = (nowMs: number): boolean => isolation.isLeaving('slow', nowMs)
    expect(isLeaving(0)).toBe(false)
    isolation.heldUp(['slow'], 'REQUEST_TIMED_OUT', 0)
    expect([isLeaving(4_999), isLeaving(5_001)]).toEqual([true, false])
    isolation.heldUp(['slow'], 'REQUEST_TIMED_OUT', 6_000)
    expect([isLeaving(15_999), isLeaving(16_001)]).toEqual([true, false])
  })
})

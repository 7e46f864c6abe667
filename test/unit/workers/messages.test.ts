import { expect, test } from 'vitest'
import { shareOf } from '../../../src/workers/messages.ts'
import { load } from '../../support/config-fixture.ts'

test('the parts of buffer.memory are together no more than the whole', () => {
  const config = load({ WORKERS: '3' })
  for (const [index, { producer }] of shareOf(config, { createTopics: true }).streams.entries()) {
    const whole = config.streams[index]!.producer.bufferMemoryBytes
    expect(producer.bufferMemoryBytes * 3).toBeLessThanOrEqual(whole)
    expect(producer.bufferMemoryBytes * 3).toBeGreaterThan(whole - 3)
  }
})

test('each worker has its part of the rate and the buffer of invalid events', () => {
  const file = 'streams: { s: { delivery: at-most-once, invalidTopic: bad, invalidTopicMaxPerSecond: 10 } }'
  const config = load({ WORKERS: '4', CHUTE_CONFIG: 'chute.yaml' }, { 'chute.yaml': file })
  const { invalid } = shareOf(config, { createTopics: true }).streams[0]!
  expect([invalid!.maxPerSecond, invalid!.producer.bufferMemoryBytes]).toEqual([2, 2 << 20])
  expect(invalid!.topic).toBe('bad')
})

test('topics that were seen are not created by a worker that is started again', () => {
  const config = load({ WORKERS: '2' })
  expect(shareOf(config, { createTopics: true }).kafka.topics.create).toBe(true)
  expect(shareOf(config, { createTopics: false }).kafka.topics.create).toBe(false)
  const off = load({ WORKERS: '2', KAFKA_CREATE_TOPICS: 'false' })
  expect(shareOf(off, { createTopics: true }).kafka.topics.create).toBe(false)
})

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

test('topics that were seen are not created by a worker that is started again', () => {
  const config = load({ WORKERS: '2' })
  expect(shareOf(config, { createTopics: true }).kafka.topics.create).toBe(true)
  expect(shareOf(config, { createTopics: false }).kafka.topics.create).toBe(false)
  const off = load({ WORKERS: '2', KAFKA_CREATE_TOPICS: 'false' })
  expect(shareOf(off, { createTopics: true }).kafka.topics.create).toBe(false)
})

import { expect, test } from 'vitest'
import { LinkLog } from '../../../../../src/kafka/producer/at-most-once/link-log.ts'
import { LogKeeper } from '../../../../support/producer-fixture.ts'

test('a standstill of replicas is one line, until it has ended and another one begins', () => {
  const logs = new LogKeeper()
  const log = new LinkLog(logs, 'events', 3)
  for (const partitions of [[], [1], [1, 2], [], [2]]) log.standstill(partitions)
  expect(logs.lines.map(({ fields }) => fields)).toEqual([
    { topic: 'events', broker: 3, partitions: [1] },
    { topic: 'events', broker: 3, partitions: [2] },
  ])
})

test('a broker that does not tell its log end is named by its address, or by its id where it has none', () => {
  const logs = new LogKeeper()
  const log = new LinkLog(logs, 'events', 3)
  log.noLogEnd({ host: 'kafka-3', port: 9092 })
  log.noLogEnd(null)
  expect(logs.lines.map(({ fields }) => fields)).toMatchObject([
    { broker: 'kafka-3:9092', confirmation: 'acks_1' },
    { broker: 'broker 3', confirmation: 'acks_1' },
  ])
})

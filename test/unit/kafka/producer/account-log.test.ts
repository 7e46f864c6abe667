import { expect, test } from 'vitest'
import { accountOf, lossesOf } from '../../../../src/kafka/producer/account-log.ts'
import { droppedRecords, producerStats } from '../../../support/producer-stats.ts'

const realtime = producerStats({
  stream: 'realtime',
  accepted: 100,
  confirmed: 80,
  sent: 5,
  suspectedLost: 4,
  deadLettered: 0,
  dropped: droppedRecords({ expired: 3, shutdown: 2 }),
  buffered: 1,
  inFlight: 5,
})
const critical = producerStats({ stream: 'critical', accepted: 7, acked: 7 })

test('the account has one object a stream, with the reasons that dropped something', () => {
  expect(accountOf([realtime, critical])).toEqual({
    realtime: {
      accepted: 100,
      confirmed: 80,
      acked: 0,
      sent: 5,
      suspectedLost: 4,
      deadLettered: 0,
      dropped: { expired: 3, shutdown: 2 },
      buffered: 1,
      inFlight: 5,
    },
    critical: {
      accepted: 7,
      confirmed: 0,
      acked: 7,
      sent: 0,
      suspectedLost: 0,
      deadLettered: 0,
      dropped: {},
      buffered: 0,
      inFlight: 0,
    },
  })
})

test('the account has one object for each topic of a stream with several', () => {
  const of = (topic: string) => producerStats({ stream: 'web', topic, accepted: 1, confirmed: 1 })
  expect(Object.keys(accountOf([of('clicks'), critical, of('views')]))).toEqual([
    'web/clicks',
    'critical',
    'web/views',
  ])
})

test('losses are drops and suspects, over all streams', () => {
  expect(lossesOf([realtime, critical])).toBe(9)
})

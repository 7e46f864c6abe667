import { afterAll, beforeAll, test } from 'vitest'
import type { LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { atLeast, exactly } from './harness/bar.ts'
import { countBars, replyBars, unharmedBars } from './harness/bars.ts'
import { startKafkaBehindProxy, type BrokerProxy } from './harness/broker-proxy.ts'
import { byForm } from '../support/forms.ts'
import { limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'
import { fewDevices, liveThrough } from './harness/live-through.ts'
import { figuresOf } from './harness/report.ts'

let kafka: LocalKafka
let proxy: BrokerProxy
beforeAll(async () => {
  ;({ kafka, proxy } = await startKafkaBehindProxy())
})
afterAll(async () => {
  proxy.stop()
  await kafka.stop()
})

/** What Kafka takes on each connection, and ten times as much for the realtime stream. */
const takenBytesPerSecond = byForm({ short: 50_000, full: 500_000 })
const eventBytes = 200
const eventsPerRequest = 100
const floodPerSecond = (10 * takenBytesPerSecond) / (eventBytes * eventsPerRequest)

test('a flood on realtime does not touch critical', { timeout: limitMs() }, async () => {
  const flood = { devices: 20, requestsPerSecond: 1, eventsPerRequest, eventBytes }
  const report = await liveThrough({
    name: 'realtime flooded with ten times of what Kafka takes',
    kafka,
    async inflict(gateways) {
      proxy.bytesPerSecond = takenBytesPerSecond
      for (const gateway of gateways) gateway.load('realtime').requestsPerSecond = floodPerSecond
      await gateways[0].load('realtime').untilRefused()
    },
    lastsMs: byForm({ short: 4_000, full: 15_000 }),
    async heal() {
      proxy.bytesPerSecond = null
    },
    subject: {
      streams: [
        { name: 'critical', delivery: 'at-least-once', load: fewDevices },
        {
          name: 'realtime',
          delivery: 'at-most-once',
          load: flood,
          producer: { 'buffer.memory': byForm({ short: 512 << 10, full: 8 << 20 }) },
        },
      ],
    },
  })
  const [critical, realtime] = report.streams as [
    (typeof report.streams)[number],
    (typeof report.streams)[number],
  ]
  judge(
    report.name,
    { ...figuresOf(report), 'realtime: accepted': realtime.accepted, 'realtime: refused': realtime.refused },
    [
      ...countBars(report),
      ...unharmedBars(critical),
      exactly('critical: refused', critical.refused, 0),
      atLeast('realtime: refused with 503 and Retry-After', realtime.refusedForNow, 1),
      exactly('realtime: refused in another way', realtime.refusedForGood, 0),
      // Of critical, the first stream.
      ...replyBars(report, 2),
    ],
  )
})

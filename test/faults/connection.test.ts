import { afterAll, beforeAll, test } from 'vitest'
import type { LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { atLeast, atMost } from './harness/bar.ts'
import { countBars } from './harness/bars.ts'
import { startKafkaBehindProxy, type BrokerProxy } from './harness/broker-proxy.ts'
import { byForm, isLong } from '../support/forms.ts'
import { form, limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'
import { liveThrough, usualStreams, type Fault } from './harness/live-through.ts'
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

const faults: Pick<Fault, 'name' | 'inflict' | 'heal'>[] = [
  {
    name: 'connections cut half-way through a request',
    async inflict() {
      proxy.cutsEveryMs = 300
    },
    async heal() {
      proxy.cutsEveryMs = null
    },
  },
  {
    name: 'responses lost',
    async inflict() {
      proxy.losesResponses = true
    },
    async heal() {
      proxy.losesResponses = false
    },
  },
  {
    name: 'responses delayed beyond the timeout',
    async inflict() {
      proxy.delayMs = form.requestTimeoutMs + 1_000
    },
    async heal() {
      proxy.delayMs = 0
    },
  },
]

/** The short form has the fault of which nothing can be seen on the connection. */
const shortFaults = faults.filter(({ name }) => name === 'responses lost')

test.each(isLong ? faults : shortFaults)(
  '$name: flagged, and not sent again',
  { timeout: limitMs() },
  async (fault) => {
    const producer = { 'request.timeout.ms': form.requestTimeoutMs }
    const report = await liveThrough({
      ...fault,
      kafka,
      lastsMs: byForm({ short: 4_000, full: 15_000 }),
      subject: { streams: usualStreams.map((stream) => ({ ...stream, producer })) },
    })
    const { flagged } = report.streams[0]!
    judge(report.name, figuresOf(report), [
      ...countBars(report),
      atLeast('flagged', flagged, 1),
      atMost('milliseconds until all had an outcome', report.settledMs, 30_000),
    ])
  },
)

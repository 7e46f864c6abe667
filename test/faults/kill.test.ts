import { afterAll, beforeAll, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { atMost, type Bar } from './harness/bar.ts'
import { countBars, flagBars, replyBars, resumeBars } from './harness/bars.ts'
import { byForm, isFull } from '../support/forms.ts'
import { limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'
import { liveThrough, usualStreams, type Fault } from './harness/live-through.ts'
import { figuresOf, type FaultReport } from './harness/report.ts'

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka()
})
afterAll(async () => await kafka.stop())

/** kill -9 and, some time later, a start on the same data. */
function killed(name: string, more: Partial<Fault> = {}): Fault {
  const node = kafka.nodes[0]!
  return {
    name,
    kafka,
    inflict: async () => await node.kill('SIGKILL'),
    lastsMs: byForm({ short: 3_500, full: 25_000 }),
    heal: async () => {
      node.start()
      await node.waitUntilReady()
    },
    ...more,
  }
}

function killBars(report: FaultReport): Bar[] {
  return [...countBars(report), ...flagBars(report), ...replyBars(report), ...resumeBars(report)]
}

const [realtime, critical] = usualStreams
const fullSpeed = {
  ...realtime!,
  name: 'full-speed',
  load: {
    devices: byForm({ short: 4, full: 32 }),
    requestsPerSecond: null,
    eventsPerRequest: 100,
    eventBytes: 200,
  },
}

/** The short form has both loads in one run, since a broker takes its time to come back. */
test('kill -9 and restart under a steady load', { timeout: limitMs() }, async () => {
  const streams = isFull ? usualStreams : [...usualStreams, fullSpeed]
  const report = await liveThrough(killed('kill -9 and restart, 1,500/s', { subject: { streams } }))
  const { lost, accepted } = report.streams[0]!
  // A share of what was accepted: the longer the run, the smaller. The short one is too short for it.
  const lostBars = isFull ? [atMost('lost, % of accepted', (100 * lost) / accepted, 0.1)] : []
  judge(report.name, figuresOf(report), [...killBars(report), ...lostBars])
})

test.runIf(isFull)('kill -9 and restart at full speed', { timeout: limitMs() }, async () => {
  const report = await liveThrough(
    killed('kill -9 and restart, full speed', {
      lastsMs: 10_000,
      subject: { streams: [fullSpeed, critical!] },
    }),
  )
  judge(report.name, figuresOf(report), killBars(report))
})

import { afterAll, beforeAll, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { atLeast, atMost, exactly } from './harness/bar.ts'
import { countBars, replyBars } from './harness/bars.ts'
import { byForm, isFull } from '../support/forms.ts'
import { form, limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'
import { liveThrough, usualStreams } from './harness/live-through.ts'
import { figuresOf } from './harness/report.ts'

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka()
})
afterAll(async () => await kafka.stop())

/** What the load fills in less than the time that the broker stands still. */
const bufferMemory = byForm({ short: 256 << 10, full: 4 << 20 })

test(
  'a broker stands still, the buffer fills, and memory stays where it is',
  { timeout: limitMs() },
  async () => {
    const node = kafka.nodes[0]!
    const [realtime, critical] = usualStreams
    const producer = {
      'buffer.memory': bufferMemory,
      ...(isFull ? {} : { 'request.timeout.ms': form.requestTimeoutMs }),
    }
    const report = await liveThrough({
      name: 'SIGSTOP, then SIGCONT',
      kafka,
      async inflict([stays]) {
        await node.kill('SIGSTOP')
        await stays.load('realtime').untilRefused()
      },
      lastsMs: byForm({ short: 5_000, full: 30_000 }),
      heal: async () => {
        await node.kill('SIGCONT')
        await node.waitUntilReady()
      },
      subject: { streams: [{ ...realtime!, producer }, critical!] },
    })
    const { rssBeforeBytes, rssPeakBytes } = report
    const grownBytes = rssBeforeBytes === null ? null : rssPeakBytes! - rssBeforeBytes
    const memoryBars =
      grownBytes === null
        ? []
        : [atMost('memory, MB above before', grownBytes / 1e6, (bufferMemory + (32 << 20)) / 1e6)]
    judge(report.name, figuresOf(report), [
      ...countBars(report),
      ...replyBars(report),
      ...memoryBars,
      atLeast('refused with 503 and Retry-After', report.streams[0]!.refusedForNow, 1),
      exactly('refused in another way', report.streams[0]!.refusedForGood, 0),
    ])
  },
)

import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { atLeast, atMost, exactly, type Bar } from './harness/bar.ts'
import { shutdownBars, unharmedBars } from './harness/bars.ts'
import { isFull } from '../support/forms.ts'
import { form, limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'
import { usualStreams } from './harness/live-through.ts'
import { auditFigures, streamReports, type StreamReport } from './harness/report.ts'
import { startSubject, type Ending, type Subject } from './harness/subject.ts'

// SIGTERM in the middle of each fault is in the file of that fault.

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka()
})
afterAll(async () => await kafka.stop())

async function loadedSubject(shutdownTimeoutMs: number): Promise<Subject> {
  const env = { SHUTDOWN_TIMEOUT_MS: String(shutdownTimeoutMs) }
  const subject = await startSubject({ brokers: kafka.brokers, streams: usualStreams, env })
  subject.startLoads()
  await pause(form.warmUpMs + form.calmMs)
  return subject
}

/** Reads back, and judges both what is lost and what was said of it. */
async function judgeEnding(
  name: string,
  subject: Subject,
  ending: Ending,
  bars: (streams: StreamReport[]) => Bar[],
): Promise<void> {
  await subject.stopLoads()
  const reports = await streamReports(subject, ending, kafka.brokers[0]!)
  const streams = reports.map(({ report }) => report)
  const { accepted, landed, lost, flagged, audit } = streams[0]!
  const { tookMs, exitCode } = ending
  const counts = { accepted, landed, lost, flagged, ...auditFigures(audit) }
  judge(name, { ...counts, 'SIGTERM: exit after, ms': tookMs }, [
    ...shutdownBars({ exitCode, tookMs, streams }),
    exactly('sums open at a scrape', subject.scraper.open.length, 0),
    ...bars(streams),
  ])
}

test(
  'SIGTERM under load, with Kafka well: all that was accepted is confirmed',
  { timeout: limitMs() },
  async () => {
    const subject = await loadedSubject(form.shutdownTimeoutMs)
    const ending = await subject.end()
    await judgeEnding('SIGTERM with Kafka well', subject, ending, (streams) => [
      ...streams.flatMap(unharmedBars),
      exactly('exit code', ending.exitCode ?? -1, 0),
    ])
  },
)

test(
  'a second SIGTERM, with Kafka standing still: the end at once, and what is lost',
  { timeout: limitMs() },
  async () => {
    const subject = await loadedSubject(60_000)
    const { gateway } = subject
    await kafka.nodes[0]!.kill('SIGSTOP')
    await pause(form.calmMs)
    const ending = subject.end()
    await gateway.logged('draining')
    const secondAtMs = performance.now()
    gateway.signal('SIGTERM')
    const { exitCode, account } = await ending
    const tookMs = performance.now() - secondAtMs
    await kafka.nodes[0]!.kill('SIGCONT')
    await kafka.nodes[0]!.waitUntilReady()
    const { lost } = gateway.lines.at(-1) as { readonly lost?: number }
    await judgeEnding(
      'second SIGTERM with Kafka standing still',
      subject,
      { exitCode, account, tookMs },
      (streams) => [
        exactly('exit code', exitCode ?? -1, 1),
        atMost('milliseconds to exit after the second signal', tookMs, isFull ? 500 : 10_000),
        atLeast('flagged', streams[0]!.flagged, 1),
        exactly(
          'lost by the last line − flagged',
          (lost ?? -1) - streams.reduce((sum, { flagged }) => sum + flagged, 0),
          0,
        ),
      ],
    )
  },
)

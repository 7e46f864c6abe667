import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { freePorts } from '../support/free-ports.ts'
import { endOffsets } from '../support/independent-reader.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'
import { atMost, exactly } from './harness/bar.ts'
import { byForm, isFull, isLong } from '../support/forms.ts'
import { limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'

test.runIf(isLong)(
  'no Kafka at the start, and a name that does not resolve: live, not ready, then ready by itself',
  { timeout: limitMs() },
  async () => {
    const [port] = await freePorts(1)
    const brokers = `no-such-host.invalid:9092,127.0.0.1:${port}`
    const [gateway, impatient] = await Promise.all([serve(brokers), serve(brokers)])

    // One is told to go before it ever saw Kafka.
    expect(await impatient.ready()).toBe(false)
    const signalledAtMs = performance.now()
    impatient.gateway.signal('SIGTERM')
    const exitCode = await impatient.gateway.ended()
    const exitMs = performance.now() - signalledAtMs

    const startedAtMs = performance.now()
    let asked = 0
    while (performance.now() - startedAtMs < byForm({ short: 1_000, full: 60_000 })) {
      expect(await gateway.live()).toBe(true)
      expect(await gateway.ready()).toBe(false)
      const refusal = await gateway.post(asked++)
      expect(refusal.status).toBe(503)
      expect(Number(refusal.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
      expect(await refusal.json()).toMatchObject({ code: 'stream_unavailable' })
      await pause(200)
    }

    const kafka = await startKafka({ port: port! })
    onTestFinished(async () => await kafka.stop())
    const answeredAtMs = performance.now()
    await gateway.gateway.ready()
    const readyMs = performance.now() - answeredAtMs
    for (let number = 0; number < 100; number++) expect((await gateway.post(number)).status).toBe(202)
    gateway.gateway.signal('SIGTERM')
    expect(await gateway.gateway.ended()).toBe(0)
    const ends = await endOffsets(kafka.brokers[0]!, 'late')
    const landed = [...ends.values()].reduce((sum, end) => sum + end, 0)
    judge(
      'no Kafka at the start',
      {
        refused: asked,
        accepted: 100,
        landed,
        lost: 100 - landed,
        'ready after the broker answered, ms': readyMs,
        'SIGTERM: exit after, ms': exitMs,
      },
      [
        exactly('landed', landed, 100),
        exactly('SIGTERM: exit code', exitCode ?? -1, 0),
        atMost('SIGTERM: milliseconds to exit', exitMs, isFull ? 2_000 : 20_000),
        ...(isFull ? [atMost('ready after the broker answered, ms', readyMs, 5_000)] : []),
      ],
    )
  },
)

/** A gateway with one stream, whose topic it creates itself. */
async function serve(brokers: string): Promise<LateGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-start-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'chute.json')
  writeFileSync(file, JSON.stringify({ streams: { late: { topic: 'late', delivery: 'at-most-once' } } }))
  const gateway = await serveGateway({ KAFKA_BROKERS: brokers, CHUTE_CONFIG: file })
  onTestFinished(() => gateway.signal('SIGKILL'))
  const isOk = async (path: string): Promise<boolean> => (await fetch(`${gateway.url}${path}`)).ok
  return {
    gateway,
    live: async () => await isOk('/livez'),
    ready: async () => await isOk('/readyz'),
    post: async (value) =>
      await fetch(`${gateway.url}/v1/streams/late`, {
        method: 'POST',
        body: JSON.stringify({ name: 'late', value }),
      }),
  }
}

interface LateGateway {
  readonly gateway: ServedGateway
  live(): Promise<boolean>
  ready(): Promise<boolean>
  post(value: number): Promise<Response>
}

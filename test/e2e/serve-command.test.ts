import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { isLong } from '../support/forms.ts'
import { endOffsets } from '../support/independent-reader.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

const body = Array.from({ length: 500 }, (_, value) => `{"name":"a","value":${value}}\n`).join('')

/** A gateway with one at-most-once stream, `s`, and a topic of the test's own. */
async function serveStream(broker: string, env: NodeJS.ProcessEnv = {}): Promise<[ServedGateway, string]> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-serve-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const topic = `serve-${randomUUID()}`
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-most-once } }\n`)
  const gateway = await serveGateway({
    KAFKA_BROKERS: broker,
    KAFKA_CREATE_TOPICS: 'true',
    CHUTE_CONFIG: file,
    ...env,
  })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return [gateway, topic]
}

async function send({ url }: ServedGateway): Promise<void> {
  const reply = await fetch(`${url}/v1/streams/s`, { method: 'POST', body })
  expect(reply.status).toBe(202)
}

test('SIGTERM right after a 202 loses nothing, and the last line of the log says so', async () => {
  const broker = inject('kafkaBroker')
  const [gateway, topic] = await serveStream(broker)
  await send(gateway)
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
  expect(gateway.lines.at(-1)).toMatchObject({
    level: 'info',
    account: {
      s: { accepted: 500, confirmed: 500, suspectedLost: 0, dropped: {}, buffered: 0, inFlight: 0 },
    },
  })
  const ends = await endOffsets(broker, topic)
  expect([...ends.values()].reduce((sum, end) => sum + end, 0)).toBe(500)
})

test.runIf(isLong)('a second SIGTERM ends at once and says what is lost', async () => {
  const kafka = await startKafka({})
  onTestFinished(async () => await kafka.stop())
  const [gateway] = await serveStream(kafka.brokers[0]!, { SHUTDOWN_TIMEOUT_MS: '50000' })
  await kafka.nodes[0]!.kill('SIGSTOP')
  await send(gateway)
  gateway.signal('SIGTERM')
  await gateway.logged('draining')
  const beforeMs = performance.now()
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(1)
  expect(performance.now() - beforeMs).toBeLessThan(5_000)
  await kafka.nodes[0]!.kill('SIGCONT')
  const last = gateway.lines.at(-1) as {
    readonly account: { s: { suspectedLost: number; dropped: Record<string, number> } }
  }
  expect(last).toMatchObject({
    level: 'error',
    lost: 500,
    msg: expect.stringContaining('second signal'),
    account: { s: { accepted: 500, confirmed: 0, buffered: 0, inFlight: 0 } },
  })
  const { suspectedLost, dropped } = last.account.s
  expect(suspectedLost + (dropped['shutdown'] ?? 0)).toBe(500)
})

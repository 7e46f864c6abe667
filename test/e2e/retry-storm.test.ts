import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test, vi } from 'vitest'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'
import { isLong } from '../support/forms.ts'

const broker = inject('kafkaBroker')

// Three starts of a gateway, and as many storms, on a machine that does other things.
vi.setConfig({ testTimeout: 240_000 })

/** A gateway in a process of its own, on a folder that outlives it; `restart` kills it without a warning. */
async function start(
  topic: string,
): Promise<{ gateway: ServedGateway; restart: () => Promise<ServedGateway> }> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-storm-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: exactly-once } }\n`)
  let gateway: ServedGateway
  const serve = async (): Promise<ServedGateway> => {
    gateway = await serveGateway({
      KAFKA_BROKERS: broker,
      CHUTE_CONFIG: file,
      CHUTE_DATA_DIR: join(folder, 'data'),
      CHUTE_DATA_DIR_EPHEMERAL: 'true',
    })
    await gateway.ready()
    return gateway
  }
  gateway = await serve()
  onTestFinished(() => gateway.signal('SIGKILL'))
  return {
    gateway,
    async restart() {
      gateway.signal('SIGKILL')
      await gateway.ended()
      return await serve()
    },
  }
}

async function send(
  { url }: ServedGateway,
  body: string,
  headers: Record<string, string>,
): Promise<Response> {
  for (;;) {
    const reply = await fetch(`${url}/v1/streams/s`, { method: 'POST', headers, body })
    // The same request is still being accepted: a client that retries comes again.
    if (reply.status !== 409) return reply
    await reply.arrayBuffer()
  }
}

test('each request sent 3 times with its key, the gateway killed in between: one record each', async () => {
  const topic = `storm-${randomUUID()}`
  await createTopic(broker, topic, { partitions: 3 })
  const { gateway, restart } = await start(topic)
  const requests = Array.from({ length: 100 }, (_, value) => ({
    body: JSON.stringify({ name: 'kill', value, source: `s${value % 7}` }),
    headers: { 'content-type': 'application/json', 'idempotency-key': `"${randomUUID()}"` },
  }))
  const storm = async (to: ServedGateway): Promise<(string | null)[]> =>
    await Promise.all(
      requests.map(async ({ body, headers }) => {
        const reply = await send(to, body, headers)
        expect(reply.status).toBe(202)
        expect(await reply.json()).toMatchObject({ accepted: 1, rejected: 0 })
        return reply.headers.get('idempotency-replayed')
      }),
    )
  // Twice at once, as clients do that time out early, and once more after the crash.
  const [first, second] = await Promise.all([storm(gateway), storm(gateway)])
  expect([...first, ...second].filter((replayed) => replayed === 'true')).toHaveLength(requests.length)
  // What is on its way to Kafka when the process is killed may come twice: that is not what clients' retries do.
  await settled(gateway)
  const after = await restart()
  expect((await storm(after)).every((replayed) => replayed === 'true')).toBe(true)
  await settled(after)
  const values = (await readTopic(broker, topic)).map(({ value }) => value.toString())
  expect(values.toSorted()).toEqual(requests.map(({ body }) => body).toSorted())
})

test.runIf(isLong)(
  'events with ids, sent again in other requests, the gateway killed in between: one record each',
  async () => {
    const topic = `storm-${randomUUID()}`
    await createTopic(broker, topic, { partitions: 3 })
    const { gateway, restart } = await start(topic)
    const events = Array.from({ length: 300 }, (_, value) =>
      JSON.stringify({ name: 'a', value, id: `id ${value}` }),
    )
    const headers = { 'content-type': 'application/x-ndjson' }
    const sendAll = async (to: ServedGateway, size: number): Promise<number> => {
      let duplicates = 0
      for (let from = 0; from < events.length; from += size) {
        const reply = await send(to, events.slice(from, from + size).join('\n'), headers)
        expect(reply.status).toBe(202)
        const body = (await reply.json()) as { accepted: number; duplicates?: number }
        expect(body.accepted).toBe(Math.min(size, events.length - from))
        duplicates += body.duplicates ?? 0
      }
      return duplicates
    }
    expect(await sendAll(gateway, 30)).toBe(0)
    expect(await sendAll(gateway, 70)).toBe(events.length)
    await settled(gateway)
    const after = await restart()
    expect(await sendAll(after, 45)).toBe(events.length)
    await settled(after)
    const values = (await readTopic(broker, topic)).map(({ value }) => value.toString())
    expect(values.toSorted()).toEqual(events.toSorted())
    const metrics = await (await fetch(`${after.url}/metrics`)).text()
    expect(metrics).toMatch(/chute_events_total\{result="accepted",transport="http"\} 300\n/)
    expect(metrics).toMatch(/chute_events_duplicate_total\{transport="http"\} 300\n/)
    expect(metrics).toMatch(/chute_dedupe_entries\{stream="s"\} 300\n/)
  },
)

/** Waits until every accepted record has its outcome. */
async function settled({ url }: ServedGateway): Promise<void> {
  for (;;) {
    const metrics = await (await fetch(`${url}/metrics`)).text()
    const pending = [...metrics.matchAll(/^chute_records_pending\{[^}]*\} (\d+)$/gm)]
    if (pending.length > 0 && pending.every(([, count]) => count === '0')) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

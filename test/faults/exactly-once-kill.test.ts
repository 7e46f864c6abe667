import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { totalsOf } from '../../src/kafka/audit/audit-report.ts'
import { TopicAudit } from '../../src/kafka/audit/topic-audit.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { DurableSetup, scrape, untilDrained } from '../support/durable-gateway.ts'
import { seededRandom } from '../support/fault-run.ts'
import { byForm, isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { seed } from '../support/seed.ts'
import type { ServedGateway } from '../support/served-gateway.ts'

/* An exactly-once stream, and a gateway that is killed with clients that send again by key. */

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka({ nodes: brokers })
})
afterAll(async () => await kafka.stop())

/** The short form has one broker: what is killed is the gateway. */
const brokers = isLong ? 3 : 1
const kills = byForm({ short: 2, ci: 5, full: 100 })
const clients = 12
const random = seededRandom(seed)
const between = (from: number, to: number) => from + random() * (to - from)

test(
  `${kills} times kill -9 of the gateway, clients that send again by key: each record is there once, and the audit agrees`,
  { timeout: 120_000 + kills * 30_000 },
  async () => {
    const [broker] = kafka.brokers
    const [port] = await freePorts(1)
    const setup = new DurableSetup({
      broker: kafka.brokers.join(','),
      name: `once-${randomUUID()}`,
      stream: { delivery: 'exactly-once', audit: true, headers: { request: 'header:x-request', at: 'time' } },
      env: { PORT: String(port) },
    })
    await createTopic(broker!, setup.critical, { partitions: 6, replicationFactor: brokers })
    const accepted: string[] = []
    const isOver = { now: false }
    const url = `http://127.0.0.1:${port}/v1/streams/critical`
    const sending = Array.from({ length: clients }, async (_, client) => {
      for (let n = 0; !isOver.now; n++) accepted.push(...(await sendUntilAccepted(url, client, n)))
    })
    let [unsure, recovered] = [0, 0]
    const told = async (gateway: ServedGateway): Promise<void> => {
      const sums = await scrape(gateway)
      unsure += sums.get('chute_records_possibly_repeated_total')!
      recovered += sums.get('chute_records_recovered_total')!
    }
    for (let kill = 0; kill < kills; kill++) {
      const gateway = await setup.start()
      // Some are killed in the midst of what they send again.
      await pause(between(0, kill % 2 === 0 ? 1_000 : 250))
      await told(gateway)
      gateway.signal('SIGKILL')
      await gateway.ended()
    }
    const gateway = await setup.start()
    await gateway.ready()
    await pause(500)
    isOver.now = true
    await Promise.all(sending)
    await untilDrained(gateway)
    await told(gateway)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)

    const records = await readTopic(broker!, setup.critical)
    const ids = records.map(({ value }) => (JSON.parse(value.toString()) as { id: string }).id)
    const there = new Set(ids)
    // Each record has the headers of its own request, also in a batch that was made again.
    const alien = records.filter(
      ({ headers }, nth) =>
        !ids[nth]!.startsWith(`${String(headers['request'])}-`) || headers['at'] === undefined,
    )
    const audit = new TopicAudit(setup.critical, new Map())
    for (const record of records) audit.take(record)
    const { lost, duplicated, reordered, unmarked } = totalsOf(audit.findings)
    const found = {
      kills,
      accepted: accepted.length,
      recovered,
      lost: accepted.filter((id) => !there.has(id)).length,
      twice: ids.length - there.size,
      unsure,
      alien: alien.length,
      audit: { lost, duplicated, reordered, unmarked },
    }
    process.stderr.write(`exactly once over kill -9 of the gateway: ${JSON.stringify(found)}\n`)
    expect(found).toMatchObject({
      lost: 0,
      twice: 0,
      unsure: 0,
      alien: 0,
      audit: { lost: 0, duplicated: 0, reordered: 0, unmarked: 0 },
    })
    expect(recovered).toBeGreaterThan(0)
  },
)

/** One request, with the same key until it is answered with 202. @returns the ids of its events. */
async function sendUntilAccepted(url: string, client: number, n: number): Promise<string[]> {
  const ids = Array.from({ length: 1 + (n % 4) }, (_, nth) => `${client}-${n}-${nth}`)
  const source = n % 2 === 0 ? {} : { source: `device-${client}` }
  const body = JSON.stringify(ids.map((id) => ({ name: 'kill', value: n, id, ...source })))
  const headers = {
    'content-type': 'application/json',
    'idempotency-key': `"${client}-${n}"`,
    'x-request': `${client}-${n}`,
  }
  for (;;) {
    try {
      const reply = await fetch(url, { method: 'POST', headers, body })
      await reply.arrayBuffer()
      if (reply.status === 202) return ids
      if (reply.status !== 409 && reply.status !== 503 && reply.status !== 429)
        throw new TypeError(`answered ${reply.status}`)
    } catch (error) {
      if (error instanceof TypeError && error.message.startsWith('answered')) throw error
    }
    await pause(10)
  }
}

import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, inject, onTestFinished, test } from 'vitest'
import { DurableSetup, scrape, untilDrained } from '../support/durable-gateway.ts'
import { seededRandom } from '../support/fault-run.ts'
import { byForm, isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { hasRedis, startRedis } from '../support/redis.ts'
import { seed } from '../support/seed.ts'
import type { ServedGateway } from '../support/served-gateway.ts'

/* A durable stream and two workers, of which one is killed, and then the primary: the workers it leaves still have their folders. */

/** `CHUTE_ROUNDS` sets another number. */
const rounds = Number(process.env['CHUTE_ROUNDS'] ?? byForm({ short: 1, ci: 3, full: 20 }))
const clients = 12
const random = seededRandom(seed)
const between = (from: number, to: number) => from + random() * (to - from)

test
  .runIf(isLong)
  .each([
    { delivery: 'at-least-once', sendsAgain: false },
    ...(hasRedis ? [{ delivery: 'exactly-once', sendsAgain: true }] : []),
  ])(
  `${rounds} times kill -9 of a worker and of the primary, $delivery: every event with a durable 202 is in Kafka once`,
  { timeout: 120_000 + rounds * 60_000 },
  async ({ delivery, sendsAgain }) => {
    const broker = inject('kafkaBroker')
    const [port] = await freePorts(1)
    const redis = sendsAgain ? await startRedis() : null
    onTestFinished(async () => await redis?.kill())
    const setup = new DurableSetup({
      broker: broker,
      name: `workers-${randomUUID()}`,
      stream: { delivery },
      env: {
        PORT: String(port),
        WORKERS: '2',
        ...(redis !== null && { CHUTE_DEDUPE_REDIS_URL: redis.store.url }),
      },
    })
    await createTopic(broker, setup.critical, { partitions: 6, replicationFactor: 1 })
    const isOver = { now: false }
    const accepted: string[] = []
    let unanswered = 0
    const url = `http://127.0.0.1:${port}/v1/streams/critical`
    /** Sends one request, and with a key sends it until it is accepted. */
    const request = async (id: string, events: number): Promise<void> => {
      const ids = Array.from({ length: events }, (_, nth) => `${id}-${nth}`)
      for (;;) {
        const reply = await send(url, ids, sendsAgain ? id : null)
        if (reply === 'durable') return void accepted.push(...ids)
        if (reply === 'none') unanswered++
        await pause(reply === 'none' ? 10 : 50)
        if (!sendsAgain) return
      }
    }
    const sending = Array.from({ length: clients }, async (_, client) => {
      for (let n = 0; !isOver.now; n++) await request(`${client}-${n}`, 1 + (n % 4))
    })
    let [recovered, longestStartMs, longestEndMs] = [0, 0, 0]
    const start = async (): Promise<ServedGateway> => {
      const beganMs = performance.now()
      const gateway = await setup.start()
      longestStartMs = Math.max(longestStartMs, performance.now() - beganMs)
      return gateway
    }
    const measureEnd = async (gateway: ServedGateway): Promise<void> => {
      const killedMs = performance.now()
      await gateway.ended()
      longestEndMs = Math.max(longestEndMs, performance.now() - killedMs)
    }
    for (let round = 0; round < rounds; round++) {
      const gateway = await start()
      await pause(between(0, 1_500))
      const [first, second] = workersOf(gateway) as [number, number]
      process.kill(round % 2 === 0 ? first : second, 'SIGKILL')
      // Every other primary is killed while the worker is started again.
      if (round % 2 === 0) await gateway.logged('a worker takes requests again')
      await pause(between(0, 500))
      recovered += (await scrape(gateway).catch(() => null))?.get('chute_records_recovered_total') ?? 0
      gateway.signal('SIGKILL')
      // The next gateway does not wait for the end of the workers.
      void measureEnd(gateway)
    }
    const gateway = await start()
    await gateway.ready()
    await pause(500)
    isOver.now = true
    await Promise.all(sending)
    recovered += (await untilDrained(gateway)).get('chute_records_recovered_total')!
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)

    const records = await readTopic(broker, setup.critical)
    const there = new Set(records.map(({ value }) => (JSON.parse(value.toString()) as { id: string }).id))
    const found = {
      delivery,
      rounds,
      accepted: accepted.length,
      unanswered,
      recovered,
      longestStartMs: Math.round(longestStartMs),
      // Of the workers of a killed primary.
      longestEndMs: Math.round(longestEndMs),
      lost: accepted.filter((id) => !there.has(id)).length,
      twice: records.length - there.size,
    }
    process.stderr.write(`durable over kill -9 of a worker and of the primary: ${JSON.stringify(found)}\n`)
    expect(found).toMatchObject({ lost: 0, twice: 0 })
    expect(accepted.length).toBeGreaterThan(rounds * 100)
    expect(recovered).toBeGreaterThan(0)
  },
)

/** The process ids of the workers that the gateway started with. */
function workersOf({ lines }: ServedGateway): number[] {
  const start = lines.find(({ msg }) => String(msg).startsWith('listening on'))
  const workers = start?.['workers'] as { pid: number }[] | undefined
  return workers!.map(({ pid }) => pid)
}

/** Sends a request once. @returns whether the reply says `durable`; `none`: there was no reply. */
async function send(
  url: string,
  ids: readonly string[],
  key: string | null,
): Promise<'durable' | 'refused' | 'none'> {
  const body = JSON.stringify(ids.map((id) => ({ name: 'kill', value: 1, id })))
  const headers = {
    'content-type': 'application/json',
    ...(key !== null && { 'idempotency-key': `"${key}"` }),
  }
  try {
    const reply = await fetch(url, { method: 'POST', headers, body })
    await reply.arrayBuffer()
    const isDurable = reply.headers.get('chute-delivery')?.includes('durable') === true
    return reply.status === 202 && isDurable ? 'durable' : 'refused'
  } catch {
    return 'none'
  }
}

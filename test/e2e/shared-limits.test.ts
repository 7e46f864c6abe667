import { createHash, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import { freePorts } from '../support/free-ports.ts'
import { valueOf } from '../support/parse-exposition.ts'
import { hasRedis, startRedis, type TestRedis } from '../support/redis.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'
import { isLong } from '../support/forms.ts'

const event = '{"name":"a","value":1}'

async function serve(env: NodeJS.ProcessEnv, keys = ''): Promise<ServedGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-limits-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, `streams: { s: { topic: limits-${randomUUID()}, delivery: at-most-once } }\n${keys}`)
  const gateway = await serveGateway({
    KAFKA_BROKERS: inject('kafkaBroker'),
    CHUTE_CONFIG: file,
    ...env,
  })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return gateway
}

interface Reply {
  readonly status: number
  readonly ms: number
}

/** Sends one event over a kept connection. */
async function send({ url }: ServedGateway, agent: Agent, headers: object = {}): Promise<Reply> {
  const startedAtMs = performance.now()
  return await new Promise((resolve, reject) => {
    const sent = request(
      `${url}/v1/streams/s`,
      { method: 'POST', agent, headers: { 'content-type': 'application/json', ...headers } },
      (reply) => {
        reply.resume().once('end', () => {
          resolve({ status: reply.statusCode ?? 0, ms: performance.now() - startedAtMs })
        })
      },
    )
    sent.once('error', reject).end(event)
  })
}

function keptConnections(maxSockets: number): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets })
  onTestFinished(() => agent.destroy())
  return agent
}

describe.skipIf(!hasRedis)('gateways that count in one Redis', { timeout: 60_000 }, () => {
  /** No client reaches the limit of these gateways alone. */
  const limits = { RATE_LIMIT_MAX: '100000', RATE_LIMIT_WINDOW: '1h' }

  async function withRedis(env: NodeJS.ProcessEnv): Promise<{ redis: TestRedis; gateways: ServedGateway[] }> {
    const redis = await startRedis()
    onTestFinished(async () => {
      redis.signal('SIGCONT')
      await redis.kill()
    })
    const all = { ...env, RATE_LIMIT_REDIS_URL: redis.store.url }
    return { redis, gateways: await Promise.all([serve(all), serve(all)]) }
  }

  async function isUp(gateway: ServedGateway, up: boolean): Promise<void> {
    await gateway.reported((families) => valueOf(families, 'chute_rate_limit_store_up') === (up ? 1 : 0))
  }

  test('a client gets one limit of both, and its whole limit of neither', async () => {
    const { gateways } = await withRedis({ RATE_LIMIT_MAX: '20', RATE_LIMIT_WINDOW: '1h' })
    for (const gateway of gateways) await isUp(gateway, true)
    const agent = keptConnections(1)
    let taken = 0
    for (let n = 0; n < 60; n++) {
      const { status } = await send(gateways[n % 2]!, agent)
      if (status === 202) taken++
    }
    // A few more where this machine was too busy to hear Redis in time.
    expect(taken).toBeGreaterThanOrEqual(20)
    expect(taken).toBeLessThan(30)
  })

  test('a Redis that is stopped, killed and started again refuses nothing and holds up nothing', async () => {
    const { redis, gateways } = await withRedis(limits)
    const [gateway] = gateways
    await isUp(gateway!, true)
    const agent = keptConnections(4)
    const replies: Reply[] = []
    const over = new AbortController()
    const load = Array.from({ length: 4 }, async () => {
      while (!over.signal.aborted) replies.push(await send(gateway!, agent))
    })
    redis.signal('SIGSTOP')
    await isUp(gateway!, false)
    await gateway!.logged('the Redis of the limits is away')
    redis.signal('SIGCONT')
    await isUp(gateway!, true)
    await redis.kill()
    await isUp(gateway!, false)
    await redis.start()
    await isUp(gateway!, true)
    over.abort()
    await Promise.all(load)
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([202]))
    const slow = replies.filter(({ ms }) => ms > 500)
    // A request waits 50 ms for Redis at most; the rest is this machine's.
    expect(slow.length).toBeLessThanOrEqual(Math.ceil(replies.length / 100))
    const away = gateway!.lines.filter(({ msg }) => String(msg).startsWith('the Redis of the limits is away'))
    expect(away.length).toBeLessThanOrEqual(2)
  })

  test.runIf(isLong)(
    'a Redis that is not there at the start delays neither the start nor a request, and the limits hold',
    async () => {
      const [port] = await freePorts(1)
      const gateway = await serve({
        RATE_LIMIT_MAX: '5',
        RATE_LIMIT_WINDOW: '1h',
        RATE_LIMIT_REDIS_URL: `redis://127.0.0.1:${port}`,
      })
      await isUp(gateway, false)
      const agent = keptConnections(1)
      const statuses: number[] = []
      for (let n = 0; n < 7; n++) statuses.push((await send(gateway, agent)).status)
      expect(statuses).toEqual([202, 202, 202, 202, 202, 429, 429])
    },
  )
})

test.runIf(isLong)(
  'a key that floods at 20 times its limit harms no other key',
  { timeout: 60_000 },
  async () => {
    const key = (name: string, more = ''): string =>
      `  ${name}: { kind: secret, sha256: ${createHash('sha256').update(name).digest('hex')}, streams: [s]${more} }\n`
    // 20 times this is about what one client sends here.
    const keys = `keys:\n${key('flood', ', limits: { requests: 20, window: 200ms }')}${key('calm')}`
    const gateway = await serve({}, keys)
    const [floodAgent, calmAgent] = [keptConnections(16), keptConnections(1)]
    const calm = async (requests: number): Promise<Reply[]> => {
      const replies: Reply[] = []
      for (let n = 0; n < requests; n++)
        replies.push(await send(gateway, calmAgent, { 'x-chute-key': 'calm' }))
      return replies
    }
    await calm(300)
    const before = await calm(500)
    const over = new AbortController()
    const flooded: Reply[] = []
    const startedAtMs = performance.now()
    const flood = Array.from({ length: 16 }, async () => {
      while (!over.signal.aborted) {
        // 2,000 requests a second are 20 times what the key may send.
        const due = ((performance.now() - startedAtMs) * 2_000) / 1_000
        if (flooded.length < due) flooded.push(await send(gateway, floodAgent, { 'x-chute-key': 'flood' }))
        else await new Promise((resolve) => setTimeout(resolve, 1))
      }
    })
    const during = await calm(500)
    over.abort()
    await Promise.all(flood)
    const quantile = (replies: readonly Reply[], part: number): number =>
      replies.map(({ ms }) => ms).toSorted((a, b) => a - b)[Math.floor(replies.length * part)]!
    const said = (replies: readonly Reply[]): string =>
      `p50 ${quantile(replies, 0.5).toFixed(2)} ms, p99 ${quantile(replies, 0.99).toFixed(2)} ms`
    process.stderr.write(
      `flood: ${flooded.length} in ${Math.round(performance.now() - startedAtMs)} ms, ` +
        `${flooded.filter(({ status }) => status === 429).length} refused; calm: ${said(before)}; beside: ${said(during)}\n`,
    )
    expect(flooded.some(({ status }) => status === 429)).toBe(true)
    expect(new Set(during.map(({ status }) => status))).toEqual(new Set([202]))
    // The flood's client shares this process, and other tests share the machine: bench/door-bench.ts measures the p99.
    expect(quantile(during, 0.5)).toBeLessThan(Math.max(100, 10 * quantile(before, 0.5)))
  },
)

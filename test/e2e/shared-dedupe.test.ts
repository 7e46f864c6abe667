import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'
import { startRedisProxy } from '../support/redis-proxy.ts'
import { hasRedis, startRedis, type TestRedis } from '../support/redis.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

const broker = inject('kafkaBroker')

/** A stream `s` with de-duplication, and `plain` without, on topics of the test's own. */
async function makeTopics(): Promise<{ topic: string; streams: StreamConfig[] }> {
  const topic = `shared-${randomUUID()}`
  await Promise.all([topic, `${topic}-plain`].map(async (each) => await createTopic(broker, each)))
  const dedupe = { windowMs: 600_000, maxEntries: 1_000 }
  return {
    topic,
    streams: [
      { ...streamConfig(topic, 'at-least-once'), name: 's', dedupe },
      { ...streamConfig(`${topic}-plain`, 'at-most-once'), name: 'plain' },
    ],
  }
}

async function start(
  streams: readonly StreamConfig[],
  dedupeStore: TestRedis['store'],
): Promise<TestGateway> {
  const gateway = await startGatewayWith(testConfig({ brokers: [broker], streams, dedupeStore }))
  onTestFinished(async () => void (await gateway.stop()))
  return gateway
}

/** A gateway in a process of its own, with stream `s` on `topic`. */
async function serve(topic: string, env: NodeJS.ProcessEnv): Promise<ServedGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-shared-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-least-once } }\n`)
  const gateway = await serveGateway({ KAFKA_BROKERS: broker, CHUTE_CONFIG: file, ...env })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return gateway
}

interface Answer {
  readonly status: number
  readonly code: string | undefined
  readonly isReplay: boolean
}

async function send(url: string, key: string | null, value: number, stream = 's'): Promise<Answer> {
  const reply = await fetch(`${url}/v1/streams/${stream}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      // Each request over a connection of its own, so that with workers it meets any of them.
      connection: 'close',
      ...(key !== null && { 'idempotency-key': `"${key}"` }),
    },
    body: JSON.stringify({ name: 'kill', value }),
  })
  const { code } = (await reply.json()) as { code?: string }
  return { status: reply.status, code, isReplay: reply.headers.get('idempotency-replayed') === 'true' }
}

/** As a client that retries while the same request is under way, or the store is away. */
async function sendUntilAccepted(url: string, key: string, value: number): Promise<Answer> {
  for (;;) {
    const answer = await send(url, key, value)
    if (answer.status !== 409 && answer.status !== 503) return answer
    await pause(5)
  }
}

async function valuesOf(topic: string): Promise<number[]> {
  const records = await readTopic(broker, topic)
  return records.map(({ value }) => (JSON.parse(value.toString()) as { value: number }).value)
}

async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${name} `))
      ?.split(' ')
      .at(-1),
  )
}

describe.skipIf(!hasRedis)('gateways that share a Redis (needs redis-server)', () => {
  let redis: TestRedis
  beforeAll(async () => void (redis = await startRedis({ timeoutMs: 500 })))
  afterAll(async () => await redis.kill())

  test('the same key sent at once to two gateways, one of them with two workers: one record each', async () => {
    const { topic, streams } = await makeTopics()
    const env = { WORKERS: '2', CHUTE_DEDUPE_REDIS_URL: redis.store.url }
    const [one, two] = await Promise.all([start(streams, redis.store), serve(topic, env)])
    const values = Array.from({ length: 60 }, (_, value) => value)
    const answers = await Promise.all(
      values.flatMap((value) =>
        [one.url, two.url, two.url].map(async (url) => await sendUntilAccepted(url, `storm-${value}`, value)),
      ),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]))
    expect(answers.filter(({ isReplay }) => isReplay)).toHaveLength(2 * values.length)
    await one.stop()
    two.signal('SIGTERM')
    expect(await two.ended()).toBe(0)
    expect((await valuesOf(topic)).toSorted((a, b) => a - b)).toEqual(values)
  })

  test('a gateway that is killed with a claim: a retry elsewhere waits for the lease, then is one record', async () => {
    const { topic, streams } = await makeTopics()
    const proxy = await startRedisProxy(redis.port)
    onTestFinished(() => proxy.close())
    const doomed = await serve(topic, {
      CHUTE_DEDUPE_REDIS_URL: `redis://127.0.0.1:${proxy.port}`,
      CHUTE_DEDUPE_REDIS_LEASE_MS: '1000',
      CHUTE_DEDUPE_REDIS_TIMEOUT_MS: '60000',
    })
    const other = await start(streams, redis.store)
    proxy.holdAnswers()
    const unanswered = send(doomed.url, 'doomed', 1).catch(() => null)
    while ((await redis.ask('EXISTS chute:{s}:kdoomed')) !== ':1\r\n') await pause(2)
    expect(await send(other.url, 'doomed', 1)).toMatchObject({ status: 409, code: 'request_in_progress' })
    doomed.signal('SIGKILL')
    await doomed.ended()
    expect(await unanswered).toBeNull()
    expect(await sendUntilAccepted(other.url, 'doomed', 1)).toEqual({
      status: 202,
      code: undefined,
      isReplay: false,
    })
    await other.stop()
    expect(await valuesOf(topic)).toEqual([1])
  })

  test('Redis away at start, then there, stopped, and killed: keyed requests are 503 meanwhile, all else goes on', async () => {
    const { topic, streams } = await makeTopics()
    await redis.kill()
    const gateway = await start(streams, redis.store)
    const { url, log } = gateway
    const other = await start(streams, redis.store)
    const away = { status: 503, code: 'dedupe_unavailable' }
    const others = async (value: number): Promise<number[]> => [
      (await send(url, null, value)).status,
      (await send(url, 'ignored there', value, 'plain')).status,
    ]
    expect(await send(url, 'a', 1)).toMatchObject(away)
    expect(await others(10)).toEqual([202, 202])
    expect(await metric(url, 'chute_dedupe_store_up')).toBe(0)

    await redis.start()
    expect(await sendUntilAccepted(url, 'a', 1)).toMatchObject({ status: 202, isReplay: false })
    expect(await metric(url, 'chute_dedupe_store_up')).toBe(1)

    redis.signal('SIGSTOP')
    onTestFinished(() => redis.signal('SIGCONT'))
    expect(await send(url, 'a', 1)).toMatchObject(away)
    expect(await send(url, 'b', 2)).toMatchObject(away)
    expect(await others(20)).toEqual([202, 202])
    redis.signal('SIGCONT')
    expect(await sendUntilAccepted(url, 'b', 2)).toMatchObject({ status: 202, isReplay: false })
    // A claim that had no answer takes nothing away from what was kept.
    for (const each of [url, other.url])
      expect(await sendUntilAccepted(each, 'a', 1)).toMatchObject({ status: 202, isReplay: true })

    await redis.kill()
    while ((await metric(url, 'chute_dedupe_store_up')) !== 0) await pause(5)
    expect(await send(url, 'c', 3)).toMatchObject(away)
    expect(await others(30)).toEqual([202, 202])
    await redis.start()
    expect(await sendUntilAccepted(url, 'c', 3)).toMatchObject({ status: 202, isReplay: false })
    expect(
      await metric(url, 'chute_dedupe_store_failures_total{stream="s",operation="claim"}'),
    ).toBeGreaterThan(2)

    await gateway.stop()
    expect((await valuesOf(topic)).toSorted((a, b) => a - b)).toEqual([1, 2, 3, 10, 20, 30])
    expect((await valuesOf(`${topic}-plain`)).toSorted((a, b) => a - b)).toEqual([10, 20, 30])
    expect(log.filter(({ message }) => message.startsWith('Redis is away'))).not.toHaveLength(0)
    expect(log.filter(({ message }) => message === 'Redis is back')).not.toHaveLength(0)
  })
})

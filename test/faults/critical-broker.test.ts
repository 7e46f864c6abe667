import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { seededRandom } from '../support/fault-run.ts'
import { byForm, isLong } from '../support/forms.ts'
import { seed } from '../support/seed.ts'
import { createTopic, readTopic, testClient } from '../support/independent-reader.ts'
import { append, streamConfig } from '../support/producer-fixture.ts'
import { startProducer, startProducers, until } from '../support/real-producer.ts'

/*
 * An at-least-once stream in one process, with brokers that die. Counted by an independent reader: nothing lost, nothing
 * twice, nothing out of order. `CHUTE_FAULTS=full` does as many rounds as the bar asks for.
 */

interface Counts {
  readonly sent: number
  readonly lost: number
  readonly duplicates: number
  readonly reordered: number
}

/** Compares what was sent, `key:number`, with what a topic has. */
async function count(broker: string, topic: string, sent: readonly string[]): Promise<Counts> {
  const stored = (await readTopic(broker, topic)).map(({ value }) => value.toString())
  const last = new Map<string, number>()
  let reordered = 0
  for (const value of stored) {
    const [key = '', number = ''] = value.split(':')
    if (Number(number) < (last.get(key) ?? -1)) reordered++
    last.set(key, Number(number))
  }
  const distinct = new Set(stored)
  const lost = sent.filter((value) => !distinct.has(value)).length
  return { sent: sent.length, lost, duplicates: stored.length - distinct.size, reordered }
}

const nothingWrong = { lost: 0, duplicates: 0, reordered: 0 }

describe.runIf(isLong)('one broker', () => {
  let kafka: LocalKafka
  beforeAll(async () => {
    kafka = await startKafka()
  })
  afterAll(async () => await kafka.stop())

  const rounds = byForm({ short: 1, ci: 2, full: 20 })
  const random = seededRandom(seed)
  test(
    `kill -9 under load, ${rounds} rounds: lost 0, duplicates 0, reordered 0`,
    { timeout: 90_000 * rounds },
    async () => {
      const topic = `kill-${randomUUID()}`
      const [broker] = kafka.brokers as [string]
      const [node] = kafka.nodes as [LocalKafka['nodes'][number]]
      await createTopic(broker, topic, { partitions: 4 })
      const { producer, settled } = await startProducerOf([broker], topic)
      const sent: string[] = []
      const load = { isOn: true }
      const loading = (async (): Promise<void> => {
        while (load.isOn) {
          for (let i = 0; i < 20; i++) {
            const text = `${sent.length % 16}:${sent.length}`
            if (append(producer, text, String(sent.length % 16)) !== null) sent.push(text)
          }
          await pause(10)
        }
      })()
      for (let round = 0; round < rounds; round++) {
        const before = producer.stats.acked
        await until(() => producer.stats.acked > before + 500)
        await pause(random() * 200)
        await node.kill('SIGKILL')
        await pause(random() * 500)
        node.start()
        await node.waitUntilReady()
      }
      load.isOn = false
      await loading
      await settled()
      expect(await count(broker, topic, sent)).toEqual({ sent: sent.length, ...nothingWrong })
      expect(producer.stats).toMatchObject({ acked: sent.length, suspectedLost: 0, recordErrorTotal: 0 })
    },
  )
})

describe.runIf(isLong)('three brokers', () => {
  let kafka: LocalKafka
  beforeAll(async () => {
    kafka = await startKafka({ nodes: 3, properties: { 'replica.lag.time.max.ms': '2000' } })
  })
  afterAll(async () => await kafka.stop())

  /** One partition on nodes of which all have to have what is acknowledged. The first one leads. */
  async function createPair(topic: string, replicas = [1, 2]): Promise<void> {
    const admin = testClient(kafka.brokers[0]!).admin()
    await admin.connect()
    const replicaAssignment = [{ partition: 0, replicas }]
    const configEntries = [{ name: 'min.insync.replicas', value: String(replicas.length) }]
    await admin.createTopics({ topics: [{ topic, replicaAssignment, configEntries }], waitForLeaders: true })
    await admin.disconnect()
  }

  test(
    'NOT_ENOUGH_REPLICAS: with the follower stopped nothing is acknowledged, and all lands once when it is back',
    { timeout: 120_000 },
    async () => {
      const topic = `pair-${randomUUID()}`
      await createPair(topic)
      const { producer, transport, settled } = await startProducerOf(kafka.brokers, topic, 1_000)
      const sent: string[] = []
      const send = (): void => {
        const text = `0:${sent.length}`
        append(producer, text)
        sent.push(text)
      }
      send()
      await settled()
      await kafka.nodes[1]!.kill('SIGSTOP')
      const writes = transport.checksums.length
      for (let i = 0; i < 50; i++) {
        send()
        await pause(20)
      }
      // Once the follower is out of sync, the leader refuses each try at once.
      await until(() => transport.checksums.length > writes + 10)
      expect(producer.stats.acked).toBe(1)
      await kafka.nodes[1]!.kill('SIGCONT')
      await settled()
      expect(await count(kafka.brokers[0]!, topic, sent)).toEqual({ sent: 51, ...nothingWrong })
    },
  )

  test.each([
    // The leader may wait for two seconds. Then it answers with the name of the topic.
    ['shared', 10_000, [500, 2_500], true],
    ['shared', 1_000, [500, 1_500], true],
    ['own', 10_000, [0, 500], false],
  ] as const)(
    'a follower is stopped, and a stream beside it has replicas elsewhere (%s, request.timeout.ms %i)',
    { timeout: 120_000 },
    async (connection, requestTimeoutMs, [least, most], isSetApart) => {
      const [harmed, beside] = [`harmed-${randomUUID()}`, `beside-${randomUUID()}`]
      await createPair(harmed)
      await createPair(beside, [1, 3])
      const { producers, logs, settled } = await startProducers(
        kafka.brokers,
        [harmed, beside].map((topic) => ({
          ...streamConfig(topic, 'at-least-once', { requestTimeoutMs }),
          connection,
        })),
      )
      const sent: string[][] = [[], []]
      let longestMs = 0
      const send = (nth: number): void => {
        const text = `0:${sent[nth]!.length}`
        const atMs = performance.now()
        const batch = append(producers[nth]!, text)!
        if (nth === 1) batch.onSettled(() => (longestMs = Math.max(longestMs, performance.now() - atMs)))
        sent[nth]!.push(text)
      }
      for (const nth of [0, 1]) send(nth)
      await settled()
      longestMs = 0
      await kafka.nodes[1]!.kill('SIGSTOP')
      const untilMs = performance.now() + 8_000
      while (performance.now() < untilMs) {
        for (const nth of [0, 1]) send(nth)
        await pause(20)
      }
      await until(() => producers[1]!.stats.acked === sent[1]!.length)
      await kafka.nodes[1]!.kill('SIGCONT')
      await settled()
      for (const [nth, topic] of [harmed, beside].entries())
        expect(await count(kafka.brokers[0]!, topic, sent[nth]!)).toEqual({
          sent: sent[nth]!.length,
          ...nothingWrong,
        })
      expect(longestMs).toBeGreaterThan(least)
      expect(longestMs).toBeLessThan(most)
      expect(logs.lines.some(({ message }) => message.includes('replicas of these topics'))).toBe(isSetApart)
    },
  )

  test(
    'a leader that is killed: NOT_LEADER and a new one, lost 0, duplicates 0, reordered 0',
    { timeout: 120_000 },
    async () => {
      const topic = `leader-${randomUUID()}`
      await createTopic(kafka.brokers[0]!, topic, {
        partitions: 3,
        replicationFactor: 3,
        config: { 'min.insync.replicas': '2' },
      })
      const { producer, settled } = await startProducerOf(kafka.brokers, topic)
      const sent: string[] = []
      for (let i = 0; i < 300; i++) {
        for (let n = 0; n < 10; n++) {
          const text = `${sent.length % 9}:${sent.length}`
          append(producer, text, String(sent.length % 9))
          sent.push(text)
        }
        if (i === 100) await kafka.nodes[2]!.kill('SIGKILL')
        await pause(10)
      }
      await settled()
      kafka.nodes[2]!.start()
      await kafka.nodes[2]!.waitUntilReady()
      expect(await count(kafka.brokers[0]!, topic, sent)).toEqual({ sent: sent.length, ...nothingWrong })
    },
  )
})

async function startProducerOf(
  brokers: readonly string[],
  topic: string,
  requestTimeoutMs = 3_000,
): ReturnType<typeof startProducer> {
  return await startProducer(brokers, topic, { requestTimeoutMs })
}

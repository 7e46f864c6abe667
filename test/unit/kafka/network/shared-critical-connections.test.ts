import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ProducerConfig, StreamConfig } from '../../../../src/config/config.ts'
import type { StreamProducer } from '../../../../src/kafka/producer/stream-producer.ts'
import { ModelCluster } from '../../../support/model-broker.ts'
import { append, keyFor, ProducerFixture, streamConfig } from '../../../support/producer-fixture.ts'
import { apartLines, flow, openConnections, topicsOf, valueOf } from '../../../support/shared-streams.ts'
import { leaveHeapClock, pass, passUntil, useHeapClock } from '../../../support/virtual-clock.ts'

let cluster: ModelCluster
let fixture: ProducerFixture

beforeEach(() => useHeapClock())
afterEach(() => {
  fixture.stop()
  leaveHeapClock()
})

const requestTimeoutMs = 3_000
const settings = { lingerMs: 0, requestTimeoutMs }
const topics = ['events', 'a', 'b'] as const

const critical = (topic: string, overrides: Partial<ProducerConfig> = {}): StreamConfig =>
  streamConfig(topic, 'at-least-once', { ...settings, ...overrides })

async function startStreams(streams: readonly StreamConfig[]): Promise<readonly StreamProducer[]> {
  cluster = new ModelCluster([1])
  for (const { topic, deadLetterTopic } of streams) {
    cluster.createTopic(topic, 1)
    if (deadLetterTopic !== null) cluster.createTopic(deadLetterTopic, 1)
  }
  fixture = new ProducerFixture(cluster, streams)
  const { producers } = await fixture.start()
  await passUntil(() => producers.every(({ stats }) => stats.connected))
  for (const producer of producers) append(producer, valueOf('warm-up'))
  await passUntil(() => producers.every(({ stats }) => stats.acked + stats.confirmed === 1))
  await pass(1_000)
  cluster.requests.length = 0
  return producers
}

/** Three streams that share. What happens, happens to the first one. */
async function start(overrides: Partial<ProducerConfig> = {}): Promise<readonly StreamProducer[]> {
  return await startStreams(topics.map((topic) => critical(topic, overrides)))
}

/** Each record of a stream was acknowledged, and is in its topic once. */
async function expectAllOnce(producers: readonly StreamProducer[], withinMs = 10_000): Promise<void> {
  await passUntil(() => producers.every(({ stats }) => stats.buffered + stats.inFlight === 0), withinMs)
  for (const { stats } of producers) {
    const stored = cluster.stored(stats.topic).flat()
    expect(stats.acked).toBe(stats.accepted)
    expect(stored.length).toBe(stats.accepted)
    expect(new Set(stored.map(({ value }) => value)).size).toBe(stored.length)
  }
}

/** For how long records of a stream waited at most meanwhile: one record, and another when the first is acknowledged, and so on. */
async function longestWait(producer: StreamProducer, meanwhile: () => Promise<void>): Promise<number> {
  let longestMs = 0
  let atMs = 0
  let isOver = false
  const ask = (): void => {
    atMs = performance.now()
    append(producer, valueOf('asked'))!.onSettled(() => {
      longestMs = Math.max(longestMs, performance.now() - atMs)
      if (!isOver) ask()
    })
  }
  ask()
  await meanwhile()
  isOver = true
  return Math.max(longestMs, performance.now() - atMs)
}

describe('at-least-once streams that share', () => {
  test('have one connection to a broker, and one request a turn', async () => {
    const producers = await start()
    expect(openConnections(cluster)).toBe(1)
    for (const producer of producers) append(producer, valueOf('one'))
    await pass(20)
    expect(topicsOf(cluster, 'Produce')).toEqual(['a b events'])
    await expectAllOnce(producers)
  })

  test('never share with at-most-once streams, with dead letters, with another request.timeout.ms, or without idempotence', async () => {
    const shared = [critical('events'), critical('a')]
    const others = [
      streamConfig('realtime', 'at-most-once', { ...settings, confirmIntervalMs: 20 }),
      critical('patient', { requestTimeoutMs: 5_000 }),
      { ...critical('own'), connection: 'own' as const },
      critical('twice', { enableIdempotence: false }),
      critical('twice-too', { enableIdempotence: false }),
    ]
    await startStreams([...shared, ...others])
    expect(openConnections(cluster)).toBe(1 + others.length)
    fixture.stop()
    await startStreams(topics.map((topic) => ({ ...critical(topic), deadLetterTopic: `${topic}-dead` })))
    expect(openConnections(cluster)).toBe(2)
  })

  test('write one request at a time, with all that came while the broker had not answered', async () => {
    cluster = new ModelCluster([1])
    const [events, a, b] = await start()
    cluster.responseMs = 50
    append(events!, valueOf('first'))
    for (const producer of [a!, b!, a!, events!]) {
      await pass(5)
      append(producer, valueOf('meanwhile'))
    }
    // None of it is on its way: it could still be dropped at a shutdown, and no broker would have it.
    expect([events!, a!, b!].map(({ stats }) => [stats.buffered, stats.inFlight])).toEqual([
      [1, 1],
      [2, 0],
      [1, 0],
    ])
    await pass(150)
    expect(topicsOf(cluster, 'Produce')).toEqual(['events', 'a b events'])
    await expectAllOnce([events!, a!, b!])
  })

  test('write what a journal has noted late together with the others, when the broker has answered', async () => {
    const [events, a, b] = await start()
    const notes: (() => void)[] = []
    const journal = {
      note: (_scope: number, _batches: unknown, done: () => void) => notes.push(done),
      left() {},
    }
    events!.keepJournal(journal)
    append(events!, valueOf('noted'))
    await pass(20)
    expect(notes.length).toBe(1)
    cluster.responseMs = 50
    append(a!, valueOf('first'))
    await pass(10)
    for (const done of notes.splice(0)) done()
    append(b!, valueOf('meanwhile'))
    await pass(20)
    expect(topicsOf(cluster, 'Produce')).toEqual(['a'])
    await pass(150)
    expect(topicsOf(cluster, 'Produce')).toEqual(['a', 'b events'])
    await expectAllOnce([events!, a!, b!])
  })

  test('change to the next connection together when the session ends', async () => {
    const producers = await start()
    await flow(producers, 50)
    const before = [...cluster.connections].filter(({ isOpen }) => isOpen)
    cluster.expireSessions()
    await flow(producers, 2_500)
    await expectAllOnce(producers)
    await pass(2_000)
    expect(openConnections(cluster)).toBe(1)
    expect([...cluster.connections].filter(({ isOpen }) => isOpen)).not.toEqual(before)
    expect(producers.map(({ stats }) => stats.recordErrorTotal)).toEqual([0, 0, 0])
  })

  test('go on when one of them leaves, with or without records on their way', async () => {
    const producers = await start()
    await flow(producers, 50)
    const [gone, ...rest] = producers
    const closing = gone!.close(performance.now() + 1_000)
    await flow(rest, 50)
    expect(await closing).toBe(true)
    await expectAllOnce(producers)
    expect(openConnections(cluster)).toBe(1)
    append(rest[0]!, valueOf('given up'))
    await pass(1)
    rest[0]!.abort()
    await flow(rest.slice(1), 500)
    await expectAllOnce(rest.slice(1))
  })

  test('all wait while the broker throttles one of them', async () => {
    const producers = await start()
    cluster.throttleTimeMs = 500
    append(producers[0]!, valueOf('throttled'))
    await pass(20)
    cluster.throttleTimeMs = 0
    for (const producer of producers) append(producer, valueOf('waits'))
    await pass(400)
    expect(producers.map(({ stats }) => stats.buffered)).toEqual([1, 1, 1])
    await pass(200)
    await expectAllOnce(producers, 1)
  })

  test('each write, though one has more than a request takes', async () => {
    const producers = await start({ batchSizeBytes: 1_000, maxRequestSizeBytes: 4_000 })
    cluster.addPartitions('events', 19)
    await pass(6_000)
    for (let nth = 0; nth < 200; nth++) append(producers[0]!, valueOf('x'.repeat(400)), `key-${nth}`)
    const waitedMs = await longestWait(producers[1]!, async () => await pass(100))
    expect(waitedMs).toBeLessThan(30)
    await expectAllOnce(producers)
  })
})

describe('what happens to one topic of a shared request', () => {
  test.each<[string, (is: boolean) => void]>([
    ['deleted', (is) => (is ? cluster.deleteTopic('events') : cluster.createTopic('events', 1))],
    ['forbidden', (is) => (cluster.topics.get('events')!.isForbidden = is)],
    ['not led here', (is) => (cluster.topics.get('events')!.partitions[0]!.leader = is ? 2 : 1)],
    ['asking for smaller batches', (is) => (cluster.topics.get('events')!.maxMessageBytes = is ? 90 : 1_000)],
  ])(
    'the topic is %s: the others are acknowledged, once, without a wait, and on the same connection',
    async (_, harm) => {
      const producers = await start()
      const others = producers.slice(1)
      await flow(producers, 100)
      const before = [...cluster.connections].filter(({ isOpen }) => isOpen)
      harm(true)
      append(producers[0]!, valueOf('harmed'))
      const waitedMs = await longestWait(others[0]!, async () => await flow(others, 2_000))
      expect(waitedMs).toBeLessThan(20)
      harm(false)
      await flow(others, 1_000)
      await expectAllOnce(others)
      expect([...cluster.connections].filter(({ isOpen }) => isOpen)).toEqual(before)
      expect(apartLines(fixture)).toEqual([])
    },
  )

  test('a record that is refused for good costs the others nothing', async () => {
    const producers = await start()
    cluster.topics.get('events')!.partitions[0]!.refuses = (value) => value.startsWith('bad')
    await flow(producers, 500, (ms) => (ms % 50 === 0 ? 'bad' : 'good'))
    await pass(500)
    expect(producers[0]!.stats.dropped.invalid_record).toBe(10)
    await expectAllOnce(producers.slice(1))
    expect(openConnections(cluster)).toBe(1)
  })
})

describe('a topic whose replicas are slow', () => {
  test('makes the others wait for its replicas, and no longer', async () => {
    const producers = await start()
    cluster.topics.get('events')!.replicasMs = 400
    append(producers[0]!, valueOf('slow'))
    const waitedMs = await longestWait(producers[1]!, async () => await flow(producers, 2_000))
    // What is on its way, and then the own request.
    expect(waitedMs).toBeGreaterThan(400)
    expect(waitedMs).toBeLessThan(2 * 400 + 50)
    await expectAllOnce(producers)
  })

  test('for more than two seconds is set apart by name, and the others wait for it once, on a connection that stays', async () => {
    const producers = await start()
    cluster.addPartitions('events', 3)
    await pass(6_000)
    const others = producers.slice(1)
    const slow = cluster.topics.get('events')!
    slow.replicasMs = 60_000
    for (const key of ['a', 'b', 'c', 'd', 'e', 'f']) append(producers[0]!, valueOf('slow'), key)
    await pass(5)
    const firstMs = await longestWait(others[0]!, async () => await flow(others, 3_000))
    expect(firstMs).toBeGreaterThan(1_900)
    expect(firstMs).toBeLessThan(2_100)
    expect(apartLines(fixture)).toEqual([
      {
        level: 'warn',
        message: expect.stringContaining('replicas of these topics') as string,
        fields: { topics: ['events'], broker: null, kafkaError: 'REQUEST_TIMED_OUT', forSeconds: 60 },
      },
    ])
    const laterMs = await longestWait(others[0]!, async () => await flow(others, 4_000))
    expect(laterMs).toBeLessThan(20)
    await expectAllOnce(others)
    slow.replicasMs = 0
    await expectAllOnce(producers)
    // Each time that it was slow has doubled the time. Then it comes back.
    await pass(650_000)
    expect(openConnections(cluster)).toBe(1)
    expect(producers.map(({ stats }) => stats.recordErrorTotal)).toEqual([0, 0, 0])
  })
})

describe('a topic that is set apart since its replicas are slow', () => {
  test('leaves at once', async () => {
    const producers = await start()
    cluster.topics.get('events')!.replicasMs = 60_000
    append(producers[0]!, valueOf('slow'))
    await passUntil(() => apartLines(fixture).length === 1, 2_100)
    // `retry.backoff.ms`, and the time to connect.
    await pass(150)
    expect(openConnections(cluster)).toBe(2)
  })

  test('goes on over the shared connection if the broker takes no other one', async () => {
    const producers = await start()
    vi.spyOn(cluster, 'connect').mockRejectedValue(new Error('max.connections.per.ip'))
    const slow = cluster.topics.get('events')!
    slow.replicasMs = 60_000
    append(producers[0]!, valueOf('slow'))
    await passUntil(() => apartLines(fixture).length === 1, 2_100)
    slow.replicasMs = 0
    await flow(producers, 4_000)
    expect(producers[0]!.stats.buffered).toBeGreaterThan(0)
    await flow(producers, 4_000)
    await expectAllOnce(producers, 20)
    expect(openConnections(cluster)).toBe(1)
  })

  test('holds up the others for two seconds, and no longer, though the note of another batch comes late', async () => {
    const producers = await start()
    const others = producers.slice(1)
    cluster.addPartitions('events', 1)
    await pass(6_000)
    const late: (() => void)[] = []
    producers[0]!.keepJournal({
      left() {},
      note: (_scope: number, [batch]: readonly { partition: number }[], done: () => void) =>
        void (batch!.partition === 1 ? late.push(done) : done()),
    })
    cluster.topics.get('events')!.replicasMs = 60_000
    append(producers[0]!, valueOf('late'), keyFor(1, 2))
    await pass(20)
    append(producers[0]!, valueOf('slow'), keyFor(0, 2))
    await pass(2_500)
    expect([apartLines(fixture).length, late.length]).toEqual([1, 1])
    const waitedMs = await longestWait(others[0]!, async () => {
      late[0]!()
      await flow(others, 5_000)
    })
    expect(waitedMs).toBeGreaterThan(1_900)
    expect(waitedMs).toBeLessThan(2_100)
    cluster.topics.get('events')!.replicasMs = 0
    await expectAllOnce(producers)
  })
})

test('the time that a shared connection does not give to replicas costs no try', async () => {
  const producers = await start({ retries: 1 })
  cluster.topics.get('events')!.replicasMs = 2_500
  append(producers[0]!, valueOf('slow'))
  await pass(1_000)
  // The one try that counts. Then its replicas are quick enough for a connection of its own.
  cluster.topics.get('events')!.partitions[0]!.refusals.push(6)
  await expectAllOnce(producers, 20_000)
})

describe('a shared connection that ends', () => {
  test('twice before the answer: no stream loses a try by it', async () => {
    const producers = await start({ retries: 1 })
    for (const producer of producers) append(producer, valueOf('tried'))
    for (const tries of [1, 2]) {
      await passUntil(() => topicsOf(cluster, 'Produce').length === tries)
      for (const connection of cluster.nodes.get(1)!.connections) connection.cut(2, true)
    }
    await expectAllOnce(producers)
    expect(topicsOf(cluster, 'Produce').length).toBeGreaterThan(2)
  })

  test('because an answer is lost: each stream writes its batch again, and nothing is there twice', async () => {
    const producers = await start()
    await flow(producers, 100)
    cluster.responsesToLose = 1
    await flow(producers, 5_000)
    await expectAllOnce(producers)
    expect(openConnections(cluster)).toBe(1)
  })

  test('again and again, in the midst of requests: nothing is lost, and nothing is there twice', async () => {
    const producers = await start()
    for (let nth = 0; nth < 20; nth++) {
      await flow(producers, 20 + nth)
      cluster.cutConnections(1)
      await flow(producers, 300)
    }
    await expectAllOnce(producers)
  })

  test('since the broker reads no request that is so large: the topic at fault leaves, and the others come back', async () => {
    const producers = await start({ lingerMs: 20 })
    const [events, ...others] = producers
    await flow(producers, 100)
    cluster.maxRequestBytes = 4_000
    append(events!, valueOf('too large').padEnd(5_000))
    await flow(others, 10_000)
    expect(apartLines(fixture)[0]).toMatchObject({
      fields: { topics: expect.arrayContaining(['events']) as string[] },
    })
    const waitedMs = await longestWait(others[0]!, async () => await flow(others, 60_000))
    expect(waitedMs).toBeLessThan(60)
    // The others share again, and the topic at fault is still apart.
    await pass(5_000)
    expect(openConnections(cluster)).toBe(1)
    await expectAllOnce(others)
    expect(events!.stats.inFlight).toBe(1)
    cluster.maxRequestBytes = Infinity
    await expectAllOnce(producers)
  })

  test('since the broker reads no request as large as that of all: each goes alone', async () => {
    const producers = await start({ lingerMs: 20, batchSizeBytes: 800 })
    cluster.maxRequestBytes = 1_000
    for (let nth = 0; nth < 200; nth++) {
      for (const producer of producers) append(producer, valueOf('').padEnd(700))
      await pass(20)
    }
    await expectAllOnce(producers, 30_000)
    expect(apartLines(fixture).length).toBeGreaterThan(0)
  })
})

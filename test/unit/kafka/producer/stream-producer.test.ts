import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { murmur2, partitionForHash } from '../../../../src/kafka/protocol/murmur2.ts'
import { sumOfOutcomes } from '../../../support/producer-stats.ts'
import { ModelCluster } from '../../../support/model-broker.ts'
import { append, ProducerFixture, streamConfig } from '../../../support/producer-fixture.ts'
import { pass, passUntil, useVirtualClock } from '../../../support/virtual-clock.ts'

let fixture: ProducerFixture | null = null

beforeEach(() => useVirtualClock())
afterEach(() => {
  fixture?.stop()
  fixture = null
  vi.useRealTimers()
})

function fixtureOf(cluster: ModelCluster, ...streams: Parameters<typeof streamConfig>[]): ProducerFixture {
  fixture = new ProducerFixture(
    cluster,
    streams.map((stream) => streamConfig(...stream)),
  )
  return fixture
}

function clusterOf(nodes: number, partitions: number): ModelCluster {
  const cluster = new ModelCluster(Array.from({ length: nodes }, (_, index) => index + 1))
  cluster.createTopic('events', partitions)
  return cluster
}

/** The second node only tells of the topic. */
function leadByFirst(cluster: ModelCluster): void {
  for (const partition of cluster.topics.get('events')!.partitions)
    partition.leader = partition.publishedLeader = 1
}

describe('admission', () => {
  test('nothing can be appended before Kafka was reached', async () => {
    const cluster = clusterOf(1, 2)
    cluster.kill(1)
    const { producer, metadata } = fixtureOf(cluster, ['events', 'at-most-once'])
    metadata.start()
    await pass(3_000)
    expect(producer.admission).toBe('not_known_yet')
    cluster.restart(1)
    await passUntil(() => producer.admission === 'open', 2_000)
    expect(producer.stats.topicKnown).toBe(true)
  })

  test('a deleted topic refuses records, and takes them again when it is back', async () => {
    const cluster = clusterOf(1, 2)
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    cluster.deleteTopic('events')
    await passUntil(() => producer.admission === 'unknown_topic', 6_000)
    expect(producer.stats.available).toBe(false)
    cluster.createTopic('events', 2)
    await passUntil(() => producer.admission === 'open', 6_000)
    expect(producer.stats.available).toBe(true)
  })

  test('a topic that the credentials may not see refuses records', async () => {
    const cluster = clusterOf(1, 1)
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    cluster.topics.get('events')!.isForbidden = true
    await passUntil(() => producer.admission === 'not_authorized', 6_000)
  })

  test('a producer that closes refuses records', async () => {
    const { producer } = await fixtureOf(clusterOf(1, 1), ['events', 'at-most-once']).start()
    const closing = producer.close(performance.now() + 1_000)
    expect(producer.admission).toBe('closing')
    expect(producer.stats.available).toBe(true)
    await pass(50)
    expect(await closing).toBe(true)
  })
})

describe('maxRecordBytes', () => {
  test('follows the max.message.bytes of the topic', async () => {
    const cluster = clusterOf(1, 1)
    cluster.topics.get('events')!.maxMessageBytes = 5_000
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    expect(producer.maxRecordBytes).toBe(4_904)
  })

  test('leaves room for the header of an audited stream, to the byte', async () => {
    const cluster = clusterOf(1, 1)
    cluster.topics.get('events')!.maxMessageBytes = 5_000
    const stream = { ...streamConfig('events', 'at-most-once'), audit: true }
    fixture = await new ProducerFixture(cluster, [stream]).start()
    const { producer } = fixture
    expect(producer.maxRecordBytes).toBe(4_904 - producer.headerBytes)
    expect(append(producer, 'x'.repeat(producer.maxRecordBytes))).not.toBeNull()
    await pass(50)
    expect(producer.stats).toMatchObject({
      confirmed: 1,
      audit: [{ partition: 0, stamped: 1, instance: expect.stringMatching(/^[0-9a-f]{12}$/) }],
    })
  })
})

describe('needsKey', () => {
  test.each(['compact', 'compact,delete', 'delete,compact'])('of a topic with %s', async (policy) => {
    const cluster = clusterOf(1, 1)
    cluster.topics.get('events')!.cleanupPolicy = policy
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    expect(producer.needsKey).toBe(true)
  })

  test('follows a cleanup.policy that is changed while the gateway runs, and is kept while it cannot be read', async () => {
    const cluster = clusterOf(1, 1)
    const topic = cluster.topics.get('events')!
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    expect(producer.needsKey).toBe(false)
    topic.cleanupPolicy = 'compact'
    await passUntil(() => producer.needsKey, 40_000)
    topic.cleanupPolicy = ''
    await pass(40_000)
    expect(producer.needsKey).toBe(true)
    topic.cleanupPolicy = 'delete'
    await passUntil(() => !producer.needsKey, 40_000)
  })
})

describe('partitions', () => {
  test('records go to an added partition once metadata tells of it', async () => {
    const cluster = clusterOf(1, 1)
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    cluster.addPartitions('events', 3)
    await pass(5_500)
    for (let i = 0; i < 200; i++) append(producer, `${i}`, `key-${i}`)
    await pass(300)
    expect(cluster.stored('events').map((log) => log.length > 0)).toEqual([true, true, true, true])
    expect(producer.stats.confirmed).toBe(200)
  })

  describe.each(['at-most-once', 'at-least-once'] as const)('a topic made anew (%s)', (delivery) => {
    /** What is stored in the topic that is there now. */
    const storedNow = (cluster: ModelCluster) =>
      cluster.topics
        .get('events')!
        .partitions.flatMap(({ log }, partition) =>
          log.map(({ key, value }) => ({ key, id: Number(value), partition })),
        )

    test.each([
      [4, 1],
      [4, 2],
      [2, 5],
      [3, 3],
    ])(
      'with other partitions (%d, then %d): what waits is sent to where its key belongs',
      async (before, after) => {
        const cluster = clusterOf(2, before)
        leadByFirst(cluster)
        const { producer, metadata } = await fixtureOf(cluster, ['events', delivery]).start()
        cluster.kill(1)
        for (let i = 0; i < 100; i++) append(producer, `${i}`, i % 10 === 0 ? null : `key-${i % 17}`)
        await pass(50)
        cluster.deleteTopic('events')
        cluster.createTopic('events', after)
        leadByFirst(cluster)
        metadata.refresh()
        await passUntil(() => metadata.topic('events').leaders.length === after || after === before, 6_000)
        await pass(200)
        cluster.restart(1)
        await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 5_000)
        const { stats } = producer
        expect(stats.confirmed + stats.acked).toBe(100)
        const stored = storedNow(cluster)
        expect(new Set(stored.map(({ id }) => id)).size).toBe(100)
        for (const { key, partition } of stored)
          if (key !== null) expect(partition).toBe(partitionForHash(murmur2(Buffer.from(key)), after))
        for (let nth = 0; nth < 17; nth++) {
          const ids = stored.filter(({ key }) => key === `key-${nth}`).map(({ id }) => id)
          expect(ids).toEqual(ids.toSorted((a, b) => a - b))
        }
      },
    )

    test.each([true, false])(
      'under load, at once (ids are told: %s): new records use the new count',
      async (tellsIds) => {
        const cluster = clusterOf(1, 4)
        if (!tellsIds) cluster.nodes.get(1)!.served.set(3, { min: 0, max: 8 })
        const { producer } = await fixtureOf(cluster, ['events', delivery]).start()
        let id = 0
        const flow = async (ms: number): Promise<void> => {
          for (let passed = 0; passed < ms; passed += 5) {
            if (producer.admission === 'open') append(producer, `${id}`, `key-${id++ % 17}`)
            await pass(5)
          }
        }
        await flow(500)
        cluster.deleteTopic('events')
        // Without ids, nobody can know before the topic was missed.
        await flow(tellsIds ? 20 : 300)
        const firstOfNew = id
        cluster.createTopic('events', 2)
        await flow(tellsIds ? 1_000 : 6_000)
        const late = id
        await flow(500)
        await pass(1_000)
        const found = new Set(storedNow(cluster).map((record) => record.id))
        const missing = Array.from({ length: id }, (_, n) => n).filter((n) => n >= late && !found.has(n))
        expect(missing).toEqual([])
        expect(producer.stats.dropped.unknown_topic).toBe(0)
        expect(late).toBeGreaterThan(firstOfNew)
        if (delivery === 'at-least-once')
          for (let n = firstOfNew; n < id; n++) expect(found.has(n)).toBe(true)
      },
    )
  })

  test('what a broker that lags tells of the former topic is left out', async () => {
    const cluster = clusterOf(1, 4)
    const { producer, metadata } = await fixtureOf(cluster, ['events', 'at-least-once']).start()
    const former = cluster.topics.get('events')!
    cluster.deleteTopic('events')
    const current = cluster.createTopic('events', 2)
    metadata.refresh()
    await passUntil(() => metadata.topic('events').leaders.length === 2)
    cluster.topics.set('events', former)
    metadata.refresh()
    await pass(500)
    expect(metadata.topic('events')).toMatchObject({ leaders: [1, 1], incarnation: 2 })
    cluster.topics.set('events', current)
    for (let i = 0; i < 20; i++) append(producer, `${i}`, `key-${i}`)
    await passUntil(() => producer.stats.acked === 20)
  })

  test('a topic made anew has its own settings', async () => {
    const cluster = clusterOf(1, 2)
    cluster.topics.get('events')!.cleanupPolicy = 'compact'
    const { producer, metadata } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    expect(producer.needsKey).toBe(true)
    cluster.deleteTopic('events')
    cluster.createTopic('events', 2).maxMessageBytes = 5_000
    metadata.refresh()
    await passUntil(() => !producer.needsKey, 1_000)
    expect(producer.maxRecordBytes).toBe(4_904)
  })

  test('what waits for a partition when others are added goes to where its key belongs', async () => {
    const cluster = clusterOf(2, 1)
    const { producer, metadata } = await fixtureOf(cluster, ['events', 'at-least-once']).start()
    cluster.kill(1)
    for (let i = 0; i < 60; i++) append(producer, `${i}`, `key-${i}`)
    await pass(20)
    cluster.addPartitions('events', 2)
    metadata.refresh()
    await passUntil(() => metadata.topic('events').leaders.length === 3)
    cluster.restart(1)
    await passUntil(() => producer.stats.acked === 60)
    for (const [partition, log] of cluster.stored('events').entries())
      for (const { key } of log) expect(partitionForHash(murmur2(Buffer.from(key!)), 3)).toBe(partition)
  })

  test('a broker that still tells of fewer partitions changes nothing', async () => {
    const cluster = clusterOf(1, 4)
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    const removed = cluster.topics.get('events')!.partitions.splice(2)
    await pass(5_500)
    for (let i = 0; i < 100; i++) append(producer, `${i}`, `key-${i}`)
    cluster.topics.get('events')!.partitions.push(...removed)
    await pass(1_000)
    expect(producer.stats.confirmed).toBe(100)
    expect(cluster.stored('events').every((log) => log.length > 0)).toBe(true)
  })
})

describe('isolation', () => {
  test.each([
    ['deleted', 'own', 0],
    ['forbidden', 'own', 0],
    // What one record every 10 ms puts on the connection within two intervals of 100 ms.
    ['deleted', 'shared', 20],
    ['forbidden', 'shared', 20],
  ] as const)(
    'a topic that is %s under load costs a stream beside it nothing, or two intervals if they share a connection (%s)',
    async (harm, connection, atMost) => {
      const cluster = clusterOf(1, 2)
      cluster.createTopic('other', 2)
      const streams = ['events', 'other'].map((topic) => ({
        ...streamConfig(topic, 'at-most-once'),
        connection,
      }))
      fixture = new ProducerFixture(cluster, streams)
      const { producers } = await fixture.start()
      const [events, other] = producers
      for (let ms = 0; ms < 4_000; ms += 10) {
        if (ms === 1_000 && harm === 'deleted') cluster.deleteTopic('events')
        if (ms === 1_000 && harm === 'forbidden') cluster.topics.get('events')!.isForbidden = true
        if (events!.admission === 'open') append(events!, `${ms}`)
        append(other!, `${ms}`)
        await pass(10)
      }
      await pass(500)
      expect(events!.admission).not.toBe('open')
      expect(events!.stats.confirmed).toBeLessThan(events!.stats.accepted)
      const { accepted, confirmed, suspectedLost, recordErrorTotal } = other!.stats
      expect({ accepted, errors: recordErrorTotal }).toEqual({ accepted: 400, errors: suspectedLost })
      expect(confirmed + suspectedLost).toBe(400)
      expect(suspectedLost).toBeLessThanOrEqual(atMost)
    },
  )

  test('a full buffer of one stream leaves the other its room', async () => {
    const cluster = clusterOf(1, 1)
    cluster.createTopic('other', 1)
    const { producers } = await fixtureOf(
      cluster,
      ['events', 'at-most-once', { bufferMemoryBytes: 1_000 }],
      ['other', 'at-most-once'],
    ).start()
    cluster.stop(1)
    while (append(producers[0]!, 'x'.repeat(100)) !== null);
    expect(producers[0]!.stats.bufferAvailableBytes).toBeLessThan(200)
    expect(append(producers[1]!, 'y')).not.toBeNull()
  })
})

describe('close', () => {
  test('drains and confirms what is there, without waiting for linger or a barrier interval', async () => {
    const cluster = clusterOf(2, 3)
    const { producer } = await fixtureOf(cluster, [
      'events',
      'at-most-once',
      { lingerMs: 5_000, confirmIntervalMs: 5_000 },
    ]).start()
    for (let i = 0; i < 50; i++) append(producer, `${i}`, `key-${i}`)
    const startMs = performance.now()
    const closing = producer.close(startMs + 10_000)
    await passUntil(() => producer.stats.confirmed === 50, 500)
    await pass(1)
    expect(await closing).toBe(true)
  })

  test('ends at its deadline when Kafka is away, with a true account', async () => {
    const cluster = clusterOf(1, 1)
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    append(producer, 'first')
    await pass(300)
    cluster.kill(1)
    await pass(50)
    for (let i = 0; i < 5; i++) append(producer, `${i}`)
    const closing = producer.close(performance.now() + 700)
    await pass(701)
    expect(await closing).toBe(false)
    const { stats } = producer
    expect(stats).toMatchObject({ accepted: 6, confirmed: 1, buffered: 0, inFlight: 0 })
    expect(stats.dropped.shutdown).toBe(5)
    expect(stats.bufferAvailableBytes).toBe(stats.bufferTotalBytes)
  })

  test('with a broker that hangs, what was written is suspected lost', async () => {
    const cluster = clusterOf(1, 1)
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    append(producer, 'first')
    await pass(300)
    cluster.stop(1)
    append(producer, 'second')
    await pass(50)
    const closing = producer.close(performance.now() + 500)
    await pass(501)
    expect(await closing).toBe(false)
    expect(producer.stats).toMatchObject({ confirmed: 1, suspectedLost: 1, inFlight: 0 })
  })

  test('with nothing to do it ends at once', async () => {
    const { producer } = await fixtureOf(clusterOf(1, 1), ['events', 'at-least-once']).start()
    const closing = producer.close(performance.now() + 10_000)
    await pass(5)
    expect(await closing).toBe(true)
  })

  test('sends away who waits for room', async () => {
    const { producer } = await fixtureOf(clusterOf(1, 1), [
      'events',
      'at-most-once',
      { bufferMemoryBytes: 1_000 },
    ]).start()
    expect(producer.reserve(1_000)).toBe(true)
    const waiting = producer.reserveOrWait(500)
    void producer.close(performance.now() + 10)
    expect(await waiting).toBe(false)
    producer.unreserve(1_000)
    await pass(20)
  })
})

describe('stats', () => {
  test('records that are accepted and dropped on the spot are in the account', async () => {
    const { producer } = await fixtureOf(clusterOf(1, 1), ['events', 'at-most-once']).start()
    producer.drop(7)
    expect(producer.stats).toMatchObject({ accepted: 7, recordErrorTotal: 7, recordErrorRate: 1 })
    expect(sumOfOutcomes(producer.stats)).toBe(7)
  })

  test('the loss that the log shows is found by the barriers', async () => {
    const cluster = clusterOf(1, 1)
    const { producer } = await fixtureOf(cluster, ['events', 'at-most-once']).start()
    append(producer, 'one')
    await pass(300)
    expect(producer.stats.lossRatio).toEqual({ producer: 0, barrier: 0, broker: null })
    cluster.responseMs = 50
    for (let i = 0; i < 9; i++) append(producer, `${i}`)
    await pass(6)
    cluster.kill(1)
    await pass(100)
    cluster.restart(1)
    await pass(2_000)
    append(producer, 'two')
    await pass(1_500)
    append(producer, 'three')
    await pass(2_500)
    const { suspectedLost, lossRatio } = producer.stats
    const stored = cluster.stored('events')[0]!.length
    expect(suspectedLost).toBe(9)
    expect(lossRatio.barrier).toBe(9 / 12)
    expect(lossRatio.broker).toBe((12 - stored) / 12)
  })

  test('a buffer that was full once does not make the next outage one with a full buffer', async () => {
    const cluster = clusterOf(1, 1)
    const { producer } = await fixtureOf(cluster, [
      'events',
      'at-most-once',
      { bufferMemoryBytes: 1_000 },
    ]).start()
    cluster.kill(1)
    while (append(producer, 'x'.repeat(100)) !== null);
    await pass(1_000)
    expect(producer.isFullAndStuck).toBe(true)
    cluster.restart(1)
    await passUntil(() => producer.stats.bufferAvailableBytes === 1_000)
    cluster.kill(1)
    await pass(1_000)
    expect(producer.stats.connected).toBe(false)
    expect(producer.isFullAndStuck).toBe(false)
  })

  test('retry-after grows with an outage, from 1 s to 60 s at most', async () => {
    const cluster = clusterOf(1, 1)
    const { producer } = await fixtureOf(cluster, [
      'events',
      'at-most-once',
      { bufferMemoryBytes: 1_000 },
    ]).start()
    expect(producer.retryAfterSeconds()).toBe(1)
    cluster.kill(1)
    while (append(producer, 'x'.repeat(100)) !== null);
    await pass(20_000)
    expect(producer.retryAfterSeconds()).toBe(20)
    await pass(60_000)
    expect(producer.retryAfterSeconds()).toBe(60)
    expect(producer.isFullAndStuck).toBe(true)
  })
})

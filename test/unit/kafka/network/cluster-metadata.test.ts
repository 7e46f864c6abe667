import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { ClusterMetadata } from '../../../../src/kafka/network/cluster-metadata.ts'
import type { Transport } from '../../../../src/kafka/network/transport.ts'
import { ModelCluster } from '../../../support/model-broker.ts'
import type { ModelTopic } from '../../../support/model-topic.ts'
import { LogKeeper } from '../../../support/producer-fixture.ts'
import { pass, passUntil, settlePromises, useVirtualClock } from '../../../support/virtual-clock.ts'

let metadata: ClusterMetadata
let logs: LogKeeper

beforeEach(() => useVirtualClock())
afterEach(() => {
  metadata.stop()
  vi.useRealTimers()
})

function follow(transport: Transport, topics: string[], bootstrap = [1]): ClusterMetadata {
  logs = new LogKeeper()
  metadata = new ClusterMetadata({
    transport,
    bootstrap: bootstrap.map((nodeId) => ({ host: `node-${nodeId}`, port: 9092 })),
    topics,
    maxAgeMs: 5_000,
    logger: logs,
  })
  return metadata
}

/** One cluster, whose broker 1 tells the stale view of it, and each other broker the fresh one. */
function twoViews(stale: ModelCluster, fresh: ModelCluster): Transport {
  return {
    connect: async (host, ...rest) => await (host === 'node-1' ? stale : fresh).connect(host, ...rest),
  }
}

function looks(cluster: ModelCluster): number[] {
  return cluster.requests.filter(({ api }) => api === 'Metadata').map(({ atMs }) => atMs)
}

test('a topic is unseen, then known with its leaders and its limit', async () => {
  const cluster = new ModelCluster([1, 2])
  cluster.createTopic('events', 3).maxMessageBytes = 2_000
  follow(cluster, ['events']).start()
  expect(metadata.topic('events').status).toBe('unseen')
  await pass(20)
  expect(metadata.topic('events')).toMatchObject({
    status: 'known',
    leaders: [1, 2, 1],
    maxMessageBytes: 2_000,
    isCompacted: false,
    isReplicated: true,
    mayWrite: true,
  })
  expect(metadata.broker(2)).toEqual({ host: 'node-2', port: 9092 })
  expect(metadata.broker(3)).toBeNull()
  expect(metadata.everConnected).toBe(true)
})

test('a broker that goes on telling what it knew is left for another one, when it is asked in vain', async () => {
  const [stale, fresh] = [new ModelCluster([1, 2]), new ModelCluster([1, 2])]
  const topic = stale.createTopic('events', 1)
  fresh.topics.set('events', topic)
  follow(twoViews(stale, fresh), ['events']).start()
  await pass(200)
  Object.assign(stale.createTopic('events', 1), { id: topic.id })
  fresh.moveLeader('events', 0, 2)
  // A link whose broker leads no more wants another look each time.
  const ask = setInterval(() => metadata.refresh(), 100)
  await passUntil(() => metadata.topic('events').leaders[0] === 2, 20_000)
  clearInterval(ask)
})

test('a topic that one broker does not know of is looked for at the others, though nobody asks', async () => {
  const [stale, fresh] = [new ModelCluster([1, 2]), new ModelCluster([1, 2])]
  fresh.createTopic('late', 1)
  follow(twoViews(stale, fresh), ['late']).start()
  await pass(200)
  expect(metadata.topic('late').status).toBe('unknown_topic')
  await passUntil(() => metadata.topic('late').status === 'known', 40_000)
})

test('a topic that is missing, and one that is forbidden, are told as such and leave the other alone', async () => {
  const cluster = new ModelCluster([1])
  cluster.createTopic('events', 1)
  cluster.createTopic('secret', 1).isForbidden = true
  follow(cluster, ['events', 'secret', 'missing']).start()
  await pass(20)
  expect(metadata.topic('events').status).toBe('known')
  expect(metadata.topic('secret').status).toBe('not_authorized')
  expect(metadata.topic('missing').status).toBe('unknown_topic')
  await pass(20_000)
  const warnings = logs.lines.filter(({ level }) => level === 'warn')
  expect(warnings.map(({ fields }) => (fields as { topic: string }).topic).toSorted()).toEqual([
    'missing',
    'secret',
  ])
})

test('a topic that is about to be created is no warning, and one that is deleted later is, also if it was to be created again', async () => {
  const cluster = new ModelCluster([1])
  follow(cluster, ['events'])
  metadata.setToCreate('events')
  metadata.start()
  const warnings = () => logs.lines.filter(({ level }) => level === 'warn').map(({ message }) => message)
  await pass(1_000)
  expect(metadata.topic('events').status).toBe('unknown_topic')
  expect(warnings()).toEqual([])
  cluster.createTopic('events', 1)
  await passUntil(() => metadata.topic('events').status === 'known', 10_000)
  // A reload brings another stream of the topic.
  metadata.setToCreate('events')
  cluster.deleteTopic('events')
  await passUntil(() => metadata.topic('events').status === 'unknown_topic', 20_000)
  expect(warnings()).toEqual(['topic cannot be written to'])
})

test('a topic whose limit may not be read is taken as it is, and told of once', async () => {
  const cluster = new ModelCluster([1])
  cluster.createTopic('events', 1).isDescribable = false
  follow(cluster, ['events']).start()
  await pass(25_000)
  expect(metadata.topic('events')).toMatchObject({
    status: 'known',
    leaders: [1],
    maxMessageBytes: null,
    isCompacted: null,
    isReplicated: false,
    mayWrite: true,
  })
  expect(logs.lines.filter(({ level }) => level === 'warn')).toHaveLength(1)
  expect(cluster.requests.filter(({ api }) => api === 'DescribeConfigs')).toHaveLength(1)
})

test('a broker that does not serve DescribeConfigs is not asked; the limit is not known, and why is told once', async () => {
  const cluster = new ModelCluster([1])
  cluster.createTopic('events', 1)
  cluster.nodes.get(1)!.served.delete(32)
  follow(cluster, ['events']).start()
  await pass(70_000)
  expect(metadata.topic('events')).toMatchObject({ status: 'known', maxMessageBytes: null })
  expect(logs.lines.filter(({ level }) => level === 'warn')).toMatchObject([
    { fields: { topic: 'events', cause: 'node-1:9092 does not serve DescribeConfigs, Chute needs 1' } },
  ])
})

test('a broker whose Metadata is too old is not asked: why is told, and another one is tried', async () => {
  const cluster = new ModelCluster([1, 2])
  cluster.createTopic('events', 1)
  cluster.nodes.get(1)!.served.set(3, { min: 0, max: 4 })
  follow(cluster, ['events'], [1]).start()
  await pass(50)
  const cause = 'node-1:9092 serves Metadata 0 to 4, Chute needs 8'
  expect(metadata.failure).toBe(cause)
  await pass(20_000)
  expect(logs.lines).toMatchObject([{ level: 'warn', fields: { cause } }])
  metadata.stop()
  follow(cluster, ['events'], [1, 2]).start()
  await passUntil(() => metadata.everConnected, 5_000)
  expect(metadata.failure).toBeNull()
})

test('a broker that knows a topic and none of its partitions changes nothing', async () => {
  const cluster = new ModelCluster([1])
  const topic = cluster.createTopic('events', 2)
  follow(cluster, ['events']).start()
  await pass(20)
  const before = metadata.topic('events')
  topic.partitions.length = 0
  metadata.refresh()
  await pass(500)
  expect(looks(cluster)).toHaveLength(2)
  expect(metadata.topic('events')).toEqual(before)
})

describe('it looks again', () => {
  test('every metadata.max.age.ms, and not more often', async () => {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    follow(cluster, ['events']).start()
    await pass(20_500)
    expect(looks(cluster)).toHaveLength(5)
  })

  /** Milliseconds from each look to the next. */
  function pauses(cluster: ModelCluster): number[] {
    const times = looks(cluster)
    return times.slice(1).map((time, index) => time - times[index]!)
  }

  test('soon after it is told to, once for many calls, and ever later while that finds nothing new', async () => {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    follow(cluster, ['events']).start()
    await pass(1_000)
    for (let i = 0; i < 10_000; i++) {
      metadata.refresh()
      metadata.refresh()
      await pass(2)
    }
    const [, ...asked] = pauses(cluster)
    asked.slice(0, 3).forEach((pause, index) => {
      expect(pause).toBeGreaterThanOrEqual(0.8 * 200 * 2 ** index)
      expect(pause).toBeLessThan(1.2 * 200 * 2 ** index + 10)
    })
    for (const pause of asked.slice(3)) expect(pause).toBeGreaterThanOrEqual(800)
    for (const pause of asked) expect(pause).toBeLessThan(1_210)
    // Not always the same: many gateways lose a leader at the same moment.
    expect(new Set(asked.slice(3)).size).toBeGreaterThan(3)
    cluster.addPartitions('events', 1)
    metadata.refresh()
    await pass(1_300)
    const begun = looks(cluster).length
    metadata.refresh()
    await pass(120)
    expect(looks(cluster).length).toBe(begun + 1)
  })

  test('ever later while a partition has no leader, and it is found when it has one', async () => {
    const cluster = new ModelCluster([1, 2])
    cluster.createTopic('events', 2)
    cluster.fenceAfterMs = 0
    follow(cluster, ['events']).start()
    await pass(100)
    cluster.kill(2)
    await passUntil(() => metadata.topic('events').leaders[1] === -1, 6_000)
    const begun = looks(cluster).length
    await pass(30_000)
    expect(looks(cluster).length - begun).toBeLessThan(42)
    expect(looks(cluster).length - begun).toBeGreaterThan(24)
    cluster.moveLeader('events', 1, 1)
    await passUntil(() => metadata.topic('events').leaders[1] === 1, 1_300)
  })

  test('at once while a partition has no leader', async () => {
    const cluster = new ModelCluster([1, 2])
    cluster.createTopic('events', 2)
    cluster.fenceAfterMs = 0
    follow(cluster, ['events']).start()
    await pass(100)
    cluster.kill(2)
    await passUntil(() => metadata.topic('events').leaders[1] === -1, 6_000)
    cluster.moveLeader('events', 1, 1)
    await passUntil(() => metadata.topic('events').leaders[1] === 1, 300)
  })

  test('reads max.message.bytes again every half minute', async () => {
    const cluster = new ModelCluster([1])
    const topic = cluster.createTopic('events', 1)
    follow(cluster, ['events']).start()
    await pass(100)
    topic.maxMessageBytes = 777
    await pass(29_000)
    expect(metadata.topic('events').maxMessageBytes).not.toBe(777)
    await pass(7_000)
    expect(metadata.topic('events').maxMessageBytes).toBe(777)
    expect(cluster.requests.filter(({ api }) => api === 'DescribeConfigs')).toHaveLength(2)
  })
})

describe('a topic that was made anew', () => {
  /** A cluster that tells another topic of the same name from now on. @returns the topic that was there before. */
  function makeAnew(cluster: ModelCluster): ModelTopic {
    const former = cluster.topics.get('events')!
    cluster.deleteTopic('events')
    cluster.createTopic('events', 1)
    return former
  }

  /** A cluster of one broker, whose topic is known. */
  async function followed(): Promise<ModelCluster> {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    follow(cluster, ['events']).start()
    await pass(100)
    return cluster
  }

  async function look(): Promise<void> {
    metadata.refresh()
    await pass(1_300)
  }

  test('stays, while a broker that lags behind tells the former one', async () => {
    const cluster = await followed()
    const former = makeAnew(cluster)
    const present = cluster.topics.get('events')!
    await look()
    expect(metadata.topic('events')).toMatchObject({ id: present.id, incarnation: 2 })
    // Twice for less than a broker lags behind, and once before and after an outage.
    for (const _ of [1, 2]) {
      cluster.topics.set('events', former)
      await pass(9_000)
      expect(metadata.topic('events').id).toBe(present.id)
      cluster.topics.set('events', present)
      await look()
    }
    cluster.topics.set('events', former)
    await look()
    cluster.kill(1)
    await pass(20_000)
    cluster.restart(1)
    await passUntil(() => metadata.failure === null)
    await look()
    expect(metadata.topic('events')).toMatchObject({ id: present.id, incarnation: 2 })
  })

  test('gives way to the former one that the cluster keeps telling, and then the other way round', async () => {
    const cluster = await followed()
    const former = makeAnew(cluster)
    const present = cluster.topics.get('events')!
    await look()
    for (const [index, told] of [former, present, former].entries()) {
      cluster.topics.set('events', told)
      await pass(16_000)
      expect(metadata.topic('events')).toMatchObject({ id: told.id, incarnation: 3 + index })
      cluster.addPartitions('events', 1)
      await look()
      expect(metadata.topic('events').leaders).toHaveLength(told.partitions.length)
    }
  })

  test('is former no more once another cluster answers, and the first cluster again', async () => {
    const cluster = await followed()
    const first = makeAnew(cluster)
    cluster.clusterId = 'standby'
    await look()
    const standby = cluster.topics.get('events')!
    expect(metadata.topic('events')).toMatchObject({ id: standby.id, incarnation: 2 })
    for (const [clusterId, topic, incarnation] of [
      ['model', first, 3],
      ['standby', standby, 4],
    ] as const) {
      cluster.topics.set('events', topic)
      cluster.clusterId = clusterId
      await look()
      expect(metadata.topic('events')).toMatchObject({ id: topic.id, incarnation })
    }
  })
})

describe('with brokers away', () => {
  test('it goes on with another bootstrap broker', async () => {
    const cluster = new ModelCluster([1, 2])
    cluster.createTopic('events', 1)
    cluster.kill(1)
    follow(cluster, ['events'], [1, 2]).start()
    await passUntil(() => metadata.everConnected, 1_000)
  })

  test('it tries with growing pauses, and connects by itself when one comes', async () => {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    cluster.kill(1)
    follow(cluster, ['events']).start()
    await pass(60_000)
    expect(metadata.everConnected).toBe(false)
    expect(cluster.connects.length).toBeGreaterThan(60)
    expect(cluster.connects.length).toBeLessThan(250)
    cluster.restart(1)
    await passUntil(() => metadata.topic('events').status === 'known', 1_000)
  })

  test('a broker that hangs is left after three seconds', async () => {
    const cluster = new ModelCluster([1, 2])
    cluster.createTopic('events', 1)
    follow(cluster, ['events']).start()
    await pass(100)
    cluster.stop(1)
    await pass(12_000)
    expect(cluster.requests.filter(({ api, nodeId }) => api === 'Metadata' && nodeId === 2)).not.toHaveLength(
      0,
    )
  })

  test('what was known stays known', async () => {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 2)
    follow(cluster, ['events']).start()
    await pass(100)
    cluster.kill(1)
    await pass(10_000)
    expect(metadata.topic('events')).toMatchObject({ status: 'known', leaders: [1, 1] })
  })
})

describe('connections', () => {
  test('one that has to authenticate again is replaced and closed', async () => {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    follow(cluster, ['events']).start()
    await pass(100)
    cluster.expireSessions()
    await pass(6_000)
    expect([...cluster.connections].map(({ isOpen }) => isOpen)).toEqual([false, true])
  })

  test('stop closes the one that is open', async () => {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    follow(cluster, ['events']).start()
    await pass(100)
    metadata.stop()
    expect([...cluster.connections].map(({ isOpen }) => isOpen)).toEqual([false])
    await pass(10)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('stop while it connects leaves none open', async () => {
    const cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    cluster.responseMs = 100
    follow(cluster, ['events']).start()
    await pass(10)
    metadata.stop()
    await pass(1_000)
    await settlePromises()
    expect([...cluster.connections].filter(({ isOpen }) => isOpen)).toEqual([])
    expect(looks(cluster)).toEqual([])
  })
})

test('listeners hear of each look', async () => {
  const cluster = new ModelCluster([1])
  cluster.createTopic('events', 1)
  follow(cluster, ['events'])
  const listener = vi.fn()
  metadata.onChange(listener)
  metadata.start()
  await pass(100)
  expect(listener).toHaveBeenCalledOnce()
})

test('why no broker was reached is told once a cause, and that one was reached', async () => {
  const cluster = new ModelCluster([1, 2])
  cluster.kill(1)
  cluster.kill(2)
  follow(cluster, ['events'], [1, 2]).start()
  expect(metadata.failure).toBeNull()
  await pass(10_000)
  expect(metadata.failure).toMatch(/^node-[12]:9092: /)
  const told = logs.lines.map(({ fields }) => (fields as { cause: string }).cause)
  expect(told.toSorted()).toEqual([
    expect.stringContaining('node-1:9092: '),
    expect.stringContaining('node-2:9092: '),
  ])
  cluster.restart(1, 10)
  await passUntil(() => metadata.everConnected)
  expect(metadata.failure).toBeNull()
  const messages = (): string[] => logs.lines.map(({ message }) => message)
  expect(messages()).toContain('Kafka was reached')

  // From then on an outage is told by the streams that it hits.
  cluster.kill(1)
  await pass(20_000)
  expect(metadata.failure).not.toBeNull()
  expect(messages().filter((message) => message.startsWith('Kafka was not reached'))).toHaveLength(2)
})

test('a listener that throws is an uncaught exception, no failure of the broker, and keeps no other listener from its call', async () => {
  const cluster = new ModelCluster([1])
  cluster.createTopic('events', 1)
  const uncaught: unknown[] = []
  const realQueueMicrotask = queueMicrotask
  // In place of an uncaught exception, which would end the test.
  const queue = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((task) =>
    realQueueMicrotask(() => {
      try {
        task()
      } catch (error) {
        uncaught.push(error)
      }
    }),
  )
  onTestFinished(() => queue.mockRestore())
  const bug = new Error('a bug of ours')
  const other = vi.fn()
  follow(cluster, ['events'])
  metadata.onChange(() => {
    throw bug
  })
  metadata.onChange(other)
  metadata.start()
  // The look at the start, and the next one, which comes when metadata is old.
  await pass(5_200)
  expect(uncaught).toEqual([bug, bug])
  expect(other).toHaveBeenCalledTimes(2)
  expect(metadata.failure).toBeNull()
  expect(looks(cluster)).toHaveLength(2)
  expect(logs.lines.filter(({ message }) => message.includes('Kafka was not reached'))).toEqual([])
})

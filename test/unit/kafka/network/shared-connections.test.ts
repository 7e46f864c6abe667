import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ProducerConfig } from '../../../../src/config/config.ts'
import { LinkIsolation } from '../../../../src/kafka/network/link-isolation.ts'
import { SharedConnection } from '../../../../src/kafka/network/shared-connection.ts'
import type { BrokerConnection } from '../../../../src/kafka/network/transport.ts'
import { TurnEnd } from '../../../../src/kafka/network/turn.ts'
import type { StreamProducer } from '../../../../src/kafka/producer/stream-producer.ts'
import { encodeListOffsets, encodeProduce } from '../../../../src/kafka/protocol/requests.ts'
import { ModelCluster } from '../../../support/model-broker.ts'
import { append, ProducerFixture, streamConfig } from '../../../support/producer-fixture.ts'
import { sumOfDrops } from '../../../support/producer-stats.ts'
import { apartLines, everyMs, flow, openConnections, topicsOf } from '../../../support/shared-streams.ts'
import { leaveHeapClock, pass, passUntil, useHeapClock } from '../../../support/virtual-clock.ts'

let cluster: ModelCluster
let fixture: ProducerFixture

beforeEach(() => useHeapClock())
afterEach(() => leaveHeapClock())

const intervalMs = 20
const topics = ['events', 'a', 'b'] as const

/** Three streams that share, each of them trusted. The faults happen to the first one. */
async function start(overrides: Partial<ProducerConfig> = {}): Promise<readonly StreamProducer[]> {
  cluster = new ModelCluster([1])
  for (const topic of topics) cluster.createTopic(topic, 1)
  const settings = { lingerMs: 0, confirmIntervalMs: intervalMs, ...overrides }
  fixture = new ProducerFixture(
    cluster,
    topics.map((topic) => streamConfig(topic, 'at-most-once', settings)),
  )
  const { producers } = await fixture.start()
  await passUntil(() => producers.every(({ stats }) => stats.connected))
  for (const producer of producers) append(producer, 'warm-up')
  await passUntil(() => producers.every(({ stats }) => stats.confirmed === 1))
  await pass(3_000)
  cluster.requests.length = 0
  return producers
}
afterEach(() => fixture.stop())

function errorsOf(producers: readonly StreamProducer[]): number[] {
  return producers.map(({ stats }) => stats.recordErrorTotal)
}

/** Each record was confirmed or is flagged, what is flagged covers what is missing, and nothing is there twice. */
async function expectTruth(producers: readonly StreamProducer[]): Promise<void> {
  await passUntil(() => producers.every(({ stats }) => stats.buffered + stats.inFlight === 0), 10_000)
  for (const { stats } of producers) {
    const stored = cluster.stored(stats.topic).flat()
    expect(stats.confirmed + stats.suspectedLost + sumOfDrops(stats)).toBe(stats.accepted)
    expect(stored.length).toBeGreaterThanOrEqual(stats.confirmed)
    expect(stored.length).toBeLessThanOrEqual(stats.confirmed + stats.suspectedLost)
    expect(new Set(stored.map(({ value }) => value)).size).toBe(stored.length)
  }
}

const isolated = expect.objectContaining({ level: 'warn' })
describe('streams that share', () => {
  test('have one connection to a broker, one write a turn, and one barrier', async () => {
    const producers = await start()
    expect(openConnections(cluster)).toBe(1)
    for (const producer of producers) append(producer, 'one')
    await pass(100)
    expect(topicsOf(cluster, 'Produce')).toEqual(['a b events'])
    expect(topicsOf(cluster, 'ListOffsets', 'log_end')).toEqual(['a b events'])
    expect(topicsOf(cluster, 'ListOffsets', 'high_watermark')).toEqual(['a b events'])
    expect(producers.map(({ stats }) => stats.confirmed)).toEqual([2, 2, 2])
  })

  test('are each trusted by themselves: the first write of each is answered', async () => {
    const producers = await start()
    cluster.cutConnections(1)
    await passUntil(() => producers.every(({ stats }) => !stats.connected))
    await passUntil(() => producers.every(({ stats }) => stats.connected), 2_000)
    await pass(50)
    cluster.requests.length = 0
    for (const producer of producers) append(producer, 'again')
    await pass(50)
    for (const producer of producers) append(producer, 'flows')
    await pass(50)
    const acks = cluster.requests.filter(({ api }) => api === 'Produce').map((each) => each.acks)
    expect(acks).toEqual([1, 1, 1, 0, 0, 0])
  })

  test('with acks=all or connection: own have connections of their own', async () => {
    cluster = new ModelCluster([1])
    for (const topic of topics) cluster.createTopic(topic, 1)
    fixture = new ProducerFixture(cluster, [
      streamConfig('events', 'at-most-once', { acks: -1 }),
      { ...streamConfig('a', 'at-most-once'), connection: 'own' },
      streamConfig('b', 'at-most-once'),
    ])
    const { producers } = await fixture.start()
    await passUntil(() => producers.every(({ stats }) => stats.connected))
    expect(openConnections(cluster)).toBe(3)
  })

  test('change to the next connection together when the session ends, and no record is in doubt', async () => {
    const producers = await start()
    await flow(producers, 50)
    cluster.expireSessions()
    const before = [...cluster.connections].filter(({ isOpen }) => isOpen)
    await flow(producers, 2_500)
    await expectTruth(producers)
    expect(errorsOf(producers)).toEqual([0, 0, 0])
    expect(openConnections(cluster)).toBe(1)
    expect([...cluster.connections].filter(({ isOpen }) => isOpen)).not.toEqual(before)
  })

  test('go on when one of them leaves', async () => {
    const producers = await start()
    await flow(producers, 50)
    const [gone, ...rest] = producers
    const closing = gone!.close(performance.now() + 1_000)
    await flow(rest, 50)
    expect(await closing).toBe(true)
    await flow(rest, 500)
    await expectTruth(producers)
    expect(errorsOf(producers)).toEqual([0, 0, 0])
    expect(openConnections(cluster)).toBe(1)
    for (const producer of rest) producer.abort()
    await pass(10)
    expect(openConnections(cluster)).toBe(0)
  })

  test('all wait in the buffer while the broker throttles one of them', async () => {
    const producers = await start({ acks: 1 })
    cluster.throttleTimeMs = 500
    append(producers[0]!, 'throttled')
    await pass(20)
    cluster.throttleTimeMs = 0
    for (const producer of producers) append(producer, 'waits')
    await pass(400)
    expect(producers.map(({ stats }) => stats.buffered)).toEqual([1, 1, 1])
    await pass(200)
    expect(producers.map(({ stats }) => stats.confirmed)).toEqual([3, 2, 2])
  })
})

describe('a shared connection that the broker ends for one of its topics', () => {
  test('costs the others what two intervals carry, flagged, and they go on', async () => {
    const producers = await start()
    await flow(producers, 200)
    cluster.topics.get('events')!.partitions[0]!.refusals.push(87)
    await flow(producers, 1_500)
    await expectTruth(producers)
    for (const { stats } of producers.slice(1)) {
      expect(stats.suspectedLost).toBeGreaterThan(0)
      expect(stats.suspectedLost).toBeLessThanOrEqual((2 * intervalMs) / everyMs + 2)
      expect(stats.confirmed).toBe(1 + 1_700 / everyMs - stats.suspectedLost)
    }
  })

  test('loses the topic by name: it gets a connection of its own, and later ends only that', async () => {
    const producers = await start()
    const isBad = (value: string): boolean => value.startsWith('bad')
    cluster.topics.get('events')!.partitions[0]!.refuses = isBad
    await flow(producers, 100)
    // The first bad record ends the shared connection, and the second one is refused in the trust step.
    await flow(producers, 2_000, (ms) => (ms < 500 ? 'bad' : 'good'))
    expect(apartLines(fixture)).toEqual([
      {
        level: 'warn',
        message: expect.stringContaining('refuses this topic') as string,
        fields: { topics: ['events'], broker: 'node-1:9092', kafkaError: 'INVALID_RECORD', forSeconds: 60 },
      },
    ])
    await passUntil(() => openConnections(cluster) === 2, 3_000)
    await flow(producers, 200)
    const before = errorsOf(producers)
    for (let i = 0; i < 3; i++) {
      await flow(producers, 10, () => 'bad')
      await flow(producers, 1_000)
    }
    const after = errorsOf(producers)
    expect(after[0]).toBeGreaterThan(before[0]!)
    expect(after.slice(1)).toEqual(before.slice(1))
    await expectTruth(producers)
  })

  test('gets the topic back when its time is over, without a record in doubt', async () => {
    const producers = await start()
    const [partition] = cluster.topics.get('events')!.partitions
    partition!.refuses = (value) => value.startsWith('bad')
    await flow(producers, 1_000, (ms) => (ms < 300 ? 'bad' : 'good'))
    await passUntil(() => openConnections(cluster) === 2, 3_000)
    const before = errorsOf(producers)
    for (let s = 0; s < 62; s++) {
      await flow(producers, 1)
      await pass(1_000)
    }
    expect(openConnections(cluster)).toBe(1)
    expect(errorsOf(producers)).toEqual(before)
    await expectTruth(producers)
  })

  test('twice within a minute, and the topic is not found by name: all that were written to leave it for a while', async () => {
    const producers = await start()
    const [partition] = cluster.topics.get('events')!.partitions
    for (let i = 0; i < 2; i++) {
      await flow(producers, 200)
      partition!.refusals.push(87)
      await flow(producers, 2_000)
    }
    expect(apartLines(fixture)).toEqual([isolated])
    expect(openConnections(cluster)).toBe(3)
    const before = errorsOf(producers)
    partition!.refusals.push(87)
    await flow(producers, 2_000)
    expect(errorsOf(producers).slice(1)).toEqual(before.slice(1))
    expect(apartLines(fixture).at(-1)).toMatchObject({ fields: { topics: ['events'], forSeconds: 120 } })
    await expectTruth(producers)
  })

  test('because its leader moved sets nobody apart', async () => {
    const producers = await start()
    await flow(producers, 100)
    cluster.topics.get('events')!.partitions[0]!.refusals.push(6)
    await flow(producers, 1_000)
    expect(apartLines(fixture)).toEqual([])
    await expectTruth(producers)
  })

  test('while the broker stands still next: every account is true', async () => {
    const producers = await start({ requestTimeoutMs: 500 })
    cluster.topics.get('events')!.partitions[0]!.refuses = (value) => value.startsWith('bad')
    await flow(producers, 200)
    await flow(producers, 30, () => 'bad')
    cluster.stop(1)
    await flow(producers, 1_000)
    cluster.resume(1)
    await flow(producers, 1_000)
    await expectTruth(producers)
  })
})

describe('room on a shared connection', () => {
  /** A connection whose kernel takes nothing until it is told to. */
  function setUp() {
    let pendingBytes = 0
    const flushes: (() => void)[] = []
    const drains: (() => void)[] = []
    const closes: ((cause: Error) => void)[] = []
    const calls: ((payload: Buffer) => void)[] = []
    const connection = {
      isOpen: true,
      get pendingBytes() {
        return pendingBytes
      },
      renewAtMs: Infinity,
      send: (request: { chunks: readonly Buffer[] }, onFlushed: () => void) => {
        const bytes = request.chunks.reduce((sum, { length }) => sum + length, 0)
        pendingBytes += bytes
        flushes.push(() => {
          pendingBytes -= bytes
          onFlushed()
        })
      },
      call: (_request: unknown, onResponse: (payload: Buffer) => void) => calls.push(onResponse),
      throttle: () => {},
      onDrain: (listener: () => void) => drains.push(listener),
      onClose: (listener: (cause: Error) => void) => closes.push(listener),
      destroy: (cause: Error) => {
        connection.isOpen = false
        for (const close of closes) close(cause)
      },
    }
    const shared = new SharedConnection({
      connection: connection as unknown as BrokerConnection,
      broker: 'kafka-1:9092',
      isShared: true,
      isolation: new LinkIsolation(() => {}),
      turn: new TurnEnd(),
      awaitsAnswers: false,
    })
    const drain = (): void => {
      for (const flush of flushes.splice(0)) flush()
      for (const listener of drains) listener()
    }
    return { shared, connection, drain, calls }
  }

  const send = (connection: BrokerConnection, topic: string, sizeBytes: number): void => {
    const bytes = Buffer.alloc(sizeBytes)
    connection.send(encodeProduce(topic, 0, 100, [{ partition: 0, sizeBytes, seal: () => bytes }]), () => {})
  }
  const join = (shared: SharedConnection, topic: string): BrokerConnection => shared.join(topic, 1 << 20)
  const hasRoom = (connection: BrokerConnection): boolean => connection.askForRoom()

  test('a flood of one topic fills the room, and another topic can still write', async () => {
    const { shared, drain } = setUp()
    const [flood, other] = [join(shared, 'flood'), join(shared, 'other')]
    let sent = 0
    while (hasRoom(flood) && sent < 100) {
      send(flood, 'flood', 64 << 10)
      sent++
    }
    expect(sent).toBe(16)
    await pass(1)
    expect([hasRoom(flood), hasRoom(other)]).toEqual([false, true])
    send(other, 'other', 10)
    expect(hasRoom(other)).toBe(false)
    await pass(1)
    const woken = vi.fn()
    flood.onDrain(woken)
    drain()
    expect(woken).toHaveBeenCalledOnce()
    expect([hasRoom(flood), hasRoom(other)]).toEqual([true, true])
  })

  test('a topic with nothing there may write up to twice the room', async () => {
    const { shared } = setUp()
    const quiet = join(shared, 'quiet')
    for (let nth = 0; nth < 8; nth++) {
      const flood = join(shared, `flood-${nth}`)
      expect(hasRoom(flood)).toBe(true)
      send(flood, `flood-${nth}`, 256 << 10)
    }
    expect(hasRoom(quiet)).toBe(false)
    await pass(1)
  })

  test('whoever wrote least recently is woken first', async () => {
    const { shared, drain } = setUp()
    const order: string[] = []
    const [a, b] = ['a', 'b'].map((topic) => {
      const joined = join(shared, topic)
      joined.onDrain(() => order.push(topic))
      return joined
    })
    for (const [topic, joined] of [
      ['b', b!],
      ['a', a!],
      ['b', b!],
    ] as const)
      send(joined, topic, 1_100 << 10)
    expect([hasRoom(a!), hasRoom(b!)]).toEqual([false, false])
    await pass(1)
    drain()
    expect(order).toEqual(['a', 'b'])
  })

  test('after a pause of the broker, all are woken once there is room, though timers fire early', async () => {
    const { shared } = setUp()
    const topicsThere = ['a', 'b'].map((topic) => join(shared, topic))
    const inTime = globalThis.setTimeout
    vi.stubGlobal('setTimeout', (run: () => void, ms: number) => inTime(run, ms - 0.7))
    try {
      const answers: boolean[] = []
      for (const topic of topicsThere) {
        topic.throttle(500)
        expect(topic.askForRoom()).toBe(false)
        topic.onDrain(() => answers.push(topic.askForRoom()))
      }
      await pass(505)
      expect(answers).toEqual([true, true])
    } finally {
      vi.unstubAllGlobals()
    }
  })

  test('a topic that leaves takes the connection with it while its bytes are in this process, and else leaves it to the others', async () => {
    const { shared, connection, drain } = setUp()
    const [gone, writing, other] = ['gone', 'writing', 'other'].map((topic) => join(shared, topic))
    const causes: string[] = []
    const unanswered = vi.fn()
    other!.onClose(({ message }) => causes.push(message))
    gone!.call(encodeListOffsets('gone', [0], 'log_end'), () => {}, unanswered)
    gone!.destroy(new Error('not needed'))
    expect(unanswered).toHaveBeenCalledOnce()
    expect([gone!.isOpen, connection.isOpen, other!.isOpen]).toEqual([false, true, true])
    send(writing!, 'writing', 10)
    await pass(1)
    drain()
    send(writing!, 'writing', 10)
    writing!.destroy(new Error('aborted'))
    expect(connection.isOpen).toBe(false)
    expect(causes).toEqual(['aborted'])
  })

  test('a topic whose write is answered leaves the connection to the others, though the socket tells of its bytes only together with theirs', async () => {
    const { shared, connection, calls } = setUp()
    const [gone, flood] = [join(shared, 'gone'), join(shared, 'flood')]
    send(gone, 'gone', 10)
    const answered = vi.fn()
    gone.call(encodeListOffsets('gone', [0], 'log_end'), answered, vi.fn())
    send(flood, 'flood', 512 << 10)
    await pass(1)
    calls[0]!(Buffer.alloc(0))
    expect(answered).toHaveBeenCalledOnce()
    expect(gone.pendingBytes).toBeGreaterThan(0)
    gone.destroy(new Error('another connection took its place'))
    expect([gone.isOpen, connection.isOpen, flood.isOpen]).toEqual([false, true, true])
  })
})

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ProducerConfig } from '../../../../../src/config/config.ts'
import type { Settlement } from '../../../../../src/kafka/producer/producer.ts'
import type { StreamProducer } from '../../../../../src/kafka/producer/stream-producer.ts'
import { AuthenticationError } from '../../../../../src/kafka/network/transport.ts'
import { seededRandom } from '../../../../support/fault-run.ts'
import { sumOfOutcomes } from '../../../../support/producer-stats.ts'
import { isLong } from '../../../../support/forms.ts'
import { ModelCluster } from '../../../../support/model-broker.ts'
import type { ModelConnection } from '../../../../support/model-connection.ts'
import type { ServedRequest } from '../../../../support/model-requests.ts'
import { append, ProducerFixture, streamConfig, keyFor } from '../../../../support/producer-fixture.ts'
import { pass, passUntil, settlePromises, useVirtualClock } from '../../../../support/virtual-clock.ts'

let cluster: ModelCluster
let fixture: ProducerFixture
let producer: StreamProducer

beforeEach(() => {
  useVirtualClock()
  vi.spyOn(Math, 'random').mockImplementation(seededRandom(1))
})
afterEach(() => {
  fixture.stop()
  vi.useRealTimers()
  vi.restoreAllMocks()
})

async function start(
  options: { nodes?: number; partitions?: number } & Partial<ProducerConfig> = {},
): Promise<void> {
  const { nodes = 1, partitions = 1, ...overrides } = options
  cluster = new ModelCluster(
    Array.from({ length: nodes }, (_, index) => index + 1),
    seededRandom(1),
  )
  cluster.createTopic('events', partitions)
  // Followers are never level with their leader: that is how it shows that it tells where its log ends.
  if (nodes > 1) cluster.replicationMs = 3
  fixture = new ProducerFixture(cluster, [streamConfig('events', 'at-most-once', overrides)])
  await fixture.start()
  producer = fixture.producer
  await passUntil(() => producer.stats.connected)
}

/** Started, and a first write was stored on every node. */
async function startTrusted(options: Parameters<typeof start>[0] = {}): Promise<void> {
  await start(options)
  const { partitions = 1 } = options
  for (let partition = 0; partition < partitions; partition++)
    append(producer, `warm-up ${partition}`, keyFor(partition, partitions))
  await passUntil(() => producer.stats.confirmed === partitions)
  // Past the look at the log ends that follows a write.
  await pass(3_000)
  cluster.requests.length = 0
}

/** What went over the wire of streams, metadata left out: 'Produce 0', 'log_end', 'high_watermark'. */
function wire(): string[] {
  return dataRequests().map(({ api, acks, end }) => end ?? `${api} ${acks}`)
}

/** A barrier behind acks=0 writes, as {@link wire} shows it. */
const barrier = ['log_end', 'high_watermark']

function dataRequests(): ServedRequest[] {
  return cluster.requests.filter(({ api }) => api === 'Produce' || api === 'ListOffsets')
}

function produces(): ServedRequest[] {
  return cluster.requests.filter(({ api }) => api === 'Produce')
}

function values(): string[] {
  return cluster.stored('events').flatMap((log) => log.map(({ value }) => value))
}

/** One record every `everyMs` for `forMs`. */
async function flow(forMs: number, everyMs = 5): Promise<number> {
  let count = 0
  for (let ms = 0; ms < forMs; ms += everyMs) {
    if (append(producer, `${count++}`.padEnd(20)) === null) count--
    await pass(everyMs)
  }
  return count
}

describe('a connection', () => {
  test('asks first whether its partitions are online, then writes with acks=1, then with acks=0', async () => {
    await start({ lingerMs: 0 })
    append(producer, 'a')
    await passUntil(() => producer.stats.confirmed === 1)
    append(producer, 'b')
    await pass(150)
    expect(wire()).toEqual(['high_watermark', 'Produce 1', ...barrier, 'Produce 0', ...barrier])
    expect(producer.stats.confirmed).toBe(2)
  })

  test('writes one request at a time before it is trusted', async () => {
    await start({ lingerMs: 0, batchSizeBytes: 100 })
    await pass(50)
    cluster.responseMs = 50
    for (let i = 0; i < 5; i++) append(producer, `${i}`.padEnd(40))
    await pass(30)
    expect(produces()).toHaveLength(1)
    await pass(30)
    expect(produces().map(({ acks }) => acks)).toEqual([1, 0, 0, 0, 0])
  })

  test('writes nothing to a partition that is not online yet, and all of it once it is', async () => {
    await startTrusted({ partitions: 2 })
    cluster.kill(1)
    await pass(100)
    append(producer, 'early', keyFor(0, 2))
    append(producer, 'late', keyFor(1, 2))
    cluster.restart(1)
    cluster.topics.get('events')!.partitions[1]!.onlineAtMs = performance.now() + 3_000
    await pass(2_000)
    expect(values()).toEqual(['warm-up 0', 'early', 'warm-up 1'])
    await pass(1_500)
    expect(values()).toEqual(['warm-up 0', 'early', 'warm-up 1', 'late'])
    expect(produces().flatMap(({ errorCodes }) => errorCodes)).toEqual([0, 0])
    expect(producer.stats).toMatchObject({ confirmed: 4, suspectedLost: 0 })
  })

  test('a partition that gets its leader while others are probed is probed as well', async () => {
    await startTrusted({ nodes: 2, partitions: 2 })
    cluster.nodes.get(1)!.extraResponseMs = 800
    cluster.cutConnections(1)
    await pass(300)
    const probedFrom = performance.now()
    cluster.moveLeader('events', 1, 1)
    append(producer, 'a', keyFor(1, 2))
    fixture.metadata.refresh()
    await passUntil(() => values().includes('a'), 2_000)
    // The first probe's answer, the second's, and no metadata look in between.
    expect(performance.now() - probedFrom).toBeLessThan(1_700)
  })
})

describe('the barrier', () => {
  test('goes once or twice a confirm.interval.ms while something is unconfirmed, and not otherwise', async () => {
    await startTrusted()
    const count = await flow(1_000)
    await pass(300)
    const barriers = wire().filter((request) => request === 'log_end')
    expect(barriers.length).toBeGreaterThanOrEqual(10)
    expect(barriers.length).toBeLessThanOrEqual(32)
    expect(producer.stats.confirmed).toBe(count + 1)
    await pass(3_000)
    const quietFrom = dataRequests().length
    await pass(30_000)
    expect(dataRequests()).toHaveLength(quietFrom)
  })

  test('confirms the tail of a burst, too', async () => {
    await startTrusted()
    append(producer, 'only one')
    await pass(150)
    expect(wire()).toEqual(['Produce 0', ...barrier])
    expect(producer.stats).toMatchObject({ confirmed: 2, inFlight: 0 })
  })

  test('confirms what was written before it and nothing that came after', async () => {
    await startTrusted({ lingerMs: 0 })
    cluster.responseMs = 60
    append(producer, 'before')
    await passUntil(() => wire().includes('log_end'))
    append(producer, 'after')
    await passUntil(() => producer.stats.confirmed === 2)
    expect(producer.stats).toMatchObject({ confirmed: 2, inFlight: 1 })
    await passUntil(() => producer.stats.confirmed === 3, 300)
  })

  test('writing pauses while it is overdue, and goes on with its answer', async () => {
    await startTrusted()
    cluster.stop(1)
    await flow(1_500)
    const held = producer.stats
    // Two intervals' worth at the most, and a little for the batches under way.
    expect(held.inFlight).toBeLessThanOrEqual(60)
    expect(held.buffered).toBeGreaterThan(200)
    cluster.resume(1)
    await pass(300)
    expect(producer.stats).toMatchObject({ confirmed: 301, suspectedLost: 0 })
  })

  test('and the write go at once where a client waits, once a round trip for all who do', async () => {
    await startTrusted({ lingerMs: 50 })
    cluster.responseMs = 10
    append(producer, 'for nobody')
    append(producer, 'first')!.hurry()
    await pass(1)
    for (let i = 0; i < 20; i++) append(producer, `${i}`)!.hurry()
    await pass(4)
    expect(wire()).toEqual(['Produce 0', ...barrier])
    await passUntil(() => producer.stats.confirmed === 23, 50)
    expect(wire()).toEqual(['Produce 0', ...barrier, 'Produce 0', ...barrier])
  })

  test('that is never answered ends the connection after request.timeout.ms', async () => {
    await startTrusted({ requestTimeoutMs: 500 })
    cluster.responsesToLose = 2
    append(producer, 'a')
    await pass(700)
    expect(producer.stats).toMatchObject({ suspectedLost: 1, inFlight: 0 })
    expect(values()).toHaveLength(2)
    append(producer, 'b')
    await passUntil(() => producer.stats.confirmed === 2, 1_500)
    expect(wire().slice(-4)).toEqual(['high_watermark', 'Produce 1', ...barrier])
  })

  test('goes at once when it can and max.in.flight is reached, which is never passed', async () => {
    await startTrusted({ maxInFlight: 3, lingerMs: 0, batchSizeBytes: 100 })
    cluster.responseMs = 40
    for (let i = 0; i < 10; i++) append(producer, `${i}`.padEnd(40))
    await pass(30)
    expect(wire()).toEqual(['Produce 0', ...barrier, 'Produce 0', 'Produce 0'])
    expect(producer.stats.inFlight).toBe(3)
    await pass(500)
    expect(producer.stats.confirmed).toBe(11)
  })
})

describe('a connection that ends', () => {
  test('leaves suspects, which are not sent again; the rest waits and arrives in order', async () => {
    await startTrusted()
    const before = await flow(500)
    cluster.kill(1)
    const during = await flow(500)
    cluster.restart(1, 200)
    const after = await flow(1_500)
    await pass(500)
    const { stats } = producer
    const stored = values().slice(1)
    expect(stats.confirmed + stats.suspectedLost).toBe(1 + before + during + after)
    expect(stats.suspectedLost).toBeGreaterThan(0)
    // What two confirm intervals carry.
    expect(stats.suspectedLost).toBeLessThanOrEqual(45)
    expect(stored.length).toBeGreaterThanOrEqual(stats.confirmed - 1)
    expect(stored.length).toBeLessThanOrEqual(before + during + after)
    const told = fixture.logs.lines.filter(({ message }) => message.startsWith('broker is'))
    expect(told.map(({ message }) => message)).toEqual([
      'broker is away; records wait in the buffer',
      'broker is back',
    ])
  })

  test('for any error of an acks=0 write: what was behind it is suspected, too', async () => {
    await startTrusted({ lingerMs: 0, batchSizeBytes: 100 })
    cluster.topics.get('events')!.partitions[0]!.refusals.push(2)
    for (let i = 0; i < 5; i++) append(producer, `${i}`.padEnd(40))
    await pass(1_000)
    expect(producer.stats).toMatchObject({ suspectedLost: 5, confirmed: 1 })
    expect(values()).toHaveLength(1)
  })

  test.each([
    { everyMs: 100, serviceMs: 1, most: 100, what: 'after a write' },
    { everyMs: 5, serviceMs: 20, most: 30, what: 'before it served anything' },
  ])(
    'does not make a storm of others, when the broker ends them $what',
    async ({ everyMs, serviceMs, most }) => {
      await startTrusted()
      cluster.serviceMs = serviceMs
      const startMs = performance.now()
      while (performance.now() - startMs < 10_000) {
        append(producer, 'x')
        cluster.cutConnections(1)
        await pass(everyMs)
      }
      const tries = cluster.connects.filter(({ atMs }) => atMs > startMs)
      // In ten seconds, once for the stream and once for metadata.
      expect(tries.length).toBeLessThan(2 * most)
      expect(tries.length).toBeGreaterThan(10)
    },
  )

  test('records that wait longer than delivery.timeout.ms expire', async () => {
    await startTrusted({ deliveryTimeoutMs: 2_000 })
    cluster.kill(1)
    await pass(50)
    append(producer, 'a')
    await pass(1_900)
    expect(producer.stats.buffered).toBe(1)
    await pass(1_200)
    expect(producer.stats).toMatchObject({ buffered: 0 })
    expect(producer.stats.dropped.expired).toBe(1)
  })
})

describe('a topic that takes less than before', () => {
  /** Events of which every second is too large from now on, as far as they would be let in. */
  async function mixed(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const value = 'x'.repeat(i % 2 === 0 ? 10 : 1_500)
      if (value.length <= producer.maxRecordBytes) append(producer, value)
      await pass(10)
    }
  }

  test('ends a connection once, and then nothing too large is taken', async () => {
    await startTrusted({ lingerMs: 0 })
    cluster.topics.get('events')!.maxMessageBytes = 1_000
    const connects = cluster.connects.length
    await mixed(500)
    expect(producer.maxRecordBytes).toBeLessThan(1_000)
    expect(cluster.connects.length - connects).toBe(1)
    expect(producer.stats.suspectedLost).toBeLessThan(5)
  })

  test('that is known as soon as the broker says so by name', async () => {
    await start({ lingerMs: 0 })
    cluster.topics.get('events')!.maxMessageBytes = 1_000
    append(producer, 'x'.repeat(1_500))
    await pass(500)
    expect(producer.stats.dropped.message_too_large).toBe(1)
    expect(producer.maxRecordBytes).toBeLessThan(1_000)
  })
})

describe('the broker refuses an acks=1 write', () => {
  test.each([
    [10, 'message_too_large'],
    [3, 'unknown_topic'],
    [87, 'invalid_record'],
    [32, 'invalid_timestamp'],
    [6, 'not_leader_or_follower'],
  ] as const)('error %i: dropped as %s, and not sent again', async (errorCode, reason) => {
    await start()
    cluster.topics.get('events')!.partitions[0]!.refusals.push(errorCode)
    append(producer, 'a')
    await pass(1_000)
    expect(producer.stats.dropped[reason]).toBe(1)
    expect(produces()).toHaveLength(1)
    append(producer, 'b')
    await pass(1_000)
    expect(values()).toEqual(['b'])
  })

  test.each([6, 7, 20, 56, -1])('error %i: it may be stored, so it is suspected lost', async (errorCode) => {
    await start({ acks: -1 })
    cluster.topics.get('events')!.partitions[0]!.refusals.push(errorCode)
    append(producer, 'a')
    await pass(1_000)
    expect(producer.stats).toMatchObject({ suspectedLost: 1 })
    expect(produces()).toHaveLength(1)
  })

  test('because it is forbidden: no other record is risked, and the broker is asked without one', async () => {
    await start()
    append(producer, 'before')
    await passUntil(() => producer.stats.confirmed === 1)
    // Metadata is as it was: the leader alone knows.
    vi.spyOn(fixture.metadata, 'topic').mockReturnValue(fixture.metadata.topic('events'))
    cluster.topics.get('events')!.isReadOnly = true
    append(producer, 'on its way')
    await passUntil(() => producer.admission === 'not_authorized', 1_000)
    for (const value of ['a', 'b']) append(producer, value)
    const begun = produces().length
    await pass(3_000)
    expect(produces()).toHaveLength(begun)
    expect(producer.obstacle).toEqual({
      summary: 'WRITE on topic events is not permitted',
      cause: expect.stringContaining('TOPIC_AUTHORIZATION_FAILED') as unknown,
    })
    cluster.topics.get('events')!.isReadOnly = false
    await passUntil(() => producer.stats.confirmed === 3, 2_000)
    expect(producer.admission).toBe('open')
    expect(values()).toEqual(['before', 'a', 'b'])
    expect(producer.stats).toMatchObject({ suspectedLost: 1, recordErrorTotal: 1 })
  })
})

describe('confirm: off', () => {
  test('the end waits until the broker has handled what the kernel took', async () => {
    await startTrusted({ confirmIntervalMs: null })
    cluster.stop(1)
    append(producer, 'last')
    await passUntil(() => producer.stats.sent === 1)
    let isClosed = false
    void producer.close(performance.now() + 5_000).then(() => (isClosed = true))
    await pass(500)
    expect([isClosed, values()]).toEqual([false, ['warm-up 0']])
    cluster.resume(1)
    await passUntil(() => isClosed)
    expect(values()).toContain('last')
  })

  test('gives sent as soon as the kernel has the bytes, and no barrier', async () => {
    await startTrusted({ confirmIntervalMs: null })
    const count = await flow(300)
    expect(producer.stats).toMatchObject({ sent: count, confirmed: 1, inFlight: 0 })
    expect(wire()).not.toContain('log_end')
  })

  test('a socket that takes nothing more holds writing back', async () => {
    await startTrusted({ confirmIntervalMs: null, bufferMemoryBytes: 4 << 20 })
    cluster.stop(1)
    const value = 'x'.repeat(10_000)
    while (append(producer, value) !== null) await pass(1)
    const { stats } = producer
    expect(stats.inFlight * 10_000).toBeLessThan(1.2 * (1 << 20))
    expect(stats.buffered).toBeGreaterThan(200)
    expect(stats.bufferAvailableBytes).toBeGreaterThanOrEqual(0)
    cluster.resume(1)
    await pass(5_000)
    expect(sumOfOutcomes(producer.stats)).toBe(producer.stats.accepted)
    expect(producer.stats.suspectedLost).toBe(0)
  })
})

describe.each([1, -1] as const)('acks=%i', (acks) => {
  test('gives confirmed with offsets, in order, many in flight', async () => {
    await startTrusted({ acks, lingerMs: 0, batchSizeBytes: 100 })
    cluster.responseMs = 50
    const settled = vi.fn()
    for (let i = 0; i < 10; i++)
      append(producer, `${i}`.padEnd(40))!.onSettled((settlement) => settled(settlement))
    await pass(40)
    expect(produces().map((request) => request.acks)).toEqual(Array.from({ length: 10 }, () => acks))
    await passUntil(() => producer.stats.confirmed === 11, 300)
    await settlePromises()
    const offsets = settled.mock.calls.map(([{ outcome, baseOffset }]) => `${outcome} ${baseOffset}`)
    expect(offsets).toEqual(Array.from({ length: 10 }, (_, i) => `confirmed ${i + 1}`))
  })

  test('never sends again: an answer that is lost leaves a suspect', async () => {
    await startTrusted({ acks, requestTimeoutMs: 300 })
    cluster.responsesToLose = 1
    append(producer, 'a')
    await pass(2_000)
    expect(producer.stats.suspectedLost).toBe(1)
    expect(values().filter((value) => value === 'a')).toHaveLength(1)
  })
})

describe('a broker that answers the high watermark for the end of its log', () => {
  /** Records that others write to the partition, as fast as this gateway does. */
  function othersWrite(): void {
    cluster.topics.get('events')!.partitions[0]!.appendOf('others', 1)
  }

  test.each([
    ['alone', () => {}],
    ['beside others', othersWrite],
  ])('confirms nothing that its replicas do not have: %s', async (_, meanwhile) => {
    await start({ nodes: 2 })
    cluster.tellsLogEnd = false
    cluster.replicationMs = 30
    const settlements = new Map<string, Settlement>()
    for (let i = 0; i < 200; i++) {
      const value = `${i}`
      append(producer, value)!.onSettled((settlement) => void settlements.set(value, settlement))
      meanwhile()
      await pass(5)
    }
    expect(producer.stats.confirmed).toBeGreaterThan(100)
    cluster.kill(1)
    cluster.moveLeader('events', 0, 2)
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 5_000)
    await settlePromises()
    const stored = new Set(values())
    const lost = [...settlements].filter(([value]) => !stored.has(value))
    expect(lost.length).toBeGreaterThan(0)
    for (const [, { outcome }] of lost) expect(outcome).toBe('suspected_lost')
  })

  test('is said once, and from then on each write is answered', async () => {
    await start({ nodes: 2 })
    expect(producer.stats.confirmation).toBe('log_end')
    cluster.tellsLogEnd = false
    cluster.replicationMs = 30
    const count = await flow(1_000)
    expect(producer.stats.confirmation).toBe('acks_1')
    expect(produces().every(({ acks }) => acks === 1)).toBe(true)
    cluster.cutConnections(1)
    const more = await flow(1_000)
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 5_000)
    const { confirmed, suspectedLost } = producer.stats
    expect(confirmed + suspectedLost).toBe(count + more)
    expect(suspectedLost).toBeLessThan(40)
    const told = fixture.logs.lines.filter(({ message }) => message.includes('where its log ends'))
    expect(told).toMatchObject([{ level: 'warn', fields: { broker: 'node-1:9092' } }])
  })

  test('is looked at anew where a broker comes back at another address, whatever the one before told', async () => {
    await start({ nodes: 2 })
    cluster.tellsLogEnd = false
    await flow(1_000)
    expect(producer.stats.confirmation).toBe('acks_1')
    const node = cluster.nodes.get(1)!
    const move = async (host: string, tellsLogEnd: boolean): Promise<void> => {
      node.host = host
      cluster.tellsLogEnd = tellsLogEnd
      cluster.cutConnections(1)
      fixture.metadata.refresh()
      await flow(3_000)
    }
    await move('kafka-1', true)
    expect(producer.stats.confirmation).toBe('log_end')
    await move('other-1', false)
    expect(producer.stats.confirmation).toBe('acks_1')
    const told = fixture.logs.lines.filter(({ message }) => message.includes('where its log ends'))
    expect(told.map(({ fields }) => (fields as { broker: string }).broker)).toEqual([
      'node-1:9092',
      'other-1:9092',
    ])
  })

  test('is found out without replicas, too, where it lags behind itself, and nothing is lost by it', async () => {
    await startTrusted()
    cluster.tellsLogEnd = false
    cluster.replicationMs = 15
    const count = await flow(1_000)
    await pass(500)
    expect(producer.stats).toMatchObject({
      confirmed: count + 1,
      suspectedLost: 0,
      confirmation: 'acks_1',
    })
  })

  test('gets no write to be answered before a barrier covers those that nobody answers', async () => {
    await startTrusted({ lingerMs: 0 })
    cluster.responseMs = 5
    cluster.tellsLogEnd = false
    cluster.replicationMs = 500
    const count = await flow(1_000, 2)
    await pass(2_000)
    append(producer, 'last')
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 5_000)
    const order = wire()
    const between = order.slice(order.lastIndexOf('Produce 0'), order.indexOf('Produce 1'))
    expect(between).toEqual(['Produce 0', ...barrier])
    expect(producer.stats).toMatchObject({ confirmed: count + 2, suspectedLost: 0 })
  })
})

describe('replicas that stand still', () => {
  /** What of the records that were written no replica has. */
  function ahead(): number {
    return producer.stats.inFlight
  }

  test('hold writing to their partition back, and to no other; then it goes on at once', async () => {
    await startTrusted({ nodes: 2, partitions: 2, confirmIntervalMs: 20 })
    const [still] = cluster.topics.get('events')!.partitions
    const both = async (forMs: number): Promise<void> => {
      for (let ms = 0; ms < forMs; ms += 5) {
        append(producer, 'still', keyFor(0, 2))
        append(producer, 'moves', keyFor(1, 2))
        await pass(5)
      }
    }
    await both(500)
    still!.isFrozen = true
    const before = producer.stats.confirmed
    await both(5_000)
    // What five intervals carry, at a record every 5 ms.
    expect(ahead()).toBeLessThanOrEqual(20 + 8)
    expect(producer.stats.confirmed - before).toBeGreaterThan(990)
    expect(producer.stats.buffered).toBeGreaterThan(900)
    still!.isFrozen = false
    const thawedAtMs = performance.now()
    await passUntil(() => producer.stats.buffered === 0)
    expect(performance.now() - thawedAtMs).toBeLessThan(25)
    await passUntil(() => producer.stats.inFlight === 0)
    expect(producer.stats.suspectedLost).toBe(0)
  })

  test('and a leader that is killed then cost what a few intervals carry', async () => {
    await startTrusted({ nodes: 2, confirmIntervalMs: 20 })
    await flow(500)
    cluster.topics.get('events')!.partitions[0]!.isFrozen = true
    await flow(5_000)
    cluster.kill(1)
    cluster.moveLeader('events', 0, 2)
    cluster.topics.get('events')!.partitions[0]!.isFrozen = false
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 5_000)
    const { accepted, suspectedLost, confirmed } = producer.stats
    expect(suspectedLost).toBeLessThanOrEqual(25)
    expect(confirmed + suspectedLost).toBe(accepted)
  })

  test.each([5, 50, 200])('that are always %i ms behind hold nothing back', async (lagMs) => {
    await startTrusted({ nodes: 2, confirmIntervalMs: 20 })
    cluster.replicationMs = lagMs
    await flow(1_000, 2)
    let mostWaiting = 0
    for (let i = 0; i < 500; i++) {
      append(producer, 'x')
      await pass(2)
      mostWaiting = Math.max(mostWaiting, producer.stats.buffered)
    }
    // What lingers for 5 ms.
    expect(mostWaiting).toBeLessThanOrEqual(6)
  })

  test('as with too few in sync: the buffer fills, an operator is told once, and all of it arrives afterwards', async () => {
    await startTrusted({ nodes: 2, confirmIntervalMs: 20, bufferMemoryBytes: 40_000 })
    const [partition] = cluster.topics.get('events')!.partitions
    partition!.isFrozen = true
    let isRefused = false
    for (let i = 0; i < 4_000; i++) {
      isRefused ||= append(producer, 'x'.repeat(50)) === null
      await pass(5)
    }
    expect(isRefused).toBe(true)
    const told = fixture.logs.lines.filter(({ message }) => message.startsWith('replicas do not fetch'))
    expect(told).toMatchObject([{ level: 'warn', fields: { topic: 'events', broker: 1, partitions: [0] } }])
    partition!.isFrozen = false
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 2_000)
    expect(producer.stats.confirmed).toBe(producer.stats.accepted)
  })

  test('at shutdown what waits is written: there is no later moment', async () => {
    await startTrusted({ nodes: 2, confirmIntervalMs: 20 })
    cluster.topics.get('events')!.partitions[0]!.isFrozen = true
    await flow(2_000)
    const closing = producer.close(performance.now() + 1_000)
    await pass(1_100)
    await closing
    expect(producer.stats.dropped.shutdown).toBe(0)
    expect(values()).toHaveLength(producer.stats.accepted)
  })
})

describe('leaders', () => {
  test('that move are followed, and the other partitions go on', async () => {
    await startTrusted({ nodes: 2, partitions: 2 })
    cluster.moveLeader('events', 1, 1)
    const count = await flow(1_000)
    await pass(500)
    const { stats } = producer
    expect(stats.confirmed + stats.suspectedLost).toBe(count + 2)
    expect(stats.suspectedLost).toBeLessThan(60)
    const last = produces().at(-1)!
    expect(last.nodeId).toBe(1)
  })

  test('that die leave their partition waiting and no other', async () => {
    await startTrusted({ nodes: 2, partitions: 2 })
    cluster.kill(2)
    await pass(1_500)
    const begun = producer.stats.confirmed
    for (let i = 0; i < 10; i++) {
      append(producer, `dead ${i}`, keyFor(1, 2))
      append(producer, `alive ${i}`, keyFor(0, 2))
      await pass(20)
    }
    await pass(200)
    expect(producer.stats).toMatchObject({ confirmed: begun + 10, buffered: 10 })
    cluster.moveLeader('events', 1, 1)
    await passUntil(() => producer.stats.confirmed === begun + 20, 1_000)
  })

  test('that stand still are left as soon as another leads', async () => {
    await startTrusted({ nodes: 2, partitions: 2 })
    cluster.stop(2)
    for (let i = 0; i < 20; i++) {
      append(producer, `${i}`, keyFor(1, 2))
      await pass(50)
    }
    expect(producer.stats.buffered).toBeGreaterThan(0)
    cluster.moveLeader('events', 1, 1)
    await passUntil(() => producer.stats.buffered === 0, 1_500)
  })

  test('that die take along what the replicas did not have, and none of that was confirmed', async () => {
    await startTrusted({ nodes: 2 })
    cluster.replicationMs = 150
    const settlements = new Map<string, Settlement>()
    const watch = (value: string): void =>
      append(producer, value)!.onSettled((settlement) => void settlements.set(value, settlement))
    for (let i = 0; i < 60; i++) {
      watch(`before ${i}`)
      await pass(10)
    }
    cluster.kill(1)
    cluster.moveLeader('events', 0, 2)
    watch('after')
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 5_000)
    await settlePromises()
    const stored = new Set(values())
    const lost = [...settlements].filter(([value]) => !stored.has(value))
    expect(lost.length).toBeGreaterThan(5)
    for (const [, { outcome }] of lost) expect(outcome).toBe('suspected_lost')
    const { confirmed, suspectedLost } = producer.stats
    expect(confirmed).toBeGreaterThan(30)
    // What was lost, and what the barriers of two intervals and the lag of the replicas left open.
    expect(suspectedLost).toBeLessThanOrEqual(lost.length + 35)
    expect(stored).toContain('after')
  })

  test('that leave the cluster cost no connection any more', async () => {
    await startTrusted({ nodes: 2, partitions: 2 })
    cluster.moveLeader('events', 1, 1)
    cluster.kill(2)
    await pass(8_000)
    const tries = cluster.connects.length
    await pass(20_000)
    expect(cluster.connects.slice(tries)).toEqual([])
    expect(producer.stats.connected).toBe(true)
  })
})

test('a session that is about to expire is replaced once, when nothing is pending on it', async () => {
  await startTrusted()
  const connects = cluster.connects.length
  append(producer, 'a')
  await pass(10)
  cluster.expireSessions()
  append(producer, 'b')
  await passUntil(() => producer.stats.confirmed === 3, 3_000)
  expect(producer.stats.suspectedLost).toBe(0)
  await pass(10_000)
  // The stream's own connection and the one for metadata.
  expect(cluster.connects.length - connects).toBe(2)
  expect([...cluster.connections].filter(({ isOpen, renewAtMs }) => isOpen && renewAtMs < Infinity)).toEqual(
    [],
  )
})

describe('the end of a session', () => {
  const everyConfig: Partial<ProducerConfig>[] = [{}, { confirmIntervalMs: null }, { acks: 1 }, { acks: -1 }]

  test.each(isLong ? everyConfig : everyConfig.slice(0, 1))(
    'costs neither a record nor the order nor a pause, and alarms nobody (%o)',
    async (config) => {
      await start({ ...config, partitions: 2, lingerMs: 1 })
      cluster.cutConnections(1)
      cluster.sessionMs = 1_000
      await passUntil(() => !producer.stats.connected)
      await passUntil(() => producer.stats.connected)
      const begun = fixture.logs.lines.length
      const count = 6_000
      for (let i = 0; i < count; i++) {
        append(producer, `${i}`, keyFor(i % 2, 2))
        await pass(1)
      }
      await pass(500)
      const { confirmed, sent, recordErrorTotal } = producer.stats
      expect({ ended: confirmed + sent, recordErrorTotal }).toEqual({ ended: count, recordErrorTotal: 0 })
      for (const log of cluster.stored('events')) {
        const numbers = log.map(({ value }) => Number(value))
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
        expect(numbers).toHaveLength(count / 2)
      }
      const times = produces().map(({ atMs }) => atMs)
      const pauses = times.slice(1).map((time, index) => time - times[index]!)
      expect(Math.max(...pauses.slice(10))).toBeLessThan(40)
      expect(cluster.connects.length).toBeGreaterThan(10)
      expect(fixture.logs.lines.slice(begun).filter(({ level }) => level === 'warn')).toEqual([])
    },
  )

  test('holds nothing up where the next connection ends before the old one has drained', async () => {
    await startTrusted({ confirmIntervalMs: null })
    const before = new Set(cluster.connections)
    const node = cluster.nodes.get(1)!
    node.extraResponseMs = 200
    const nexts = (): ModelConnection[] =>
      [...cluster.connections].filter((connection) => !before.has(connection) && connection.isOpen)
    cluster.expireSessions()
    for (let i = 0; i < 40; i++) {
      await pass(50)
      for (const next of nexts()) next.destroy(new Error('cut'))
    }
    node.extraResponseMs = 0
    await passUntil(() => nexts().length > 0, 3_000)
    await pass(3_000)
    append(producer, 'a')
    await passUntil(() => producer.stats.sent === 1, 3_000)
    expect(producer.stats.suspectedLost).toBe(0)
  })

  test('comes all the same where no next connection can be made, and is an outage then', async () => {
    await startTrusted()
    cluster.cutConnections(1)
    cluster.sessionMs = 1_000
    await passUntil(() => !producer.stats.connected)
    await passUntil(() => producer.stats.connected)
    const connect = vi.spyOn(cluster, 'connect').mockRejectedValue(new AuthenticationError('no such user'))
    for (let i = 0; i < 20; i++) {
      append(producer, `${i}`)
      await pass(100)
    }
    expect(producer.admission).toBe('not_authorized')
    expect(producer.obstacle).toEqual({
      summary: 'Kafka does not accept the credentials',
      cause: 'no such user',
    })
    connect.mockRestore()
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 3_000)
    expect(producer.admission).toBe('open')
  })
})

test('the broker is left alone for as long as it asks', async () => {
  await start()
  cluster.throttleTimeMs = 70
  append(producer, 'a')
  await pass(50)
  expect([...cluster.connections].flatMap(({ throttledMs }) => throttledMs)).toEqual([70])
})

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { seededRandom } from '../../../../support/fault-run.ts'
import { ModelCluster } from '../../../../support/model-broker.ts'
import { append, ProducerFixture, streamConfig, keyFor } from '../../../../support/producer-fixture.ts'
import { sumOfOutcomes } from '../../../../support/producer-stats.ts'
import { pass, passUntil, useVirtualClock } from '../../../../support/virtual-clock.ts'
import type { ProducerConfig } from '../../../../../src/config/config.ts'
import type { Settlement } from '../../../../../src/kafka/producer/producer.ts'
import type { StreamProducer } from '../../../../../src/kafka/producer/stream-producer.ts'

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
  fixture = new ProducerFixture(cluster, [streamConfig('events', 'at-least-once', overrides)])
  await fixture.start()
  producer = fixture.producer
  await passUntil(() => producer.stats.connected)
}

function values(): string[] {
  return cluster.stored('events').flatMap((log) => log.map(({ value }) => value))
}

function produces(): ModelCluster['requests'] {
  return cluster.requests.filter(({ api }) => api === 'Produce')
}

/** Gets the connection and the producer id out of the way: one record to each of two partitions. */
async function warmUp(): Promise<void> {
  append(producer, 'warm-up 0', key0)
  append(producer, 'warm-up 1', key1)
  await passUntil(() => producer.stats.acked === 2)
}

async function warmUpOne(): Promise<void> {
  append(producer, 'warm-up')
  await passUntil(() => producer.stats.acked === 1)
}

/** Text that no codec makes smaller by much. */
function randomText(length: number): string {
  return Array.from({ length }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join('')
}

/** A key of each of two partitions. */
const [key0, key1] = [keyFor(0, 2), keyFor(1, 2)]

test('a record is acknowledged by all replicas, with its offset', async () => {
  await start()
  append(producer, 'first')
  await pass(50)
  const settled = vi.fn()
  append(producer, 'second')!.onSettled((settlement) => settled(settlement))
  await pass(50)
  expect(produces().map(({ acks }) => acks)).toEqual([-1, -1])
  expect(settled).toHaveBeenCalledExactlyOnceWith({
    outcome: 'acked',
    reason: null,
    partition: 0,
    baseOffset: 1n,
    firstPlace: 0,
    recordCount: 1,
  })
})

test('one batch a partition is in flight', async () => {
  await start({ lingerMs: 0, batchSizeBytes: 100 })
  await warmUp()
  cluster.responseMs = 100
  const begun = produces().length
  for (let i = 0; i < 5; i++) append(producer, `${i}`.padEnd(50))
  await pass(95)
  expect(produces()).toHaveLength(begun + 1)
  await pass(500)
  expect(values().slice(2).map(Number)).toEqual([0, 1, 2, 3, 4])
})

/** Records that share a batch: appended in one turn. */
function appendTogether(texts: readonly string[]): Settlement[] {
  const settlements: Settlement[] = []
  const batches = new Set(texts.map((value) => append(producer, value)!))
  for (const batch of batches) batch.onSettled((settlement) => settlements.push(settlement))
  return settlements
}

describe('a batch that the broker refuses for what is in it', () => {
  test.each<Partial<ProducerConfig>>([
    { compressionType: 'none' },
    { compressionType: 'gzip' },
    { compressionType: 'snappy' },
    { compressionType: 'lz4' },
  ])('is split where it is too large, and its halves land once, in order (%o)', async (config) => {
    await start({ ...config, lingerMs: 20 })
    await warmUpOne()
    cluster.topics.get('events')!.maxMessageBytes = 400
    const sent = Array.from({ length: 37 }, (_, i) => `${i}:${randomText(60)}`)
    const settlements = appendTogether(sent)
    await passUntil(() => producer.stats.acked === 38)
    const [log] = cluster.stored('events')
    expect(log!.slice(1).map(({ value }) => value)).toEqual(sent)
    expect(producer.stats).toMatchObject({ inFlight: 0, buffered: 0, recordErrorTotal: 0 })
    expect(producer.stats.bufferAvailableBytes).toBe(producer.stats.bufferTotalBytes)
    // Each record's offset is told: its part's, and its place in it.
    const told = settlements.flatMap(({ baseOffset, firstPlace, recordCount }) =>
      Array.from({ length: recordCount }, (_, i) => [firstPlace + i, Number(baseOffset) + i]),
    )
    expect(told.toSorted(([one], [other]) => one! - other!)).toEqual(sent.map((_, i) => [i, i + 1]))
    // The parts share the sequence of the whole: no gap, and so no other identity.
    expect(cluster.requests.filter(({ api }) => api === 'InitProducerId')).toHaveLength(1)
  })

  test('one record that is too large is refused, and no other with it', async () => {
    await start({ lingerMs: 20 })
    await warmUpOne()
    cluster.topics.get('events')!.maxMessageBytes = 400
    appendTogether(['a', 'b', 'x'.repeat(500), 'c'])
    await passUntil(() => producer.stats.acked === 4)
    append(producer, 'behind')
    await passUntil(() => producer.stats.acked === 5)
    expect(values()).toEqual(['warm-up', 'a', 'b', 'c', 'behind'])
    expect(producer.stats.dropped.message_too_large).toBe(1)
  })

  test('what the topic takes at most is looked up at once', async () => {
    await start()
    await warmUpOne()
    cluster.topics.get('events')!.maxMessageBytes = 400
    append(producer, 'x'.repeat(500))
    await passUntil(() => producer.maxRecordBytes < 400, 1_000)
  })

  test('one record that is not what the topic wants does not take the others along', async () => {
    await start({ lingerMs: 20 })
    await warmUpOne()
    cluster.topics.get('events')!.partitions[0]!.refuses = (value) => value === 'bad'
    appendTogether(['a', 'bad', 'b', 'c', 'd'])
    await passUntil(() => producer.stats.acked === 5)
    expect(values()).toEqual(['warm-up', 'a', 'b', 'c', 'd'])
    expect(producer.stats.dropped.invalid_record).toBe(1)
  })

  test('a part that may be stored at the end is suspected lost, a part that waits behind it is not', async () => {
    await start({ lingerMs: 20, requestTimeoutMs: 300 })
    await warmUpOne()
    cluster.topics.get('events')!.maxMessageBytes = 300
    appendTogether(['a'.padEnd(200), 'b'.padEnd(200)])
    await passUntil(() => produces().at(-1)!.errorCodes.includes(10))
    cluster.stop(1)
    await pass(50)
    producer.abort()
    const { suspectedLost, dropped, inFlight, buffered } = producer.stats
    expect([suspectedLost, dropped.shutdown, inFlight, buffered]).toEqual([1, 1, 0, 0])
  })
})

describe('sending again', () => {
  test('a batch whose answer was lost is stored once with idempotence', async () => {
    await start({ requestTimeoutMs: 300 })
    cluster.responsesToLose = 2
    append(producer, 'a')
    await passUntil(() => producer.stats.acked === 1, 5_000)
    expect(values()).toEqual(['a'])
    expect(cluster.requests.filter(({ api }) => api === 'InitProducerId')).not.toHaveLength(0)
  })

  test('without idempotence it is stored twice, which at-least-once allows', async () => {
    await start({ enableIdempotence: false, requestTimeoutMs: 300 })
    cluster.responsesToLose = 1
    append(producer, 'a')
    await passUntil(() => producer.stats.acked === 1, 5_000)
    expect(values()).toEqual(['a', 'a'])
  })

  test('waits for retry.backoff.ms, each partition for its own', async () => {
    await start({ partitions: 2, retryBackoffMs: 200, lingerMs: 0 })
    await warmUp()
    const [first, second] = cluster.topics.get('events')!.partitions
    first!.refusals.push(19)
    second!.refusals.push(19)
    const begun = produces().length
    append(producer, 'x', key0)
    await pass(100)
    append(producer, 'y', key1)
    await pass(1_000)
    const [refusedX, refusedY, againX, againY] = produces().slice(begun)
    expect(refusedX!.partitions).not.toEqual(refusedY!.partitions)
    expect(againX!.atMs - refusedX!.atMs).toBeGreaterThanOrEqual(200)
    expect(againX!.atMs - refusedX!.atMs).toBeLessThan(215)
    expect(againY!.atMs - refusedY!.atMs).toBeGreaterThanOrEqual(200)
    expect(againY!.atMs - refusedY!.atMs).toBeLessThan(215)
  })

  test('ends when the retries are used up', async () => {
    await start({ retries: 2 })
    cluster.topics.get('events')!.partitions[0]!.refusals.push(19, 19, 19)
    append(producer, 'a')
    await pass(1_000)
    expect(produces()).toHaveLength(3)
    expect(producer.stats.dropped.not_enough_replicas).toBe(1)
    expect(values()).toEqual([])
  })

  test('a half of a batch has the try that split it behind it, and none that was spared for the batch', async () => {
    await start({ retries: 1, lingerMs: 20 })
    await warmUpOne()
    // The shared connection ends before the broker has read the batch, which costs no try. Then the batch is too large.
    cluster.serviceMs = 50
    appendTogether(['a', 'b'])
    await pass(40)
    cluster.cutConnections(1)
    cluster.serviceMs = 1
    cluster.topics.get('events')!.partitions[0]!.refusals.push(10, 19)
    await pass(5_000)
    expect(values()).toEqual(['warm-up', 'b'])
    expect(producer.stats).toMatchObject({ acked: 2, suspectedLost: 1 })
  })

  test.each([true, false])(
    'a batch goes again whose answer was cut off (enable.idempotence: %o)',
    async (enableIdempotence) => {
      await start({ enableIdempotence })
      await warmUpOne()
      let left = 1
      for (const connection of cluster.connections) {
        const call = connection.call.bind(connection)
        connection.call = (request, onResponse, onError) => {
          const isCutOff = request.apiName === 'Produce' && left-- > 0
          call(request, (payload) => onResponse(isCutOff ? payload.subarray(0, 9) : payload), onError)
        }
      }
      append(producer, 'a')
      await pass(5_000)
      expect(producer.stats).toMatchObject({ acked: 2, inFlight: 0 })
      expect(produces()).toHaveLength(3)
    },
  )

  test('delivery.timeout.ms ends a batch whose answers are always late, in whatever moment of the second', async () => {
    await start({ deliveryTimeoutMs: 3_000, retryBackoffMs: 10 })
    await warmUpOne()
    cluster.topics.get('events')!.partitions[0]!.refusals.push(...Array.from({ length: 100 }, () => 19))
    cluster.serviceMs = 900
    // A look each second finds a request under way nearly always.
    for (const ms of [0, 300, 600]) {
      await pass(ms)
      append(producer, `${ms}`)
      const { accepted } = producer.stats
      await passUntil(() => sumOfOutcomes(producer.stats) === accepted, 5_500)
    }
    expect(producer.stats.dropped.expired).toBe(3)
  })

  test.each([6, 20])(
    'error %i: a batch that may be stored when the retries are used up is suspected lost',
    async (errorCode) => {
      await start({ retries: 1 })
      cluster.topics.get('events')!.partitions[0]!.refusals.push(errorCode, 19)
      append(producer, 'a')
      await pass(1_000)
      expect(producer.stats).toMatchObject({ suspectedLost: 1, recordErrorTotal: 1 })
    },
  )

  test('a batch that is refused for good does not hold up what is behind it', async () => {
    await start()
    cluster.topics.get('events')!.partitions[0]!.refusals.push(87)
    append(producer, 'refused')
    await pass(20)
    append(producer, 'next')
    await pass(200)
    expect(values()).toEqual(['next'])
    expect(producer.stats.dropped.invalid_record).toBe(1)
  })

  test('a refusal in one partition does not make another store a batch twice', async () => {
    await start({ partitions: 2, requestTimeoutMs: 300, lingerMs: 0 })
    await warmUp()
    const stored = values().length
    // Stored, as far as this partition knows, but its answer says that the replicas did not follow.
    cluster.topics.get('events')!.partitions[0]!.refusals.push(20)
    cluster.topics.get('events')!.partitions[1]!.refusals.push(87)
    for (const key of [key0, key1]) append(producer, `again ${key}`, key)
    await pass(1_000)
    expect(producer.stats.buffered + producer.stats.inFlight).toBe(0)
    expect(producer.stats.dropped.invalid_record).toBeGreaterThan(0)
    const now = values()
    expect(new Set(now).size).toBe(now.length)
    expect(now.length).toBeGreaterThan(stored)
  })

  test.each([45, 47, 59, 90])(
    'under a new identity where the broker lost ours (error %i)',
    async (errorCode) => {
      await start()
      await warmUp()
      cluster.topics.get('events')!.partitions[0]!.refusals.push(errorCode)
      append(producer, 'a')
      await pass(300)
      append(producer, 'b')
      await pass(100)
      expect(values().slice(2)).toEqual(['a', 'b'])
      expect(producer.stats).toMatchObject({ acked: 4, recordErrorTotal: 0 })
      expect(cluster.requests.filter(({ api }) => api === 'InitProducerId')).toHaveLength(2)
    },
  )

  test('the same bytes go to the new leader after a move, once', async () => {
    await start({ nodes: 2, requestTimeoutMs: 300 })
    cluster.responsesToLose = 1
    append(producer, 'a')
    await pass(20)
    cluster.moveLeader('events', 0, 2)
    await passUntil(() => producer.stats.acked === 1, 5_000)
    expect(values()).toEqual(['a'])
    expect(produces().at(-1)!.nodeId).toBe(2)
  })

  test('is over when delivery.timeout.ms is', async () => {
    await start({ deliveryTimeoutMs: 2_000 })
    cluster.kill(1)
    await pass(50)
    append(producer, 'a')
    await pass(3_500)
    expect(producer.stats.dropped.expired).toBe(1)
    expect(producer.stats.bufferAvailableBytes).toBe(producer.stats.bufferTotalBytes)
  })
})

test('an outage of any length costs nothing and is told once', async () => {
  await start()
  append(producer, 'before')
  await pass(50)
  cluster.kill(1)
  for (let i = 0; i < 200; i++) {
    append(producer, `${i}`)
    await pass(1_000)
  }
  cluster.restart(1, 500)
  await passUntil(() => producer.stats.acked === 201, 3_000)
  expect(values()).toHaveLength(201)
  const told = fixture.logs.lines.filter(({ message }) => message.startsWith('broker is'))
  expect(told.map(({ message }) => message)).toEqual([
    'broker is away; records wait in the buffer',
    'broker is back',
  ])
})

test('the answers of one broker do not shorten the pause before another is tried', async () => {
  await start({ nodes: 2, partitions: 2, lingerMs: 0 })
  await warmUp()
  cluster.fenceAfterMs = Infinity
  cluster.kill(2)
  const startMs = performance.now()
  while (performance.now() - startMs < 10_000) {
    append(producer, 'x', key0)
    append(producer, 'x', key1)
    await pass(10)
  }
  const tries = cluster.connects.filter(({ nodeId, atMs }) => nodeId === 2 && atMs > startMs)
  expect(tries.length).toBeGreaterThan(10)
  expect(tries.length).toBeLessThan(60)
})

test('the end of a session costs neither a record nor the order nor a pause, and alarms nobody', async () => {
  await start({ partitions: 2, lingerMs: 1 })
  await warmUp()
  cluster.sessionMs = 1_000
  cluster.cutConnections(1)
  await passUntil(() => !producer.stats.connected)
  await passUntil(() => producer.stats.connected)
  const begun = fixture.logs.lines.length
  const begunProduces = produces().length
  for (let i = 0; i < 5_000; i++) {
    append(producer, `${i}`, i % 2 === 0 ? key0 : key1)
    await pass(1)
  }
  await passUntil(() => producer.stats.acked === 5_002, 1_000)
  for (const log of cluster.stored('events')) {
    const numbers = log.slice(1).map(({ value }) => Number(value))
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    expect(numbers).toHaveLength(2_500)
  }
  const times = produces()
    .slice(begunProduces)
    .map(({ atMs }) => atMs)
  const pauses = times.slice(1).map((time, index) => time - times[index]!)
  expect(Math.max(...pauses)).toBeLessThan(40)
  expect(fixture.logs.lines.slice(begun).filter(({ level }) => level === 'warn')).toEqual([])
  // No more connections than there have to be, and none that is left open.
  expect([...cluster.connections].filter(({ isOpen }) => isOpen).length).toBeLessThanOrEqual(3)
})

test('a session that is about to expire is replaced once nothing is in flight', async () => {
  await start()
  append(producer, 'a')
  await pass(50)
  cluster.responseMs = 300
  append(producer, 'b')
  await pass(20)
  cluster.expireSessions()
  append(producer, 'c')
  await pass(250)
  expect(producer.stats.acked).toBe(1)
  await passUntil(() => producer.stats.acked === 3, 4_000)
  expect(values()).toEqual(['a', 'b', 'c'])
})

test('the broker is left alone for as long as it asks', async () => {
  await start()
  cluster.throttleTimeMs = 70
  append(producer, 'a')
  await pass(50)
  expect([...cluster.connections].flatMap(({ throttledMs }) => throttledMs)).toEqual([70])
})

test('at the end, what may be stored is suspected lost and what was never written is dropped', async () => {
  await start({ lingerMs: 0, batchSizeBytes: 100 })
  await warmUp()
  cluster.stop(1)
  append(producer, 'a'.padEnd(60))
  await pass(20)
  append(producer, 'b'.padEnd(60))
  await pass(20)
  producer.abort()
  expect(producer.stats).toMatchObject({ suspectedLost: 1, buffered: 0, inFlight: 0 })
  expect(producer.stats.dropped.shutdown).toBe(1)
})

describe('a refusal that an operator can take back', () => {
  test.each([
    ['TOPIC_AUTHORIZATION_FAILED', 29],
    ['CLUSTER_AUTHORIZATION_FAILED', 31],
    ['TRANSACTIONAL_ID_AUTHORIZATION_FAILED', 53],
    ['UNKNOWN_TOPIC_OR_PARTITION', 3],
  ])('%s holds the batch back, costs none of its tries, and it lands in its order', async (_, errorCode) => {
    await start({ retries: 0 })
    await warmUpOne()
    cluster.topics.get('events')!.partitions[0]!.refusals.push(...Array.from({ length: 5 }, () => errorCode))
    append(producer, 'a')
    await pass(50)
    append(producer, 'b')
    await passUntil(() => producer.stats.acked === 3, 20_000)
    expect(values()).toEqual(['warm-up', 'a', 'b'])
    expect(producer.stats).toMatchObject({ recordErrorTotal: 0, refused: {} })
  })

  test('while a right is missing nothing is sent, and events are refused at the door', async () => {
    await start()
    await warmUpOne()
    cluster.topics.get('events')!.isReadOnly = true
    append(producer, 'a')
    await passUntil(() => producer.admission === 'not_authorized', 1_000)
    const begun = produces().length
    await pass(30_000)
    expect(produces()).toHaveLength(begun)
    expect(producer.obstacle?.summary).toBe('WRITE on topic events is not permitted')
    cluster.topics.get('events')!.isReadOnly = false
    await passUntil(() => producer.stats.acked === 2, 2_500)
    expect(producer.admission).toBe('open')
  })

  test('it ends with delivery.timeout.ms, and what was refused has its reason', async () => {
    await start({ deliveryTimeoutMs: 3_000 })
    await warmUpOne()
    cluster.topics.get('events')!.isReadOnly = true
    append(producer, 'a')
    await pass(100)
    append(producer, 'behind')
    await passUntil(() => producer.stats.buffered + producer.stats.inFlight === 0, 10_000)
    expect(producer.stats.dropped).toMatchObject({ not_authorized: 2, expired: 0 })
    expect(producer.stats.refused).toEqual({ TOPIC_AUTHORIZATION_FAILED: 1 })
  })

  test('a producer id that is not given: named before there is an event, and asked for ever less often', async () => {
    cluster = new ModelCluster([1])
    cluster.createTopic('events', 1)
    cluster.givesProducerIds = false
    fixture = new ProducerFixture(cluster, [streamConfig('events', 'at-least-once')])
    producer = fixture.producer
    fixture.metadata.start()
    await passUntil(() => producer.admission === 'not_authorized', 2_000)
    expect(producer.obstacle?.summary).toContain('IDEMPOTENT_WRITE on the cluster')
    await pass(20_000)
    const asked = cluster.requests.filter(({ api }) => api === 'InitProducerId').length
    expect(asked).toBeGreaterThan(15)
    expect(asked).toBeLessThan(27)
    cluster.givesProducerIds = true
    await passUntil(() => producer.admission === 'open', 1_500)
    append(producer, 'a')
    await passUntil(() => producer.stats.acked === 1)
  })

  test.each(['at-most-once', 'at-least-once'] as const)(
    'where metadata tells no rights, the leader is asked without a record (%s)',
    async (delivery) => {
      cluster = new ModelCluster([1])
      cluster.createTopic('events', 1).isReadOnly = true
      cluster.tellsRights = false
      fixture = new ProducerFixture(cluster, [streamConfig('events', delivery)])
      producer = fixture.producer
      fixture.metadata.start()
      await passUntil(() => producer.admission === 'not_authorized', 2_000)
      await pass(10_000)
      expect(cluster.requests.filter(({ api }) => api === 'Produce')).toEqual([])
      expect(producer.admission).toBe('not_authorized')
      cluster.topics.get('events')!.isReadOnly = false
      await passUntil(() => producer.admission === 'open', 1_500)
      const questions = cluster.requests.filter(({ api }) => api === 'EmptyProduce').length
      append(producer, 'a')
      await pass(10_000)
      expect(producer.stats.acked + producer.stats.confirmed).toBe(1)
      // Once it is known, nobody asks.
      expect(cluster.requests.filter(({ api }) => api === 'EmptyProduce')).toHaveLength(questions)
    },
  )
})

test('a partition that goes out of sight and comes back gets its next record under another identity', async () => {
  await start({ partitions: 4 })
  const key = keyFor(3, 4)
  append(producer, 'before', key)
  await passUntil(() => producer.stats.acked === 1)
  const { partitions } = cluster.topics.get('events')!
  const removed = partitions.splice(2)
  await pass(16_000)
  partitions.push(...removed)
  await pass(6_000)
  append(producer, 'behind', key)
  await passUntil(() => producer.stats.acked === 2)
  // With the sequence 0 of the same producer, the broker would take it for the first record.
  expect(cluster.stored('events')[3]!.map(({ value }) => value)).toEqual(['before', 'behind'])
})

test('of partitions whose batches do not fit in one request, none is last each time', async () => {
  await start({
    partitions: 2,
    lingerMs: 0,
    batchSizeBytes: 14_000,
    maxRequestSizeBytes: 15_000,
    deliveryTimeoutMs: 2_000,
  })
  await warmUp()
  cluster.responseMs = 40
  // Whenever an answer comes, the second partition, which goes first, has a batch, and the first one has no room beside it.
  for (let nth = 0; nth < 400; nth++) {
    append(producer, 'x'.repeat(3_000), key1)
    if (nth % 8 === 0) append(producer, 'x'.repeat(12_000), key0)
    await pass(20)
  }
  await passUntil(() => producer.stats.acked + producer.stats.dropped.expired === 452, 10_000)
  expect(producer.stats.dropped.expired).toBe(0)
})

test('a batch that may be stored, and is then too large, counts as possibly repeated as a whole', async () => {
  await start({ requestTimeoutMs: 500 })
  await warmUpOne()
  cluster.responsesToLose = 1
  const settlements = appendTogether(['a', 'b', 'c', 'd'].map((name) => name.repeat(200)))
  await passUntil(() => values().length === 5)
  cluster.topics.get('events')!.maxMessageBytes = 700
  await passUntil(() => settlements.length > 1, 30_000)
  await passUntil(() => producer.stats.acked === 5, 30_000)
  expect(values()).toHaveLength(9)
  expect(producer.stats.possiblyRepeated).toBe(4)
})

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ProducerConfig } from '../../../../../src/config/config.ts'
import type { Settlement } from '../../../../../src/kafka/producer/producer.ts'
import type { StreamProducer } from '../../../../../src/kafka/producer/stream-producer.ts'
import { seededRandom } from '../../../../support/fault-run.ts'
import { sumOfOutcomes } from '../../../../support/producer-stats.ts'
import { ModelCluster } from '../../../../support/model-broker.ts'
import { append, ProducerFixture, streamConfig } from '../../../../support/producer-fixture.ts'
import { pass, passUntil, settlePromises, useVirtualClock } from '../../../../support/virtual-clock.ts'

let cluster: ModelCluster
let fixture: ProducerFixture
let producer: StreamProducer
let dataDir: string

beforeEach(() => {
  useVirtualClock()
  vi.spyOn(Math, 'random').mockImplementation(seededRandom(1))
  dataDir = mkdtempSync(join(tmpdir(), 'chute-letters-'))
})
afterEach(() => {
  fixture.stop()
  vi.useRealTimers()
  vi.restoreAllMocks()
  rmSync(dataDir, { recursive: true, force: true })
})

async function start(options: {
  topic: boolean
  folder: boolean | string
  producer?: Partial<ProducerConfig>
}): Promise<void> {
  cluster = new ModelCluster([1], seededRandom(1))
  cluster.createTopic('events', 1).partitions[0]!.refuses = (value) => value.startsWith('bad')
  if (options.topic) cluster.createTopic('letters', 1)
  const stream = {
    ...streamConfig('events', 'at-least-once', { lingerMs: 20, ...options.producer }),
    deadLetterTopic: options.topic ? 'letters' : null,
  }
  const folder = typeof options.folder === 'string' ? options.folder : options.folder ? dataDir : null
  fixture = new ProducerFixture(cluster, [stream], folder)
  await fixture.start()
  producer = fixture.producer
  append(producer, 'warm-up')
  await passUntil(() => producer.stats.acked === 1)
}

function stored(topic: string): { key: string | null; value: string }[] {
  return cluster.stored(topic).flatMap((log) => log.map(({ key, value }) => ({ key, value })))
}

function lines(): Record<string, unknown>[] {
  const text = readFileSync(join(dataDir, 'dead-letters', 'events.ndjson'), 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

function expectClosedAccount(): void {
  const { stats } = producer
  expect(stats.accepted).toBe(sumOfOutcomes(stats))
  expect(stats.bufferAvailableBytes).toBe(stats.bufferTotalBytes)
}

test('what waits for an operator until delivery.timeout.ms becomes a dead letter, and what waits behind it does, too', async () => {
  await start({ topic: false, folder: true, producer: { deliveryTimeoutMs: 3_000 } })
  cluster.topics.get('events')!.isReadOnly = true
  append(producer, 'held')
  await pass(100)
  append(producer, 'behind')
  // The disk takes its own time, whatever the test's clock says.
  await passUntil(() => producer.stats.deadLettered === 2)
  await vi.waitFor(() => expect(lines().map(({ value }) => value)).toEqual(['held', 'behind']))
  expectClosedAccount()
})

test.each(['the topic is gone', 'the right to write is gone'])(
  '%s: what was to be sent again, and the parts of a batch, become dead letters as what waits behind them does',
  async (what) => {
    await start({ topic: false, folder: true, producer: { deliveryTimeoutMs: 3_000 } })
    const topic = cluster.topics.get('events')!
    // The batch is split. Its first half waits to be sent again when the obstacle comes, and the second one waits behind that.
    topic.partitions[0]!.refusals.push(87, 19)
    append(producer, 'first')
    append(producer, 'second')
    await passUntil(() => topic.partitions[0]!.refusals.length === 0)
    if (what === 'the topic is gone') cluster.deleteTopic('events')
    else topic.isReadOnly = true
    append(producer, 'behind')
    // The disk takes its own time, whatever the test's clock says.
    await passUntil(() => sumOfOutcomes(producer.stats) === producer.stats.accepted)
    await vi.waitFor(() => expect(lines().map(({ value }) => value)).toEqual(['first', 'second', 'behind']))
    expect(producer.stats).toMatchObject({ deadLettered: 3, acked: 1 })
    expectClosedAccount()
  },
)

describe('with a dead-letter topic', () => {
  test('a refused record goes there with the reason in its headers, and what is behind it to its own topic', async () => {
    await start({ topic: true, folder: false })
    const settlements: Settlement[] = []
    append(producer, 'a', 'key')!.onSettled((settlement) => settlements.push(settlement))
    append(producer, 'bad 1', 'key')
    append(producer, 'b', 'key')
    await passUntil(() => producer.stats.deadLettered === 1 && producer.stats.acked === 3)
    expect(stored('letters')).toEqual([{ key: 'key', value: 'bad 1' }])
    expect(stored('events').map(({ value }) => value)).toEqual(['warm-up', 'a', 'b'])
    expect(cluster.stored('letters').flatMap((log) => log.map(({ headers }) => headers))).toEqual([
      {
        '__chute.errors.stream': 'events',
        '__chute.errors.topic': 'events',
        '__chute.errors.partition': '0',
        '__chute.errors.reason': 'invalid_record',
        '__chute.errors.kafka.error': 'INVALID_RECORD',
        '__chute.errors.may.be.stored': 'false',
      },
    ])
    await settlePromises()
    const byPlace = settlements.toSorted((one, other) => one.firstPlace - other.firstPlace)
    expect(byPlace.map(({ outcome, firstPlace }) => [firstPlace, outcome])).toEqual([
      [0, 'acked'],
      [1, 'dead_lettered'],
      [2, 'acked'],
    ])
    expectClosedAccount()
  })

  test('a topic that cannot be written to holds nothing up; the letters go when it can', async () => {
    await start({ topic: true, folder: false })
    cluster.topics.get('letters')!.partitions[0]!.onlineAtMs = performance.now() + 5_000
    append(producer, 'bad')
    await pass(100)
    append(producer, 'behind')
    await passUntil(() => producer.stats.acked === 2)
    expect(producer.stats).toMatchObject({ deadLettered: 0, inFlight: 1 })
    await passUntil(() => producer.stats.deadLettered === 1, 10_000)
    expect(stored('letters')).toHaveLength(1)
    expectClosedAccount()
  })

  test('what it refuses too goes to the file', async () => {
    await start({ topic: true, folder: true })
    cluster.topics.get('letters')!.partitions[0]!.refuses = () => true
    append(producer, 'bad')
    await passUntil(() => producer.stats.deadLettered === 1)
    expect(lines().map(({ value }) => value)).toEqual(['bad'])
    expectClosedAccount()
  })

  test('what it refuses too, without a folder, is dropped with the reason', async () => {
    await start({ topic: true, folder: false })
    cluster.topics.get('letters')!.partitions[0]!.refuses = () => true
    append(producer, 'bad')
    await passUntil(() => producer.stats.dropped.invalid_record === 1)
    expectClosedAccount()
  })

  test('what is larger than it takes goes to the file', async () => {
    await start({ topic: true, folder: true })
    cluster.topics.get('letters')!.maxMessageBytes = 1_500
    cluster.topics.get('events')!.maxMessageBytes = 1_500
    append(producer, 'x'.repeat(2_000))
    await passUntil(() => producer.stats.deadLettered === 1, 40_000)
    expect(lines()[0]).toMatchObject({ reason: 'message_too_large', kafkaError: 'MESSAGE_TOO_LARGE' })
  })

  test('what is under way at the end goes to the file', async () => {
    await start({ topic: true, folder: true })
    cluster.topics.get('letters')!.partitions[0]!.onlineAtMs = Infinity
    append(producer, 'bad')
    await pass(200)
    expect(producer.stats.inFlight).toBe(1)
    producer.abort()
    expect(producer.stats).toMatchObject({ deadLettered: 1, inFlight: 0 })
    expect(lines()).toHaveLength(1)
    await pass(10)
    expectClosedAccount()
  })

  test('a shutdown waits for what is under way', async () => {
    await start({ topic: true, folder: false })
    cluster.topics.get('letters')!.partitions[0]!.onlineAtMs = performance.now() + 800
    append(producer, 'bad')
    await pass(100)
    const closing = producer.close(performance.now() + 5_000)
    await pass(3_000)
    expect(await closing).toBe(true)
    expect(stored('letters')).toHaveLength(1)
    expectClosedAccount()
  })
})

describe('without one', () => {
  test('a refused record is a line of the file, with all that is known of it', async () => {
    await start({ topic: false, folder: true })
    append(producer, 'bad "1"', 'key')
    await passUntil(() => producer.stats.deadLettered === 1)
    append(producer, 'bad 2')
    await passUntil(() => producer.stats.deadLettered === 2)
    expect(lines()).toMatchObject([
      { stream: 'events', topic: 'events', partition: 0, key: 'key', value: 'bad "1"', mayBeStored: false },
      { key: null, value: 'bad 2', reason: 'invalid_record', kafkaError: 'INVALID_RECORD' },
    ])
    expectClosedAccount()
  })

  test('a folder that cannot be written to is told of, and the record is dropped with its reason', async () => {
    const file = join(dataDir, 'no-folder')
    writeFileSync(file, '')
    await start({ topic: false, folder: file })
    append(producer, 'bad')
    await passUntil(() => producer.stats.dropped.invalid_record === 1)
    expect(fixture.logs.lines.map(({ message }) => message)).toContain(
      'dead letters could not be written to the file',
    )
    expectClosedAccount()
  })

  test('without a folder either it is dropped with its reason', async () => {
    await start({ topic: false, folder: false })
    append(producer, 'bad')
    await passUntil(() => producer.stats.dropped.invalid_record === 1)
    expectClosedAccount()
  })
})

test('dead letters are logged at most every 10 s, with their number', async () => {
  await start({ topic: true, folder: false })
  for (let i = 0; i < 40; i++) {
    append(producer, `bad ${i}`)
    await pass(500)
  }
  await pass(11_000)
  const told = fixture.logs.lines.filter(({ message }) => message === 'records went to the dead letters')
  expect(told.length).toBeLessThanOrEqual(4)
  const counts = told.map(
    ({ fields }) => (fields as { records: { dead_lettered: number } }).records.dead_lettered,
  )
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(40)
})

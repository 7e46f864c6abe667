import { randomUUID } from 'node:crypto'
import { CompressionTypes } from 'kafkajs'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import { consume, type ConsumedRecord } from '../../src/kafka/consumer/consume.ts'
import {
  startConsumer,
  startReader,
  type ConsumeTarget,
  type ReaderProcess,
} from '../support/consume-process.ts'
import { startGatewayWith, testConfig } from '../support/gateway.ts'
import { createTopic, testClient } from '../support/independent-reader.ts'
import { startNdjsonEndpoint } from '../support/ndjson-endpoint.ts'
import { idsOf, tally, until, writeNumbered } from '../support/numbered-records.ts'
import { parseExposition } from '../support/parse-exposition.ts'
import { codecsHere, streamConfig } from '../support/producer-fixture.ts'
import { isLong } from '../support/forms.ts'

async function topicOf(partitions = 1): Promise<ConsumeTarget> {
  const target = { broker: inject('kafkaBroker'), topic: `consume-${randomUUID()}`, group: randomUUID() }
  await createTopic(target.broker, target.topic, { partitions })
  return target
}

function start(target: ConsumeTarget, args: readonly string[], env: NodeJS.ProcessEnv = {}): ReaderProcess {
  const consumer = startConsumer(target, args, env)
  onTestFinished(() => consumer.signal('SIGKILL'))
  return consumer
}

test('--stdout writes a line a record, and SIGTERM ends with the account', async () => {
  const target = await topicOf(3)
  await writeNumbered(target.broker, target.topic, { count: 1_200, partitions: 3 })
  const consumer = start(target, ['--metrics-port', '0'])
  await consumer.wrote(1_200)
  const { metricsUrl } = (await consumer.logged('consuming')) as { readonly metricsUrl?: string }
  const families = parseExposition(await (await fetch(metricsUrl!)).text(), 'prometheus')
  const valueOf = (name: string): number =>
    [...families.values()].flatMap(({ samples }) => samples).find((sample) => sample.name === name)!.value
  expect(valueOf('kafka_consumer_records_consumed_total')).toBeGreaterThanOrEqual(1_200)
  expect(valueOf('kafka_consumer_commit_latency_avg')).toBeGreaterThan(0)
  expect(valueOf('kafka_consumer_commit_latency_seconds_count')).toBeGreaterThanOrEqual(3)
  expect((await fetch(metricsUrl!.replace('/metrics', '/readyz'))).status).toBe(200)
  consumer.signal('SIGTERM')
  expect(await consumer.ended()).toBe(0)
  expect(tally(idsOf(consumer.output), 1_200)).toEqual({ repeated: 0, lost: 0 })
  const { account } = consumer.log.at(-1) as { readonly account: Readonly<Record<string, number>> }
  expect(consumer.log.at(-1)).toMatchObject({ level: 'info' })
  expect(account).toMatchObject({ committed: 1_200, processed: 1_200, lost: 0, pending: 0, repeated: 0 })
  // A commit that was refused is made again, after another poll.
  expect(account['consumed']).toBe(1_200 + account['returned']!)
})

test.runIf(isLong)(
  'a group without an offset begins at the end, and the lag of what it did not poll shows',
  async () => {
    const target = await topicOf()
    await writeNumbered(target.broker, target.topic, { count: 100 })
    const { requests, url, lines } = await startNdjsonEndpoint((request, response) => {
      if (request > 1) response.end()
    })
    const args = ['--set', 'auto.offset.reset=latest', '--set', 'max.poll.records=10']
    const broker = { KAFKA_BROKERS: target.broker }
    const consumer = startReader(
      [
        'consume',
        '--topic',
        target.topic,
        '--group',
        target.group,
        '--http',
        url,
        '--metrics-port',
        '0',
        ...args,
      ],
      broker,
    )
    onTestFinished(() => consumer.signal('SIGKILL'))
    await consumer.logged('joined the group')
    const { metricsUrl } = (await consumer.logged('consuming')) as { readonly metricsUrl?: string }
    const lag = async (): Promise<number> => {
      const text = await (await fetch(metricsUrl!)).text()
      return Number(/^kafka_consumer_records_lag\{.*\} (\S+)$/m.exec(text)?.[1])
    }
    await until(async () => (await lag()) === 0)
    await writeNumbered(target.broker, target.topic, { count: 30, from: 100 })
    // The endpoint does not answer the first poll: twenty records wait behind it.
    await until(async () => (await lag()) === 20)
    await until(() => requests.length === 1)
    expect(idsOf(lines())[0]).toBe(100)
  },
)

describe('--http', () => {
  test('posts each poll as NDJSON; at most once, what the endpoint refuses is lost, counted and not sent again', async () => {
    const target = await topicOf()
    await writeNumbered(target.broker, target.topic, { count: 100 })
    const endpoint = await startNdjsonEndpoint((request, response) => {
      // The second request is refused, the third is never answered.
      if (request === 2) response.writeHead(500)
      if (request !== 3) response.end()
    })
    const args = ['--http', endpoint.url, '--http-timeout-ms', '500', '--set', 'max.poll.records=20']
    const consumer = start(target, args)
    await until(() => endpoint.requests.length === 5)
    consumer.signal('SIGTERM')
    expect(await consumer.ended()).toBe(0)
    expect(endpoint.requests.map(({ lines }) => lines.length)).toEqual([20, 20, 20, 20, 20])
    expect(endpoint.requests[0]!.request.headers['content-type']).toBe('application/x-ndjson')
    expect(tally(idsOf(endpoint.lines()), 100)).toEqual({ repeated: 0, lost: 0 })
    expect(consumer.log.at(-1)).toMatchObject({
      level: 'warn',
      msg: 'stopped: 60 of 100 polled records were processed; 40 were lost while it ran',
      account: { consumed: 100, committed: 100, processed: 60, lost: 40 },
    })
    expect(consumer.log).toContainEqual(
      expect.objectContaining({ cause: 'the endpoint answered 500', records: 20 }),
    )
  })

  test('at least once, what the endpoint refuses is sent again until it is taken', async () => {
    const target = await topicOf()
    await writeNumbered(target.broker, target.topic, { count: 40 })
    const endpoint = await startNdjsonEndpoint((request, response) => {
      if (request <= 2) response.writeHead(503)
      response.end()
    })
    const args = ['--delivery', 'at-least-once', '--http', endpoint.url, '--set', 'max.poll.records=20']
    const consumer = start(target, args)
    await until(() => endpoint.requests.length === 4)
    consumer.signal('SIGTERM')
    expect(await consumer.ended()).toBe(0)
    expect(tally(idsOf(endpoint.lines()), 40)).toEqual({ repeated: 40, lost: 0 })
    expect(consumer.log.at(-1)).toMatchObject({
      account: { consumed: 40, committed: 40, processed: 40, repeated: 40 },
    })
  })

  test.runIf(isLong)(
    'a stop does not wait longer than SHUTDOWN_TIMEOUT_MS for an endpoint, and says what that cost',
    async () => {
      const target = await topicOf()
      await writeNumbered(target.broker, target.topic, { count: 10 })
      const endpoint = await startNdjsonEndpoint(() => {})
      const consumer = start(target, ['--http', endpoint.url], { SHUTDOWN_TIMEOUT_MS: '300' })
      await until(() => endpoint.requests.length === 1)
      consumer.signal('SIGTERM')
      expect(await consumer.ended()).toBe(1)
      expect(consumer.log.at(-1)).toMatchObject({
        level: 'error',
        lost: 10,
        account: { lost: 10, pending: 0 },
      })
    },
  )
})

test('at least once, a stop gives back what a command has not answered, and does not say that it is tried again', async () => {
  const target = await topicOf()
  await writeNumbered(target.broker, target.topic, { count: 10 })
  const args = ['--delivery', 'at-least-once', '--exec', 'cat >&2']
  const consumer = start(target, args, { SHUTDOWN_TIMEOUT_MS: '300' })
  await until(() => consumer.log.some((line) => 'offset' in line))
  consumer.signal('SIGTERM')
  expect(await consumer.ended()).toBe(0)
  expect(consumer.log.at(-1)).toMatchObject({
    level: 'info',
    msg: 'stopped: 0 of 10 polled records were processed; 10 were given back: the group polls them again',
  })
  const failed = consumer.log.filter(({ msg }) => String(msg).startsWith('records could not be processed'))
  expect(failed).toMatchObject([
    { cause: 'the time to stop is up', records: 10, msg: expect.stringContaining('given back') },
  ])
})

test.runIf(isLong)(
  'at least once, a command that answers nothing is told, with what it has to do',
  async () => {
    const target = await topicOf()
    await writeNumbered(target.broker, target.topic, { count: 10 })
    const consumer = start(target, ['--delivery', 'at-least-once', '--exec', 'cat > /dev/null'])
    expect(await consumer.logged('the command does not answer')).toMatchObject({
      level: 'warn',
      silentMs: 10_000,
      msg: expect.stringContaining('one line to its standard output'),
    })
  },
)

test('--exec: the end of the command ends the consumer, which says so', async () => {
  const target = await topicOf()
  await writeNumbered(target.broker, target.topic, { count: 10 })
  const consumer = start(target, ['--exec', 'head -n 3; exit 7'])
  expect(await consumer.ended()).toBe(1)
  expect(idsOf(consumer.output)).toEqual([0, 1, 2])
  expect(consumer.log).toContainEqual(
    expect.objectContaining({ reason: 'the command ended with exit code 7' }),
  )
  expect(consumer.log.at(-1)).toMatchObject({
    level: 'error',
    msg: expect.stringMatching(/^stopped, since the command ended with exit code 7: /),
    account: { consumed: 10 },
  })
})

test('at least once, the end of the command gives back what it has not answered, at once', async () => {
  const target = await topicOf()
  await writeNumbered(target.broker, target.topic, { count: 10 })
  const args = ['--delivery', 'at-least-once', '--exec', 'head -n 3; exit 7']
  const consumer = start(target, args, { SHUTDOWN_TIMEOUT_MS: '600000' })
  expect(await consumer.ended()).toBe(1)
  const fate = '3 of 10 polled records were processed; 7 were given back: the group polls them again'
  expect(consumer.log.at(-1)).toMatchObject({
    level: 'error',
    msg: `stopped, since the command ended with exit code 7: ${fate}`,
  })
})

test.runIf(isLong)(
  '--exec: a command that does not end with its input is killed when the time to stop is up',
  async () => {
    const target = await topicOf()
    await writeNumbered(target.broker, target.topic, { count: 3 })
    const consumer = start(target, ['--exec', 'head -n 3; sleep 1000; true'], { SHUTDOWN_TIMEOUT_MS: '300' })
    await consumer.wrote(3)
    consumer.signal('SIGTERM')
    expect(await consumer.ended()).toBe(0)
    expect(consumer.log.at(-1)).toMatchObject({ account: { processed: 3, lost: 0 } })
  },
)

test.runIf(isLong)('auto-commit says why it is not recommended', async () => {
  const consumer = start(await topicOf(), ['--delivery', 'auto-commit'])
  await consumer.logged('auto-commit is not recommended')
})

test.runIf(isLong)('it waits for a topic that does not exist yet', async () => {
  const target = { broker: inject('kafkaBroker'), topic: `later-${randomUUID()}`, group: randomUUID() }
  const consumer = start(target, [])
  expect(await consumer.logged('the topic cannot be read yet')).toMatchObject({
    cause: `there is no topic ${target.topic}: correct --topic, or create it`,
  })
  await createTopic(target.broker, target.topic, { partitions: 1 })
  await writeNumbered(target.broker, target.topic, { count: 5 })
  await consumer.wrote(5)
})

test.each(isLong ? codecsHere : codecsHere.slice(0, 1))(
  'batches in %s, as the gateway writes them, are read',
  async (compressionType) => {
    const target = await topicOf()
    const stream: StreamConfig = streamConfig(target.topic, 'at-most-once', { compressionType })
    const gateway = await startGatewayWith(testConfig({ brokers: [target.broker], streams: [stream] }))
    onTestFinished(async () => void (await gateway.stop()))
    const body = Array.from({ length: 300 }, (_, id) => JSON.stringify({ id })).join('\n')
    const reply = await fetch(`${gateway.url}/v1/streams/${stream.name}`, { method: 'POST', body })
    expect(reply.status).toBe(202)
    const consumer = start(target, [])
    await consumer.wrote(300)
    expect(tally(idsOf(consumer.output), 300)).toEqual({ repeated: 0, lost: 0 })
  },
)

test('as a library: records as they were written, and the same promises', async () => {
  const { broker, topic, group } = await topicOf()
  const producer = testClient(broker).producer()
  await producer.connect()
  const headers = { trace: 'abc', twice: ['1', '2'] }
  const messages = [{ key: 'k', value: Buffer.from([1, 255]), headers }, { value: null }]
  await producer.send({ topic, messages, compression: CompressionTypes.GZIP })
  await producer.disconnect()
  const records: ConsumedRecord[] = []
  const consumer = consume({
    brokers: [broker],
    topic,
    group,
    settings: { 'auto.offset.reset': 'earliest' },
    process: (polled) => void records.push(...polled),
  })
  await until(() => records.length === 2)
  await consumer.stop(5_000)
  expect(consumer.stats).toMatchObject({ consumed: 2, processed: 2, lost: 0, committed: 2, repeated: 0 })
  expect(records[0]).toMatchObject({ topic, partition: 0, offset: '0', key: Buffer.from('k') })
  expect(records[0]!.value).toEqual(Buffer.from([1, 255]))
  expect(records[0]!.headers).toEqual({
    trace: Buffer.from('abc'),
    twice: [Buffer.from('1'), Buffer.from('2')],
  })
  expect(records[1]).toMatchObject({ key: null, value: null, headers: {} })
  const wrong = {
    brokers: [broker],
    topic,
    group,
    process: () => {},
    settings: { 'enable.auto.commit': true },
  }
  expect(() => consume(wrong)).toThrow(/settings\['enable.auto.commit'\] is true/)
})

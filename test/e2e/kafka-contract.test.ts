import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { connect as connectSocket } from 'node:net'
import Broker from 'kafkajs/src/broker/index.js'
import ConnectionPool from 'kafkajs/src/network/connectionPool.js'
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest'
import { kafkaErrors } from '../../src/kafka/protocol/kafka-error.ts'
import type { ProducerBatch } from '../../src/kafka/producer/producer-batch.ts'
import {
  decodeDescribeTopics,
  decodeListOffsets,
  decodeProduce,
  encodeDescribeTopics,
  encodeListOffsets,
  encodeMetadata,
  encodeProduce,
  joinTopics,
  splitTopics,
} from '../../src/kafka/protocol/requests.ts'
import type { WireRequest } from '../../src/kafka/protocol/wire.ts'
import {
  batchOf,
  call,
  closed,
  connect,
  logEnd,
  newIdentity,
  produce,
  topicOn,
  topicStates,
  write,
} from '../support/broker-contract.ts'
import { readTopic, testClient } from '../support/independent-reader.ts'

/**
 * What the transport relies on of Kafka and of kafkajs, each against a real broker: a new version of either is judged by
 * this file, and by kafka-contract-brokers.test.ts for what takes brokers of its own.
 */
const require = createRequire(import.meta.url)

describe('kafkajs', () => {
  test('is 2.2.4, and pinned to it', () => {
    const { version } = require('kafkajs/package.json') as { version: string }
    const { dependencies } = require('../../package.json') as { dependencies: Record<string, string> }
    expect([version, dependencies['kafkajs']]).toEqual(['2.2.4', '2.2.4'])
  })

  test('has inside what the transport reaches for', async () => {
    const [host, port] = inject('kafkaBroker').split(':') as [string, string]
    const quiet = { namespace: () => quiet, debug() {}, info() {}, warn() {}, error() {} }
    const pool = new ConnectionPool({
      host,
      port: Number(port),
      ssl: null,
      sasl: null,
      clientId: 'shape',
      logger: quiet,
      socketFactory: (options) => connectSocket(options, options.onConnect),
      connectionTimeout: 1_000,
      requestTimeout: 1_000,
      enforceRequestTimeout: false,
      maxInFlightRequests: null,
      reauthenticationThreshold: 10_000,
    })
    const connection = pool.pool[0]!
    const queue = connection.requestQueue
    expect(connection).toMatchObject({ clientId: 'shape', sasl: null, connectionStatus: 'disconnected' })
    expect(queue.pending).toEqual([])
    expect(String(connection.sessionLifetime)).toBe('0')
    for (const name of ['scheduleCheckPendingRequests', 'destroy'] as const)
      expect(queue[name]).toBeTypeOf('function')
    const ids = [connection.nextCorrelationId(), connection.nextCorrelationId()]
    expect(ids[1]).toBe(ids[0]! + 1)
    const options = { connectionPool: pool, logger: quiet, authenticationTimeout: 1_000 }
    await new Broker({ ...options, allowAutoTopicCreation: false }).connect()
    onTestFinished(() => void connection.socket.destroy())
    // Who reads the answers is what the transport takes away.
    expect(connection.socket.listenerCount('data')).toBe(1)
    expect(queue.throttledUntil).toBeLessThan(Date.now())
  })

  test('gives the kernel what is written in one turn together, once the turn is over', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker)
    const connection = await connect(broker)
    const onFlushed = vi.fn()
    for (const value of ['a', 'b'])
      connection.send(encodeProduce(topic, 0, 10_000, [batchOf(value)]), onFlushed)
    const answer = call(connection, encodeListOffsets(topic, [0], 'log_end'))
    expect(connection.pendingBytes).toBeGreaterThan(200)
    await new Promise(setImmediate)
    expect(connection.pendingBytes).toBe(0)
    expect(onFlushed).toHaveBeenCalledTimes(2)
    expect(decodeListOffsets(await answer)).toMatchObject([{ errorCode: 0, offset: 2n }])
  })

  test('lets an idle connection cost nothing: no timer of it is armed', async () => {
    const connection = await connect(inject('kafkaBroker'))
    await call(connection, encodeMetadata([]))
    const timers = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
    await call(connection, encodeMetadata([]))
    expect(process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length).toBeLessThanOrEqual(
      timers,
    )
  })
})

describe('one connection', () => {
  test('is served in order: an answer proves every acks=0 write before it, and none is answered itself', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker)
    const connection = await connect(broker)
    for (let i = 0; i < 500; i++) write(connection, topic, batchOf(`${i}`))
    const { errorCode, offset } = await logEnd(connection, topic, 'log_end')
    expect({ errorCode, offset }).toEqual({ errorCode: 0, offset: 500n })
    expect((await logEnd(connection, topic)).offset).toBe(500n)
    const read = await readTopic(broker, topic)
    expect(read.map(({ value }) => Number(value))).toEqual(Array.from({ length: 500 }, (_, i) => i))
  })

  test('takes requests about several topics, in order too, and answers for each topic', async () => {
    const broker = inject('kafkaBroker')
    const topics = [await topicOn(broker), await topicOn(broker)]
    const connection = await connect(broker)
    for (let i = 0; i < 200; i++)
      connection.send(
        joinTopics(topics.map((topic) => encodeProduce(topic, 0, 10_000, [batchOf(`${i}`)]))),
        () => {},
      )
    for (const end of ['log_end', 'high_watermark'] as const) {
      const answer = await call(
        connection,
        joinTopics(topics.map((topic) => encodeListOffsets(topic, [0], end))),
      )
      const parts = splitTopics('ListOffsets', answer)
      const ends = topics.map((topic) => decodeListOffsets(parts.get(topic)!)[0])
      expect(ends).toMatchObject([
        { errorCode: 0, offset: 200n },
        { errorCode: 0, offset: 200n },
      ])
    }
    for (const topic of topics) expect(await readTopic(broker, topic)).toHaveLength(200)
  })

  test('names the topic that it refuses in an answered request about several topics, and takes the others', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker)
    const narrow = await topicOn(broker, { config: { 'max.message.bytes': '200' } })
    const connection = await connect(broker)
    const requests = [
      encodeProduce(narrow, 1, 10_000, [batchOf('x'.repeat(500))]),
      encodeProduce(topic, 1, 10_000, [batchOf('fits')]),
    ]
    const parts = splitTopics('Produce', await call(connection, joinTopics(requests)))
    const errors = [narrow, topic].map((name) => decodeProduce(parts.get(name)!).results[0]!.errorCode)
    expect(errors).toEqual([kafkaErrors.messageTooLarge, kafkaErrors.none])
    expect(connection.isOpen).toBe(true)
  })

  test('has no response for an acks=0 write: the first is that of the next request', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker)
    const [host, port] = broker.split(':') as [string, string]
    const socket = connectSocket(Number(port), host)
    onTestFinished(() => void socket.destroy())
    await once(socket, 'connect')
    socket.write(frame(encodeProduce(topic, 0, 1_000, [batchOf('a')]), 41))
    socket.write(frame(encodeListOffsets(topic, [0], 'log_end'), 42))
    const [response] = (await once(socket, 'data')) as [Buffer]
    expect(response.readInt32BE(4)).toBe(42)
    expect(decodeListOffsets(response.subarray(8))[0]!.offset).toBe(1n)
  })

  test.each<[string, (topic: string) => [string, ProducerBatch]]>([
    ['a topic that is not there', () => [`missing-${randomUUID()}`, batchOf('a')]],
    ['a record above max.message.bytes', (topic) => [topic, batchOf('x'.repeat(3_000))]],
    [
      'a timestamp of the future',
      (topic) => [topic, batchOf('a', { timestampMs: Date.now() + 2 * 3_600_000 })],
    ],
  ])('is closed by the broker for %s with acks=0, and what is behind it is lost', async (_, poison) => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker, { config: { 'max.message.bytes': '2000', ...hourAhead } })
    const healthy = await topicOn(broker)
    const connection = await connect(broker)
    const [to, batch] = poison(topic)
    write(connection, healthy, batchOf('before'))
    write(connection, to, batch)
    for (let i = 0; i < 100; i++) write(connection, healthy, batchOf(`${i}`))
    await closed(connection)
    expect(connection.isOpen).toBe(false)
    const read = await readTopic(broker, healthy)
    expect(read.map(({ value }) => value.toString())).toEqual(['before'])
  })

  test('that ended calls back nobody who writes afterwards, and tells who asks', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker)
    const connection = await connect(broker)
    connection.destroy(new Error('enough'))
    write(connection, topic, batchOf('late'))
    await expect(call(connection, encodeMetadata([topic]))).rejects.toThrow('enough')
    const other = await connect(broker)
    expect((await logEnd(other, topic)).offset).toBe(0n)
  })
})

describe('a broker refuses, by name', () => {
  test('a timestamp 2 hours ahead, and takes one half an hour ahead', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker, { config: hourAhead })
    const connection = await connect(broker)
    const ahead = (hours: number): ProducerBatch =>
      batchOf('a', { timestampMs: Date.now() + hours * 3_600_000 })
    expect((await produce(connection, topic, ahead(2))).errorCode).toBe(kafkaErrors.invalidTimestamp)
    expect((await produce(connection, topic, ahead(0.5))).errorCode).toBe(kafkaErrors.none)
  })

  test('a batch one byte above max.message.bytes, its header included', async () => {
    const broker = inject('kafkaBroker')
    const limit = 2_000
    const topic = await topicOn(broker, { config: { 'max.message.bytes': `${limit}` } })
    const connection = await connect(broker)
    const limits = decodeDescribeTopics(await call(connection, encodeDescribeTopics([topic])))
    expect(limits.get(topic)).toEqual({ maxMessageBytes: limit, isCompacted: false })
    const overhead = batchOf('x'.repeat(1_000)).sizeBytes - 1_000
    const fits = batchOf('x'.repeat(limit - overhead))
    const tooLarge = batchOf('x'.repeat(limit - overhead + 1))
    expect([fits.sizeBytes, tooLarge.sizeBytes]).toEqual([limit, limit + 1])
    expect((await produce(connection, topic, fits)).errorCode).toBe(kafkaErrors.none)
    expect((await produce(connection, topic, tooLarge)).errorCode).toBe(kafkaErrors.messageTooLarge)
  })

  test('a partition that is not there', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker)
    const connection = await connect(broker)
    for (const end of ['log_end', 'high_watermark'] as const)
      expect((await logEnd(connection, topic, end, 1)).errorCode).toBe(kafkaErrors.unknownTopicOrPartition)
    expect((await produce(connection, `missing-${randomUUID()}`, batchOf('a'))).errorCode).toBe(
      kafkaErrors.unknownTopicOrPartition,
    )
  })

  test('a topic that was deleted, and answers for the others in the same breath', async () => {
    const broker = inject('kafkaBroker')
    const [gone, healthy] = [await topicOn(broker), await topicOn(broker)]
    const connection = await connect(broker)
    const admin = testClient(broker).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: [gone] })
    await admin.disconnect()
    await expect
      .poll(async () => await topicStates(connection, [gone, healthy]))
      .toMatchObject({
        [gone]: { errorCode: kafkaErrors.unknownTopicOrPartition },
        [healthy]: { errorCode: kafkaErrors.none },
      })
    expect((await produce(connection, healthy, batchOf('a'))).errorCode).toBe(kafkaErrors.none)
  })
})

describe('an idempotent batch', () => {
  test('that comes twice is stored once, and a gap in the sequence is refused', async () => {
    const broker = inject('kafkaBroker')
    const topic = await topicOn(broker)
    const connection = await connect(broker)
    const identity = await newIdentity(connection)
    const batch = batchOf('a', { count: 3 })
    batch.setProducer(identity.producerId, identity.epoch, 0)
    const first = await produce(connection, topic, batch, -1)
    expect(await produce(connection, topic, batch, -1)).toEqual(first)
    const gap = batchOf('b')
    gap.setProducer(identity.producerId, identity.epoch, 7)
    expect((await produce(connection, topic, gap, -1)).errorCode).toBe(kafkaErrors.outOfOrderSequenceNumber)
    expect((await logEnd(connection, topic)).offset).toBe(3n)
  })
})

/** The default of Kafka 4; before, a broker took any time of the future. */
const hourAhead = { 'message.timestamp.after.max.ms': '3600000' }

/** A request as it goes over the wire, with a correlation id. */
function frame(request: WireRequest, correlationId: number): Buffer {
  const body = Buffer.concat(request.chunks)
  const header = Buffer.alloc(14)
  header.writeInt32BE(10 + body.length, 0)
  header.writeInt16BE(request.apiKey, 4)
  header.writeInt16BE(request.apiVersion, 6)
  header.writeInt32BE(correlationId, 8)
  header.writeInt16BE(0, 12)
  return Buffer.concat([header, body])
}

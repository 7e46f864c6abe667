import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { KafkaConfig } from '../../src/config/config.ts'
import { kafkaErrors } from '../../src/kafka/protocol/kafka-error.ts'
import {
  decodeDescribeTopics,
  encodeDescribeTopics,
  encodeProduce,
} from '../../src/kafka/protocol/requests.ts'
import type { BrokerConnection } from '../../src/kafka/network/transport.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
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
import { isLong } from '../support/forms.ts'
import { append } from '../support/producer-fixture.ts'
import { startProducer } from '../support/real-producer.ts'
import { freePorts } from '../support/free-ports.ts'
import { readTopic, testClient } from '../support/independent-reader.ts'

/** The part of kafka-contract.test.ts that stops, kills and secures brokers, and so needs its own. */

describe.runIf(isLong)('a broker that stops and dies', () => {
  let kafka: LocalKafka
  beforeAll(async () => {
    // On a busy machine it stands still for longer than the session that a node here has, and would lead nothing afterwards.
    const properties = { 'auto.create.topics.enable': 'true', 'broker.session.timeout.ms': '10000' }
    kafka = await startKafka({ properties })
  })
  afterAll(async () => await kafka?.stop())

  test('does not create a topic that is only asked for', async () => {
    const connection = await connect(kafka.brokers[0]!)
    const topic = `asked-${randomUUID()}`
    for (let i = 0; i < 2; i++) {
      expect((await topicStates(connection, [topic]))[topic]).toMatchObject({
        errorCode: kafkaErrors.unknownTopicOrPartition,
      })
    }
  })

  test('while it is stopped, what it does not take is seen on the socket, and comes in order afterwards', async () => {
    const broker = kafka.brokers[0]!
    const topic = await topicOn(broker)
    const connection = await connect(broker)
    let [flushed, drained] = [0, 0]
    connection.onDrain(() => drained++)
    const count = 600
    await kafka.nodes[0]!.kill('SIGSTOP')
    try {
      const padding = 'x'.repeat(64_000)
      for (let i = 0; i < count; i++) {
        connection.send(encodeProduce(topic, 0, 10_000, [batchOf(`${i} ${padding}`)]), () => flushed++)
        // What is written in one turn is flushed together. A link writes no more than about a megabyte in one.
        if (i % 16 === 15) await new Promise(setImmediate)
      }
      await expect.poll(() => flushed).toBeGreaterThan(0)
      expect(flushed).toBeLessThan(count)
      expect(connection.pendingBytes).toBeGreaterThan(1 << 20)
      const other = connect(broker, { connectionTimeoutMs: 500 })
      await expect(other).rejects.toThrow('did not answer within 500 ms')
    } finally {
      await kafka.nodes[0]!.kill('SIGCONT')
    }
    expect((await logEnd(connection, topic)).offset).toBe(BigInt(count))
    expect({ flushed, pending: connection.pendingBytes }).toEqual({ flushed: count, pending: 0 })
    expect(drained).toBeGreaterThan(0)
    const read = await readTopic(broker, topic)
    expect(read.map(({ value }) => Number.parseInt(value.toString(), 10))).toEqual(
      Array.from({ length: count }, (_, i) => i),
    )
  })

  test('after a kill -9, a partition that ListOffsets answers for takes writes', async () => {
    const broker = kafka.brokers[0]!
    const partitions = 60
    const topic = await topicOn(broker, { partitions })
    const connection = await connect(broker)
    write(connection, topic, batchOf('before'))
    expect((await logEnd(connection, topic)).offset).toBe(1n)
    const end = closed(connection)
    await kafka.nodes[0]!.kill('SIGKILL')
    await end
    await expect(connect(broker)).rejects.toThrow(/ECONNREFUSED/)
    kafka.nodes[0]!.start()
    const answered = new Set<number>()
    const untilMs = performance.now() + 60_000
    let again: BrokerConnection | null = null
    while (answered.size < partitions && performance.now() < untilMs) {
      if (again?.isOpen !== true) again = await connect(broker).catch(() => null)
      const partition = answered.size
      if (again === null || (await probe(again, topic, partition)) !== kafkaErrors.none) continue
      const batch = batchOf('a', { partition })
      expect(await produce(again, topic, batch)).toMatchObject({ partition, errorCode: kafkaErrors.none })
      answered.add(partition)
    }
    expect(answered.size).toBe(partitions)
    await kafka.nodes[0]!.waitUntilReady()
    expect((await readTopic(broker, topic)).length).toBe(partitions + 1)
  })
})

describe.runIf(isLong)('three nodes', () => {
  let kafka: LocalKafka
  beforeAll(async () => {
    // Nobody is to be thrown out of the in-sync replicas while it is stopped here.
    kafka = await startKafka({ nodes: 3, properties: { 'broker.session.timeout.ms': '60000' } })
  })
  afterAll(async () => await kafka?.stop())

  test('the leader tells where its log ends and how far its replicas are; a follower only the first', async () => {
    const broker = kafka.brokers[0]!
    const topic = await topicOn(broker, { replicationFactor: 2 })
    const { leader, follower } = await replicasOf(kafka, topic)
    const at = (nodeId: number): string => kafka.brokers[nodeId - 1]!
    const connection = await connect(at(leader))
    const soon = { timeout: 20_000 }
    await expect.poll(async () => (await logEnd(connection, topic)).errorCode, soon).toBe(kafkaErrors.none)
    write(connection, topic, batchOf('a', { count: 5 }))
    await expect.poll(async () => (await logEnd(connection, topic)).offset, soon).toBe(5n)

    const stopped = kafka.nodes[follower - 1]!
    await stopped.kill('SIGSTOP')
    try {
      write(connection, topic, batchOf('b', { count: 7 }))
      const end = await logEnd(connection, topic, 'log_end')
      const replicated = await logEnd(connection, topic)
      expect([end.offset, replicated.offset]).toEqual([12n, 5n])
      expect(end.leaderEpoch).toBe(replicated.leaderEpoch)
      expect(end.leaderEpoch).toBeGreaterThanOrEqual(0)
    } finally {
      await stopped.kill('SIGCONT')
    }
    await expect.poll(async () => (await logEnd(connection, topic)).offset, soon).toBe(12n)

    const aside = await connect(at(follower))
    expect((await logEnd(aside, topic)).errorCode).toBe(kafkaErrors.notLeaderOrFollower)
    expect(await logEnd(aside, topic, 'log_end')).toMatchObject({ errorCode: 0, offset: 12n })
  })

  test.each([
    { hidesLogEnd: false, mode: 'log_end' },
    { hidesLogEnd: true, mode: 'acks_1' },
  ])(
    'a stream confirms only what all replicas have, and keeps back the rest (told the high watermark for the end of the log: $hidesLogEnd)',
    async ({ hidesLogEnd, mode }) => {
      const topic = await topicOn(kafka.brokers[0]!, { replicationFactor: 2 })
      const { follower } = await replicasOf(kafka, topic)
      const overrides = { confirmIntervalMs: 20 }
      const { producer, transport, settled } = await startProducer(
        kafka.brokers,
        topic,
        overrides,
        'at-most-once',
      )
      transport.hidesLogEnd = hidesLogEnd
      let count = 0
      const writeFor = async (ms: number): Promise<void> => {
        for (const startMs = performance.now(); performance.now() - startMs < ms; await pause(5))
          append(producer, `${count++}`)
      }
      await writeFor(200)
      while (producer.stats.confirmation !== mode) await writeFor(20)
      await settled()
      const before = count
      const stopped = kafka.nodes[follower - 1]!
      await stopped.kill('SIGSTOP')
      try {
        await writeFor(1_000)
        // What the follower had asked for before it was stopped may have been on its way to it.
        expect(producer.stats.confirmed - before).toBeLessThan(20)
        expect(producer.stats.buffered).toBeGreaterThan((count - before) / 2)
        expect(producer.stats.suspectedLost).toBe(0)
      } finally {
        await stopped.kill('SIGCONT')
      }
      await settled()
      expect(producer.stats).toMatchObject({ confirmed: count, suspectedLost: 0, confirmation: mode })
      expect(await readTopic(kafka.brokers[0]!, topic)).toHaveLength(count)
    },
  )

  test('another leader has another epoch, one higher, and the old one answers for it no more', async () => {
    const broker = kafka.brokers[0]!
    const topic = await topicOn(broker, { replicationFactor: 3 })
    const observer = await connect(broker)
    const view = async (): Promise<number> => (await topicStates(observer, [topic]))[topic]!.leader
    // The broker that created the topic may not be the one that is asked.
    await expect.poll(view, { timeout: 20_000 }).toBeGreaterThan(0)
    const before = await view()
    const connection = await connect(kafka.brokers[before - 1]!)
    await expect.poll(async () => (await logEnd(connection, topic)).errorCode).toBe(kafkaErrors.none)
    const { leaderEpoch } = await logEnd(connection, topic)
    const admin = testClient(broker).admin()
    await admin.connect()
    const replicas = [1, 2, 3].filter((id) => id !== before)
    const topics = [{ topic, partitionAssignment: [{ partition: 0, replicas }] }]
    await admin.alterPartitionReassignments({ topics })
    await admin.disconnect()
    await expect
      .poll(async () => (await logEnd(connection, topic)).errorCode, { timeout: 20_000 })
      .not.toBe(kafkaErrors.none)
    await expect.poll(view, { timeout: 20_000 }).not.toBe(before)
    const after = await connect(kafka.brokers[(await view()) - 1]!)
    await expect
      .poll(async () => (await logEnd(after, topic)).leaderEpoch, { timeout: 20_000 })
      .toBeGreaterThan(leaderEpoch)
  })
})

describe.runIf(isLong)('a broker with permissions', () => {
  const password = 'contract-secret'
  let kafka: LocalKafka
  let secured: string
  beforeAll(async () => {
    const [port] = await freePorts(1)
    secured = `127.0.0.1:${port}`
    const all = `PLAINTEXT://127.0.0.1:{port},SASL://${secured}`
    const login = 'org.apache.kafka.common.security.plain.PlainLoginModule required'
    kafka = await startKafka({
      properties: {
        listeners: `${all},CONTROLLER://127.0.0.1:{controllerPort}`,
        'advertised.listeners': all,
        'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT',
        'inter.broker.listener.name': 'PLAINTEXT',
        'sasl.enabled.mechanisms': 'PLAIN',
        'listener.name.sasl.plain.sasl.jaas.config': `${login} user_alice="${password}";`,
        'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        'super.users': 'User:ANONYMOUS',
      },
    })
  })
  afterAll(async () => await kafka?.stop())

  const sasl = { sasl: { mechanism: 'plain', username: 'alice', password } } as Partial<KafkaConfig>

  async function permit(topic: string): Promise<void> {
    const admin = testClient(kafka.brokers[0]!).admin()
    await admin.connect()
    const acl = [
      {
        resourceType: AclResourceTypes.TOPIC,
        resourceName: topic,
        resourcePatternType: ResourcePatternTypes.LITERAL,
        principal: 'User:alice',
        host: '*',
        operation: AclOperationTypes.WRITE,
        permissionType: AclPermissionTypes.ALLOW,
      },
    ]
    await admin.createAcls({ acl })
    await admin.disconnect()
  }

  test('WRITE on the topic is all that is needed, to confirm as well', async () => {
    const topic = await topicOn(kafka.brokers[0]!)
    await permit(topic)
    const connection = await connect(secured, sasl)
    await expect
      .poll(async () => (await produce(connection, topic, batchOf('a'))).errorCode)
      .toBe(kafkaErrors.none)
    expect((await topicStates(connection, [topic]))[topic]).toMatchObject({ errorCode: kafkaErrors.none })
    for (const end of ['log_end', 'high_watermark'] as const)
      expect(await logEnd(connection, topic, end)).toMatchObject({ errorCode: kafkaErrors.none, offset: 1n })
    expect((await newIdentity(connection)).producerId).toBeGreaterThanOrEqual(0n)
    // The topic's settings are not told to everybody; then `max.request.size` alone is the limit.
    const limits = await call(connection, encodeDescribeTopics([topic]))
    expect(decodeDescribeTopics(limits)).toEqual(new Map())
  })

  test('without it, metadata, probe and write say so, and an acks=0 write ends the connection', async () => {
    const topic = await topicOn(kafka.brokers[0]!)
    const connection = await connect(secured, sasl)
    const refused = kafkaErrors.topicAuthorizationFailed
    expect((await topicStates(connection, [topic]))[topic]).toMatchObject({ errorCode: refused })
    for (const end of ['log_end', 'high_watermark'] as const)
      expect((await logEnd(connection, topic, end)).errorCode).toBe(refused)
    expect((await produce(connection, topic, batchOf('a'))).errorCode).toBe(refused)
    write(connection, topic, batchOf('a'))
    await closed(connection)
  })
})

/** Error code of a ListOffsets request; -1 if the connection ends. */
async function probe(connection: BrokerConnection, topic: string, partition: number): Promise<number> {
  try {
    return (await logEnd(connection, topic, 'high_watermark', partition)).errorCode
  } catch {
    return -1
  }
}

/** The two replicas of partition 0. */
async function replicasOf(kafka: LocalKafka, topic: string): Promise<{ leader: number; follower: number }> {
  const admin = testClient(kafka.brokers[0]!).admin()
  await admin.connect()
  const { leader, replicas } = await vi.waitFor(async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0]!.partitions[0]!
  }, 20_000)
  await admin.disconnect()
  return { leader, follower: replicas.find((id) => id !== leader)! }
}

import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kafka, logLevel, type Admin } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { runAuditCommand } from '../../src/commands/audit-command.ts'
import { checkConnections } from '../../src/commands/check-connect.ts'
import type { Config, Delivery, KafkaConfig, StreamConfig } from '../../src/config/config.ts'
import { consume } from '../../src/kafka/consumer/consume.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { runKafkaTool } from '../support/kafka-tools.ts'
import { writeNumbered } from '../support/numbered-records.ts'
import { invalidConfig, LogKeeper, streamConfig } from '../support/producer-fixture.ts'

/** Codes of `AclOperation`. */
const [read, write, create, describeTopic, describeConfigs] = [3, 4, 5, 8, 10]

/** A broker with ACLs: the plain listener is the operator's, the SASL listener that of `gateway`, who may do nothing at first. */
/** The short form has the delivery that keeps nothing, since each refused event is lost there. */
const deliveries: [Delivery][] = isLong ? [['at-most-once'], ['at-least-once']] : [['at-most-once']]

describe('a broker with ACLs', () => {
  let kafka: LocalKafka
  let saslPort: number
  /** Of a listener whose advertised address nobody listens at. */
  let lostPort: number
  let admin: Admin

  beforeAll(async () => {
    const [sasl, lost, nobody] = await freePorts(3)
    saslPort = sasl!
    lostPort = lost!
    kafka = await startKafka({ properties: listeners(saslPort, lostPort, nobody!) })
    admin = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).admin()
    await admin.connect()
  })
  afterAll(async () => {
    await admin?.disconnect()
    await kafka?.stop()
  })

  /** Whether `gateway` may do something to a topic. */
  async function permit(operation: number, topic: string): Promise<void> {
    await admin.createAcls({ acl: [acl(operation, topic)] })
  }
  async function forbid(operation: number, topic: string): Promise<void> {
    await admin.deleteAcls({ filters: [acl(operation, topic)] })
  }

  function configOf(streams: readonly StreamConfig[], kafkaSettings: Partial<KafkaConfig> = {}): Config {
    return testConfig({
      brokers: [`127.0.0.1:${saslPort}`],
      streams,
      kafka: {
        sasl: { mechanism: 'plain', username: 'gateway', password: 'secret' },
        topics: { create: false, partitions: null, replicationFactor: null },
        ...kafkaSettings,
      },
    })
  }

  async function start(
    streams: readonly StreamConfig[],
    options: { kafka?: Partial<KafkaConfig>; dataDir?: string } = {},
  ): Promise<TestGateway> {
    const gateway = await startGatewayWith(
      { ...configOf(streams, options.kafka), dataDir: options.dataDir ?? null },
      { awaitReady: false },
    )
    onTestFinished(async () => void (await gateway.stop()))
    return gateway
  }

  /** What `/readyz` says of a check. */
  async function checkOf({ url }: TestGateway, name: string): Promise<[number, boolean, string]> {
    const reply = await fetch(`${url}/readyz`)
    const { checks } = (await reply.json()) as { checks: { name: string; ok: boolean; detail: string }[] }
    const { ok, detail } = checks.find((check) => check.name === name)!
    return [reply.status, ok, detail]
  }

  async function ready({ url }: TestGateway): Promise<void> {
    await expect
      .poll(async () => (await fetch(`${url}/readyz`)).status, { timeout: 30_000, interval: 20 })
      .toBe(200)
  }

  async function send({ url }: TestGateway, stream: string, body: string, prefer = ''): Promise<Response> {
    return await fetch(`${url}/v1/streams/${stream}`, { method: 'POST', headers: { prefer }, body })
  }

  const values = async (topic: string): Promise<string[]> =>
    (await readTopic(kafka.brokers[0]!, topic)).map(({ value }) => value.toString())

  async function newTopic(): Promise<string> {
    const topic = `rights-${randomUUID()}`
    await createTopic(kafka.brokers[0]!, topic, { partitions: 2 })
    return topic
  }

  test.each<[Delivery]>(deliveries)(
    '%s, without WRITE: not ready, no event is taken, and all say what is missing until it is there',
    async (delivery) => {
      const topic = await newTopic()
      await permit(describeTopic, topic)
      const gateway = await start([{ ...streamConfig(topic, delivery), name: 's' }])
      await gateway.logged('topic is known')
      const missing = `WRITE on topic ${topic} is not permitted`
      await expect
        .poll(async () => await checkOf(gateway, 'rights'), { timeout: 10_000 })
        .toEqual([503, false, expect.stringContaining(missing)])
      for (let i = 0; i < 30; i++) {
        const reply = await send(gateway, 's', '{"probe":1}')
        expect([reply.status, await reply.text()]).toEqual([503, expect.stringContaining(missing)])
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      const told = gateway.log.filter(({ message }) => message.includes(missing))
      expect(told.map(({ level }) => level)).toEqual(['warn'])
      await permit(write, topic)
      await ready(gateway)
      expect((await send(gateway, 's', '{"a":1}', 'wait=10')).status).toBe(200)
      expect(await values(topic)).toEqual(['{"a":1}'])
      expect(gateway.gateway.stats[0]).toMatchObject({ accepted: 1, recordErrorTotal: 0 })
    },
  )

  test.runIf(isLong)('a topic that may not even be seen is named with the operation', async () => {
    const topic = await newTopic()
    const gateway = await start([{ ...streamConfig(topic, 'at-most-once'), name: 's' }])
    await expect
      .poll(async () => await checkOf(gateway, 'rights'), { timeout: 10_000 })
      .toEqual([503, false, expect.stringContaining(`WRITE on topic ${topic} is not permitted`)])
    await permit(write, topic)
    await ready(gateway)
  })

  test.runIf(isLong)(
    'a dead-letter topic that may not be written to is named, and the gateway is not ready until it may',
    async () => {
      const [topic, letters] = [await newTopic(), await newTopic()]
      await permit(write, topic)
      const gateway = await start([
        { ...streamConfig(topic, 'at-least-once'), name: 's', deadLetterTopic: letters },
      ])
      await gateway.logged('topic is known')
      await expect
        .poll(async () => await checkOf(gateway, 'rights'), { timeout: 10_000 })
        .toEqual([503, false, expect.stringContaining(`WRITE on topic ${letters} is not permitted`)])
      await permit(write, letters)
      await ready(gateway)
    },
  )

  test.runIf(isLong)(
    'an invalidTopic that may not be written to is named, and costs no event and no reply',
    async () => {
      const [topic, invalidTopic] = [await newTopic(), await newTopic()]
      await permit(write, topic)
      const stream = { ...streamConfig(topic, 'at-most-once'), name: 's', schema: 'telemetry' } as const
      const gateway = await start([{ ...stream, invalid: invalidConfig(invalidTopic) }])
      await gateway.logged('topic is known')
      await expect
        .poll(async () => await checkOf(gateway, 'rights'), { timeout: 10_000 })
        .toEqual([503, false, expect.stringContaining(`WRITE on topic ${invalidTopic} is not permitted`)])
      const good = '{"name":"a","value":1}'
      // The leader may not have been reached yet.
      await vi.waitUntil(async () => (await send(gateway, 's', good)).status === 202, { timeout: 10_000 })
      const body = `${good}\n{"name":"a"}`
      expect(await (await send(gateway, 's', body, 'wait=10')).json()).toMatchObject({
        accepted: 1,
        rejected: 1,
      })
      const numbers = await (await fetch(`${gateway.url}/metrics`)).text()
      expect(numbers).toContain(
        `chute_invalid_events_total{stream="s",topic="${invalidTopic}",result="unavailable"} 1`,
      )
      await permit(write, invalidTopic)
      await ready(gateway)
      await send(gateway, 's', body)
      await expect.poll(async () => await values(invalidTopic), { timeout: 10_000 }).toEqual(['{"name":"a"}'])
    },
  )

  test.each(
    isLong
      ? ([
          ['without a data folder', false],
          ['with one', true],
        ] as const)
      : ([['with one', true]] as const),
  )(
    'WRITE that is denied for a moment costs an at-least-once stream nothing, %s',
    async (_, hasFolder) => {
      const topic = await newTopic()
      await permit(write, topic)
      const dataDir = mkdtempSync(join(tmpdir(), 'chute-rights-'))
      onTestFinished(() => rmSync(dataDir, { recursive: true }))
      const stream: StreamConfig = {
        ...streamConfig(topic, 'at-least-once', { retries: 3 }),
        name: 's',
        ...(hasFolder && { spool: { fsync: true, maxBytes: 1 << 26 } }),
      }
      const gateway = await start([stream], hasFolder ? { dataDir } : {})
      await ready(gateway)
      const accepted: string[] = []
      const statuses = new Set<number>()
      const sendOne = async (i: number): Promise<void> => {
        const body = `{"i":${i}}`
        const { status } = await send(gateway, 's', body)
        statuses.add(status)
        if (status === 202) accepted.push(body)
      }
      let i = 0
      const flood = async (untilMs: number): Promise<void> => {
        while (performance.now() < untilMs) await Promise.all([sendOne(i++), sendOne(i++), sendOne(i++)])
      }
      await flood(performance.now() + 300)
      await forbid(write, topic)
      await flood(performance.now() + 1_500)
      expect([...statuses].toSorted((a, b) => a - b)).toEqual([202, 503])
      await permit(write, topic)
      await expect
        .poll(async () => (await send(gateway, 's', '{"last":1}', 'wait=10')).status, { timeout: 20_000 })
        .toBe(200)
      accepted.push('{"last":1}')
      await expect.poll(() => gateway.gateway.stats[0]!.acked, { timeout: 20_000 }).toBe(accepted.length)
      expect((await values(topic)).toSorted()).toEqual(accepted.toSorted())
      expect(gateway.gateway.stats[0]).toMatchObject({ recordErrorTotal: 0, refused: {} })
    },
    60_000,
  )

  test.runIf(isLong)(
    'WRITE that is denied under load costs an at-most-once stream what was on its way, and nothing later',
    async () => {
      const topic = await newTopic()
      await permit(write, topic)
      const gateway = await start([{ ...streamConfig(topic, 'at-most-once'), name: 's' }])
      await ready(gateway)
      expect((await send(gateway, 's', '{"first":1}', 'wait=10')).status).toBe(200)
      await forbid(write, topic)
      await expect
        .poll(async () => (await send(gateway, 's', '{"on":"its way"}')).status, {
          timeout: 10_000,
          interval: 20,
        })
        .toBe(503)
      await expect.poll(() => gateway.gateway.stats[0]!.inFlight, { timeout: 10_000 }).toBe(0)
      const { suspectedLost, accepted, dropped } = gateway.gateway.stats[0]!
      for (let n = 0; n < 40; n++) {
        expect((await send(gateway, 's', '{"refused":1}')).status).toBe(503)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      expect(gateway.gateway.stats[0]).toMatchObject({ suspectedLost, accepted, dropped })
      await permit(write, topic)
      await expect
        .poll(async () => (await send(gateway, 's', '{"last":1}', 'wait=10')).status, { timeout: 20_000 })
        .toBe(200)
    },
    60_000,
  )

  test.runIf(isLong)(
    'topics that may not be created: CREATE is named by /readyz, the reply and one line of the log',
    async () => {
      const topic = `missing-${randomUUID()}`
      await permit(write, topic)
      const topics = { create: true, partitions: 1, replicationFactor: 1 }
      const gateway = await start([{ ...streamConfig(topic, 'at-most-once'), name: 's' }], {
        kafka: { topics },
      })
      const warning = await gateway.logged('the topic could not be created; trying again')
      expect(warning.fields['cause']).toMatch(
        /CREATE on topic .* is not permitted.*KAFKA_CREATE_TOPICS=false/,
      )
      expect(await checkOf(gateway, 'topics')).toEqual([
        503,
        false,
        expect.stringMatching(new RegExp(`topic ${topic} does not exist .*CREATE on topic ${topic}`)),
      ])
      const reply = await send(gateway, 's', '{"a":1}')
      expect([reply.status, await reply.text()]).toEqual([
        503,
        expect.stringContaining(`topic ${topic} does not exist`),
      ])
      await new Promise((resolve) => setTimeout(resolve, 3_000))
      expect(gateway.log.filter(({ level }) => level === 'warn')).toHaveLength(1)
      await permit(create, topic)
      await ready(gateway)
      expect((await send(gateway, 's', '{"a":1}', 'wait=10')).status).toBe(200)
    },
    60_000,
  )

  test.each<[Delivery]>(deliveries)(
    'leaders that nobody listens for at their advertised address: not ready, and no %s event fills the buffer',
    async (delivery) => {
      const topic = await newTopic()
      const gateway = await start([{ ...streamConfig(topic, delivery), name: 's' }], {
        kafka: { brokers: [`127.0.0.1:${lostPort}`], sasl: null },
      })
      await gateway.logged('topic is known')
      const obstacle = `no leader of topic ${topic} was reached yet`
      const warning = await gateway.logged(`events of the stream are refused: ${obstacle}`)
      expect(warning.fields['cause']).toMatch(/ECONNREFUSED.*advertised\.listeners/)
      const [status, ok, detail] = await checkOf(gateway, 'leaders')
      expect([status, ok]).toEqual([503, false])
      expect(detail).toContain(obstacle)
      expect(detail).toMatch(/ECONNREFUSED.*advertised\.listeners/)
      const reply = await send(gateway, 's', '{"a":1}')
      expect([reply.status, await reply.text()]).toEqual([503, expect.stringContaining(obstacle)])
      expect(gateway.gateway.stats[0]).toMatchObject({ accepted: 0, buffered: 0 })
    },
  )

  test.each([
    ['READ on the group', true, /READ on group readers is not permitted.*ACL/],
    ['READ on the topic', false, /READ on topic .* is not permitted.*ACL/],
  ])(
    'a consumer without %s says so, and what to do',
    async (_, mayReadTopic, expected) => {
      const topic = await newTopic()
      if (mayReadTopic) await permit(read, topic)
      const logs = new LogKeeper()
      const consumer = consume({
        brokers: [`127.0.0.1:${saslPort}`],
        sasl: { mechanism: 'plain', username: 'gateway', password: 'secret' },
        topic,
        group: 'readers',
        process: async () => {},
        logger: logs,
      })
      onTestFinished(async () => await consumer.stop(1_000))
      const told: string[] = []
      void consumer.failed.then(({ message }) => told.push(message))
      const causes = (): string => JSON.stringify([...told, ...logs.lines])
      await expect.poll(causes, { timeout: 40_000 }).toMatch(expected)
    },
    60_000,
  )

  test('without DESCRIBE_CONFIGS and CREATE a gateway is ready where the topic is there, says once what it cannot read, and learns of the limit after the 202', async () => {
    const topic = `rights-${randomUUID()}`
    await createTopic(kafka.brokers[0]!, topic, { partitions: 1, config: { 'max.message.bytes': '2000' } })
    await permit(write, topic)
    const streams = [{ ...streamConfig(topic, 'at-least-once'), name: 's' }]
    const topics = { create: true, partitions: 1, replicationFactor: 1 }
    const gateway = await start(streams, { kafka: { topics } })
    await ready(gateway)
    const { fields } = await gateway.logged('max.message.bytes of the topic cannot be read')
    expect(fields).toMatchObject({ topic, remedy: expect.stringContaining('permit DESCRIBE_CONFIGS') })
    expect(gateway.log.filter(({ level }) => level === 'warn')).toHaveLength(1)
    const found = async (): Promise<string> =>
      (await checkConnections(configOf(streams), 10_000)).find(({ name }) => name === 'settings')!.detail
    expect(await found()).toContain(`permit DESCRIBE_CONFIGS on topic ${topic}`)

    const tooLarge = JSON.stringify({ text: 'x'.repeat(3_000) })
    const reply = await send(gateway, 's', tooLarge, 'wait=10')
    expect(await reply.text()).toContain('message_too_large')
    expect(gateway.gateway.stats[0]).toMatchObject({ accepted: 1, dropped: { message_too_large: 1 } })
    await permit(describeConfigs, topic)
    expect(await found()).toContain('of every topic were read')
    const other = await start(streams)
    await ready(other)
    const refused = await send(other, 's', tooLarge)
    expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining('event_too_large')])
    expect(other.gateway.stats[0]).toMatchObject({ accepted: 0 })
  }, 60_000)

  test.runIf(isLong)(
    'check --connect: a topic that can be created hides no right that is missing on another',
    async () => {
      const [seen, missing] = [await newTopic(), `missing-${randomUUID()}`]
      await permit(describeTopic, seen)
      for (const operation of [describeTopic, create]) await permit(operation, missing)
      const streams = [streamConfig(seen, 'at-most-once'), streamConfig(missing, 'at-most-once')]
      const findings = await checkConnections(
        configOf(streams, { topics: { create: true, partitions: 1, replicationFactor: 1 } }),
        3_000,
      )
      const byName = Object.fromEntries(findings.map(({ name, ...finding }) => [name, finding]))
      expect(byName['rights']).toEqual({
        ok: false,
        detail: expect.stringContaining(`WRITE on topic ${seen}`) as string,
      })
      expect(byName['topics']).toMatchObject({
        ok: true,
        detail: `${missing}: missing, and created at the start of the gateway`,
      })
    },
  )

  test.runIf(isLong)('CREATE on the cluster is as good as CREATE on the topic', async () => {
    const topic = `missing-${randomUUID()}`
    await permit(write, topic)
    const onCluster = { ...acl(create, 'kafka-cluster'), resourceType: 4 }
    await admin.createAcls({ acl: [onCluster] })
    onTestFinished(async () => void (await admin.deleteAcls({ filters: [onCluster] })))
    const topics = { create: true, partitions: 1, replicationFactor: 1 }
    await ready(await start([{ ...streamConfig(topic, 'at-most-once'), name: 's' }], { kafka: { topics } }))
  })

  /** `chute audit` as a user, on a topic. */
  async function audit(username: string, topic: string): Promise<{ code: number; said: string }> {
    const env = {
      KAFKA_BROKERS: `127.0.0.1:${saslPort}`,
      KAFKA_SASL_MECHANISM: 'plain',
      KAFKA_SASL_USERNAME: username,
      KAFKA_SASL_PASSWORD: 'secret',
    }
    let said = ''
    const keep = (text: unknown, written?: unknown): true => {
      said += String(text)
      if (typeof written === 'function') written()
      return true
    }
    const outputs = [process.stdout, process.stderr].map((output) =>
      vi.spyOn(output, 'write').mockImplementation(keep),
    )
    try {
      const code = await runAuditCommand(['--topic', topic], env)
      return { code, said }
    } finally {
      for (const output of outputs) output.mockRestore()
    }
  }

  async function auditGroups(): Promise<string[]> {
    const { groups } = await admin.listGroups()
    return groups.map(({ groupId }) => groupId).filter((id) => id.startsWith('chute-audit-'))
  }

  test.runIf(isLong)(
    'an audit names the topic and then the group that it may not read, and needs no DELETE',
    async () => {
      const topic = await newTopic()
      // Of an empty topic an audit may be done before it is in its group.
      await writeNumbered(kafka.brokers[0]!, topic, { count: 1 })
      expect(await audit('gateway', topic)).toEqual({
        code: 1,
        said: expect.stringContaining(`READ on topic ${topic} is not permitted`),
      })
      await permit(read, topic)
      expect(await audit('gateway', topic)).toEqual({
        code: 1,
        said: expect.stringContaining('READ on group chute-audit-* is not permitted'),
      })
      const onGroups = { ...acl(read, 'chute-audit-'), resourceType: 3, resourcePatternType: 4 }
      await admin.createAcls({ acl: [onGroups] })
      expect(await audit('gateway', topic)).toMatchObject({ code: 0 })
      expect(await auditGroups()).toHaveLength(1)
      await admin.deleteGroups(await auditGroups())
    },
    90_000,
  )

  test.runIf(isLong)(
    'the ACLs of docs/deploy.md are enough to create a topic, to write, to consume and to audit it',
    async () => {
      const topic = `acls-${randomUUID()}`
      const page = readFileSync('docs/deploy.md', 'utf8').replaceAll('metrics-critical', topic)
      const commands = [...page.matchAll(/^\$acls (.+)$/gm)].map(([, words]) => words!.split(' '))
      expect(commands).toHaveLength(4)
      const tool = 'org.apache.kafka.tools.AclCommand'
      const common = ['--bootstrap-server', kafka.brokers[0]!, '--add']
      await Promise.all(
        commands.map(async (words) => await runKafkaTool(kafka.classpath, tool, [...common, ...words])),
      )

      const as = (username: string) => ({ mechanism: 'plain', username, password: 'secret' }) as const
      const gateway = await start([{ ...streamConfig(topic, 'at-least-once'), name: 's' }], {
        kafka: { sasl: as('chute'), topics: { create: true, partitions: 1, replicationFactor: 1 } },
      })
      await ready(gateway)
      expect((await send(gateway, 's', '{"a":1}', 'wait=10')).status).toBe(200)
      // The topic was missing, and that is said.
      expect(
        gateway.log.filter(({ level, fields }) => level === 'warn' && fields['status'] !== 'unknown_topic'),
      ).toEqual([])

      const consumed = new Promise<string>((resolve) => {
        const consumer = consume({
          brokers: [`127.0.0.1:${saslPort}`],
          sasl: as('reader'),
          topic,
          group: 'dashboards',
          settings: { 'auto.offset.reset': 'earliest' },
          process: async (records) => resolve(records[0]!.value!.toString()),
          logger: new LogKeeper(),
        })
        onTestFinished(async () => await consumer.stop(1_000))
      })
      expect(await audit('auditor', topic)).toMatchObject({ code: 0 })
      expect(await auditGroups()).toEqual([])
      expect(await consumed).toBe('{"a":1}')
    },
    90_000,
  )

  test.runIf(isLong)(
    'one stream that is refused later is named, and the other goes on',
    async () => {
      const [one, other] = [await newTopic(), await newTopic()]
      for (const topic of [one, other]) await permit(write, topic)
      const gateway = await start(
        [one, other].map((topic) => ({ ...streamConfig(topic, 'at-most-once'), name: topic })),
      )
      await ready(gateway)
      // Both were open for long enough to count.
      await new Promise((resolve) => setTimeout(resolve, 1_100))
      await forbid(write, one)
      const missing = `WRITE on topic ${one} is not permitted`
      await expect
        .poll(async () => await checkOf(gateway, 'rights'), { timeout: 10_000 })
        .toEqual([200, true, expect.stringContaining(missing)])
      expect((await send(gateway, one, '{"a":1}')).status).toBe(503)
      expect((await send(gateway, other, '{"a":1}', 'wait=10')).status).toBe(200)
      await forbid(write, other)
      await expect
        .poll(async () => (await checkOf(gateway, 'rights')).slice(0, 2), { timeout: 10_000 })
        .toEqual([503, false])
    },
    60_000,
  )
})

function listeners(saslPort: number, lostPort: number, nobody: number): Record<string, string> {
  const all = (lost: number): string =>
    `PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:${saslPort},LOST://127.0.0.1:${lost}`
  return {
    listeners: `${all(lostPort)},CONTROLLER://127.0.0.1:{controllerPort}`,
    'advertised.listeners': all(nobody),
    'listener.security.protocol.map':
      'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,LOST:PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'sasl.enabled.mechanisms': 'PLAIN',
    'listener.name.sasl.plain.sasl.jaas.config':
      'org.apache.kafka.common.security.plain.PlainLoginModule required user_gateway="secret" user_chute="secret" user_reader="secret" user_auditor="secret";',
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'super.users': 'User:ANONYMOUS',
  }
}

/** Codes of kafkajs's enumerations: a topic, by its literal name, allowed. */
function acl(operation: number, topic: string) {
  return {
    resourceType: 2,
    resourceName: topic,
    resourcePatternType: 3,
    principal: 'User:gateway',
    host: '*',
    operation,
    permissionType: 3,
  }
}

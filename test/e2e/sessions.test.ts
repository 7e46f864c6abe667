import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Delivery, ProducerConfig } from '../../src/config/config.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { runKafkaTool } from '../support/kafka-tools.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const sessionMs = 3_000
const throttledClient = 'chute-throttled'

/** Sessions that are as short as `connections.max.reauth.ms` makes them, over a listener with SASL. */
describe('a broker that ends sessions after three seconds', () => {
  let kafka: LocalKafka
  let saslPort: number

  beforeAll(async () => {
    const [port] = await freePorts(1)
    saslPort = port!
    kafka = await startKafka({ properties: listeners(saslPort) })
    // Only the tests of the quota need it.
    if (!isLong) return
    const quota = ['--alter', '--add-config', 'producer_byte_rate=30000']
    const client = ['--entity-type', 'clients', '--entity-name', throttledClient]
    const args = ['--bootstrap-server', kafka.brokers[0]!, ...quota, ...client]
    await runKafkaTool(kafka.classpath, 'kafka.admin.ConfigCommand', args)
  })
  afterAll(async () => await kafka?.stop())

  async function start(
    topic: string,
    delivery: Delivery,
    clientId: string,
    producer: Partial<ProducerConfig>,
    onTestFinished: (end: () => Promise<void>) => void,
  ): Promise<TestGateway> {
    await createTopic(kafka.brokers[0]!, topic, { partitions: 3 })
    const sasl = { mechanism: 'plain', username: 'gateway', password: 'secret' } as const
    const streams = [{ ...streamConfig(topic, delivery, producer), name: 's' }]
    const config = testConfig({
      brokers: [`127.0.0.1:${saslPort}`],
      streams,
      kafka: { sasl, clientId },
      shutdownTimeoutMs: 30_000,
    })
    const gateway = await startGatewayWith(config)
    onTestFinished(async () => void (await gateway.stop()))
    return gateway
  }

  /** Sends `count` events of eight sources, at `perSecond`, and waits until each has its outcome. */
  async function flow(gateway: TestGateway, count: number, perSecond: number): Promise<void> {
    const startMs = performance.now()
    const pad = 'x'.repeat(150)
    for (let i = 0; i < count;) {
      const due = Math.min(count, Math.ceil(((performance.now() - startMs) / 1_000) * perSecond))
      const events: string[] = []
      for (; i < due; i++) events.push(JSON.stringify({ source: `s${i % 8}`, i, pad }))
      if (events.length > 0) {
        const reply = await fetch(`${gateway.url}/v1/streams/s`, { method: 'POST', body: events.join('\n') })
        expect(reply.status).toBe(202)
      }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const pending = (): number => {
      const { buffered, inFlight } = gateway.gateway.stats[0]!
      return buffered + inFlight
    }
    await expect.poll(pending, { timeout: 40_000 }).toBe(0)
  }

  async function expectAll(gateway: TestGateway, topic: string, count: number): Promise<void> {
    const { recordErrorTotal, suspectedLost, confirmed, sent, acked } = gateway.gateway.stats[0]!
    expect({ recordErrorTotal, suspectedLost, ended: confirmed + sent + acked }).toEqual({
      recordErrorTotal: 0,
      suspectedLost: 0,
      ended: count,
    })
    const bySource = new Map<string, number[]>()
    for (const { key, value } of await readTopic(kafka.brokers[0]!, topic)) {
      const { i } = JSON.parse(value.toString()) as { i: number }
      bySource.set(key!, [...(bySource.get(key!) ?? []), i])
    }
    const landed = [...bySource.values()]
    expect(landed.flat()).toHaveLength(count)
    for (const numbers of landed) expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    expect(gateway.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([])
  }

  // Eight seconds are two ends of a session and more. The short form has half the rate, and two streams side by side.
  const perSecond = isLong ? 1_000 : 500

  const everyStream: [Delivery, Partial<ProducerConfig>][] = [
    ['at-most-once', {}],
    ['at-least-once', {}],
    ['at-most-once', { confirmIntervalMs: null }],
  ]

  test.for(isLong ? everyStream : everyStream.slice(0, 2))(
    '%s %o: nothing is lost or out of order, and no broker is said to be away',
    { concurrent: !isLong, timeout: 90_000 },
    async ([delivery, config], { onTestFinished }) => {
      const topic = `sessions-${randomUUID()}`
      const gateway = await start(topic, delivery, 'chute-test', config, onTestFinished)
      await flow(gateway, 8 * perSecond, perSecond)
      await expectAll(gateway, topic, 8 * perSecond)
    },
  )

  test.runIf(isLong).for<[Delivery]>([['at-most-once'], ['at-least-once']])(
    '%s, with a quota besides: nothing is lost',
    { timeout: 90_000 },
    async ([delivery], { onTestFinished }) => {
      const topic = `sessions-${randomUUID()}`
      const gateway = await start(topic, delivery, throttledClient, {}, onTestFinished)
      await flow(gateway, 2_500, 500)
      await expectAll(gateway, topic, 2_500)
    },
  )
})

function listeners(saslPort: number): Record<string, string> {
  const all = `PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:${saslPort}`
  return {
    listeners: `${all},CONTROLLER://127.0.0.1:{controllerPort}`,
    'advertised.listeners': all,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'sasl.enabled.mechanisms': 'PLAIN',
    'listener.name.sasl.plain.sasl.jaas.config':
      'org.apache.kafka.common.security.plain.PlainLoginModule required user_gateway="secret";',
    'listener.name.sasl.plain.connections.max.reauth.ms': String(sessionMs),
  }
}

import { randomUUID } from 'node:crypto'
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest'
import type { Delivery } from '../../src/config/config.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { parseExposition, sumOf } from '../support/parse-exposition.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const broker = inject('kafkaBroker')
const hourMs = 3_600_000

/** Sets the clock of this process, and so of the gateway in it, until the test is over. */
function shiftClock(byMs: number): void {
  const now = Date.now.bind(Date)
  const spy = vi.spyOn(Date, 'now').mockImplementation(() => now() + byMs)
  onTestFinished(() => spy.mockRestore())
}

async function start(
  topic: string,
  delivery: Delivery,
  deadLetterTopic: string | null = null,
): Promise<TestGateway> {
  const stream = { ...streamConfig(topic, delivery), name: 's', deadLetterTopic }
  const gateway = await startGatewayWith(testConfig({ brokers: [broker], streams: [stream] }))
  onTestFinished(async () => void (await gateway.stop()))
  return gateway
}

async function send({ url }: TestGateway, body: string): Promise<Response> {
  return await fetch(`${url}/v1/streams/s`, { method: 'POST', headers: { prefer: 'wait=10' }, body })
}

async function refusals({ url }: TestGateway, labels: Record<string, string>): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return sumOf(parseExposition(text, 'prometheus'), 'chute_records_refused_total', labels)
}

const message = "the broker refuses the time of this gateway's clock: records are refused"

describe('a clock that the broker refuses', () => {
  test.each<[Delivery, string, number, Record<string, string>]>([
    ['at-most-once', 'ahead', 2 * hourMs, {}],
    ['at-least-once', 'ahead', 2 * hourMs, {}],
    ['at-most-once', 'behind', -2 * hourMs, { 'message.timestamp.before.max.ms': String(hourMs) }],
    ['at-least-once', 'behind', -2 * hourMs, { 'message.timestamp.before.max.ms': String(hourMs) }],
  ])(
    '%s, two hours %s: INVALID_TIMESTAMP is the reason of each record, and one error line says so',
    async (delivery, _, shiftMs, config) => {
      const topic = `clock-${randomUUID()}`
      await createTopic(broker, topic, { partitions: 1, config })
      const gateway = await start(topic, delivery)
      shiftClock(shiftMs)
      for (let i = 1; i <= 3; i++) {
        const reply = await send(gateway, `{"i":${i}}`)
        expect([reply.status, await reply.text()]).toEqual([
          503,
          expect.stringContaining('invalid_timestamp'),
        ])
      }
      expect(gateway.gateway.stats[0]).toMatchObject({
        dropped: expect.objectContaining({ invalid_timestamp: 3, broker_rejected: 0 }) as unknown,
        refused: { INVALID_TIMESTAMP: 3 },
      })
      expect(await refusals(gateway, { kafka_error: 'INVALID_TIMESTAMP', stream: 's' })).toBe(3)
      const told = gateway.log.filter((line) => line.message === message)
      expect(told).toMatchObject([{ level: 'error', fields: { topic, kafkaError: 'INVALID_TIMESTAMP' } }])
      const loss = await gateway.logged('records were lost')
      expect(loss.fields['kafkaErrors']).toMatchObject({ INVALID_TIMESTAMP: expect.any(Number) as unknown })
      expect(await readTopic(broker, topic)).toEqual([])
    },
  )

  test('a dead letter has its name, and a clock that is right again is enough', async () => {
    const [topic, letters] = [`clock-${randomUUID()}`, `letters-${randomUUID()}`]
    await createTopic(broker, topic, { partitions: 1 })
    await createTopic(broker, letters, {
      partitions: 1,
      config: { 'message.timestamp.after.max.ms': String(24 * hourMs) },
    })
    const gateway = await start(topic, 'at-least-once', letters)
    const now = Date.now.bind(Date)
    const spy = vi.spyOn(Date, 'now').mockImplementation(() => now() + 2 * hourMs)
    expect(await (await send(gateway, '{"i":1}')).text()).toContain('dead_lettered')
    spy.mockRestore()
    expect((await send(gateway, '{"i":2}')).status).toBe(200)
    expect((await readTopic(broker, topic)).map(({ value }) => value.toString())).toEqual(['{"i":2}'])
    const [letter] = await readTopic(broker, letters)
    expect(String(letter!.headers['__chute.errors.kafka.error'])).toBe('INVALID_TIMESTAMP')
    expect(String(letter!.headers['__chute.errors.reason'])).toBe('invalid_timestamp')
    expect(await refusals(gateway, { kafka_error: 'INVALID_TIMESTAMP' })).toBe(1)
  })
})

import { randomUUID } from 'node:crypto'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { Delivery } from '../../src/config/config.ts'
import { startGatewayWith, testConfig } from '../support/gateway.ts'
import { readTopic } from '../support/independent-reader.ts'
import { parseExposition, sumOf } from '../support/parse-exposition.ts'
import { invalidConfig, streamConfig } from '../support/producer-fixture.ts'

const broker = inject('kafkaBroker')

test.each<[Delivery]>([['at-most-once'], ['at-least-once']])(
  'invalid events of an %s stream are in their topic as they came, those of the last moment too, and the accounts close',
  async (delivery) => {
    const [topic, invalidTopic] = [`web-${randomUUID()}`, `web-invalid-${randomUUID()}`]
    const stream = { ...streamConfig(topic, delivery), name: 's', schema: 'telemetry' } as const
    const invalid = invalidConfig(invalidTopic, 10_000)
    const gateway = await startGatewayWith(
      testConfig({ brokers: [broker], streams: [{ ...stream, invalid }] }),
    )
    onTestFinished(async () => void (await gateway.stop()))
    const send = async (body: string): Promise<{ accepted?: number; rejected: number }> => {
      const reply = await fetch(`${gateway.url}/v1/streams/s`, { method: 'POST', body })
      return (await reply.json()) as { accepted?: number; rejected: number }
    }
    const good = (n: number): string => `{"name":"g","value":${n}}`
    const bad = (n: number): string => `{"name": "b", "n":${n} }`
    const huge = `{"name":"b","x":"${'x'.repeat(700_000)}"}`
    const many = Array.from({ length: 2_000 }, (_, n) => bad(n + 100))
    const replies = await Promise.all([
      send(`${good(1)}\n${bad(1)}\n${good(2)}`),
      send(many.join('\n')),
      send(huge),
      send(`[${good(3)}, ${bad(2)}]`),
    ])
    expect(replies.map(({ rejected }) => rejected)).toEqual([1, 2_000, 1, 1])
    const isKept = async (): Promise<number> => {
      const families = parseExposition(await (await fetch(`${gateway.url}/metrics`)).text(), 'prometheus')
      expect(
        sumOf(families, 'chute_invalid_events_pending') + sumOf(families, 'chute_invalid_events_total'),
      ).toBe(2_003)
      // Records that clients were promised are counted apart.
      expect(sumOf(families, 'chute_records_accepted_total')).toBe(3)
      return sumOf(families, 'chute_invalid_events_total', { result: 'kept' })
    }
    await expect.poll(isKept, { timeout: 20_000 }).toBe(2_003)
    expect((await send(bad(3))).rejected).toBe(1)
    expect(await gateway.stop()).toBe(true)
    const records = await readTopic(broker, invalidTopic)
    const values = records.map(({ value }) => value.toString())
    expect(values.toSorted()).toEqual([bad(1), bad(2), bad(3), huge, ...many].toSorted())
    const last = records.find(({ value }) => value.toString() === bad(3))!
    expect(last.key).toBe(null)
    expect(Object.entries(last.headers).map(([key, value]) => [key, String(value)])).toEqual([
      ['__chute.errors.stream', 's'],
      ['__chute.errors.code', 'invalid_event'],
      ['__chute.errors.pointer', '/value'],
      ['__chute.errors.detail', 'must be a finite number, got nothing'],
      ['__chute.errors.transport', 'http'],
      ['__chute.errors.time', String(last.timestampMs)],
    ])
    expect((await readTopic(broker, topic)).map(({ value }) => value.toString()).toSorted()).toEqual(
      [1, 2, 3].map(good),
    )
    expect(gateway.log.filter(({ level }) => level === 'error')).toEqual([])
  },
)

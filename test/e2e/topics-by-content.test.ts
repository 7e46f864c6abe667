import { randomUUID } from 'node:crypto'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { Delivery } from '../../src/config/config.ts'
import { startGatewayWith, testConfig } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { parseExposition, valueOf } from '../support/parse-exposition.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const broker = inject('kafkaBroker')

test.each<[Delivery]>([['at-most-once'], ['at-least-once']])(
  'events of an %s stream are in the topics of their content, in order, and each topic has its account',
  async (delivery) => {
    const id = randomUUID()
    const [clicks, views, other] = [`clicks-${id}`, `views-${id}`, `other-${id}`] as const
    // The gateway creates the other two.
    await createTopic(broker, clicks, { partitions: 4 })
    const stream = {
      ...streamConfig(other, delivery, { bufferMemoryBytes: 8 << 20 }),
      name: 'web',
      topics: { by: '/type', map: { click: clicks, view: views }, else: other },
      audit: true,
    } as const
    const gateway = await startGatewayWith(testConfig({ brokers: [broker], streams: [stream] }))
    onTestFinished(async () => void (await gateway.stop()))
    const types = ['click', 'view', 'scroll']
    const event = (n: number): string => `{"source":"s${n % 7}", "type":"${types[n % 3]}", "n":${n}}`
    const events = Array.from({ length: 3_000 }, (_, n) => event(n))
    const post = async (body: string): Promise<unknown> => {
      const init = { method: 'POST', headers: { prefer: 'wait=30' }, body }
      return await (await fetch(`${gateway.url}/v1/streams/web`, init)).json()
    }
    for (let from = 0; from < events.length; from += 750)
      expect(await post(events.slice(from, from + 750).join('\n'))).toMatchObject({ accepted: 750 })
    const outcome = delivery === 'at-most-once' ? 'confirmed' : 'acked'
    const told = (topic: string) => ({ outcome, topic, partition: expect.any(Number) as number })
    expect(await post([0, 1, 2].map(event).join('\n'))).toMatchObject({
      events: [told(clicks), told(views), told(other)],
    })
    const families = parseExposition(await (await fetch(`${gateway.url}/metrics`)).text(), 'prometheus')
    for (const topic of [clicks, views, other]) {
      const labels = { stream: 'web', topic }
      expect(valueOf(families, 'chute_records_accepted_total', labels)).toBe(1_001)
      expect(valueOf(families, 'chute_records_total', { ...labels, outcome, reason: '' })).toBe(1_001)
    }
    // All room is given back: it is that of the stream.
    expect(gateway.gateway.stats.map((each) => each.bufferAvailableBytes)).toEqual(
      [8, 8, 8].map((mib) => mib << 20),
    )
    expect(await gateway.stop()).toBe(true)
    for (const [nth, topic] of [clicks, views, other].entries()) {
      const records = await readTopic(broker, topic)
      const ofTopic = events.filter((_, n) => n % 3 === nth)
      expect(records.map(({ value }) => value.toString()).toSorted()).toEqual(
        [...ofTopic, event(nth)].toSorted(),
      )
      for (const source of ['s0', 's6']) {
        const ofSource = records.filter(({ key }) => key === source)
        expect(new Set(ofSource.map(({ partition }) => partition)).size).toBe(1)
        const numbers = ofSource
          .map(({ value }) => (JSON.parse(value.toString()) as { n: number }).n)
          .slice(0, -1)
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
      }
    }
  },
)

import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import {
  compressionTraits,
  compressionTypes,
  type CompressionType,
  type Delivery,
  type StreamConfig,
} from '../../src/config/config.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { dumpTopics, type LoggedBatch } from '../support/kafka-tools.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const broker = inject('kafkaBroker')
const deliveries: readonly Delivery[] = ['at-most-once', 'at-least-once']
const cases = compressionTypes.flatMap((codec) => deliveries.map((delivery) => ({ codec, delivery })))
const run = randomUUID()
const topicOf = (codec: string, delivery: string): string => `codec-${codec}-${delivery}-${run}`
const events = Array.from({ length: 3_000 }, (_, n) =>
  JSON.stringify({ name: 'room.temperature', value: n / 10, text: `é ${'ab'.repeat(n % 50)}` }),
)

describe('compression.type', () => {
  let gateway: TestGateway
  let batches: LoggedBatch[]

  beforeAll(async () => {
    const possible = cases.filter(({ codec }) => compressionTraits[codec].isHere)
    const streams = possible.map(({ codec, delivery }): StreamConfig => ({
      ...streamConfig(topicOf(codec, delivery), delivery, { compressionType: codec }),
      name: `${codec}-${delivery}`,
    }))
    await Promise.all(streams.map(async ({ topic }) => await createTopic(broker, topic, { partitions: 1 })))
    gateway = await startGatewayWith(testConfig({ brokers: [broker], streams }))
    await Promise.all(
      streams.map(async ({ name }) => {
        const body = events.join('\n')
        const headers = { prefer: 'wait=30' }
        const reply = await fetch(`${gateway.url}/v1/streams/${name}`, { method: 'POST', headers, body })
        expect([name, reply.status]).toEqual([name, 200])
        await reply.arrayBuffer()
      }),
    )
    const topics = streams.map(({ topic }) => topic)
    batches = await dumpTopics(inject('kafkaClasspath'), inject('kafkaDataDir'), ...topics)
  })

  afterAll(async () => await gateway?.stop())

  const notHere = 'this Node does not have the codec'

  test.for(cases)(
    '$codec of an $delivery stream is read as it was sent',
    async ({ codec, delivery }, { skip }) => {
      skip(!compressionTraits[codec].isHere, notHere)
      const records = await readTopic(broker, topicOf(codec, delivery))
      expect(records.map(({ value }) => value.toString())).toEqual(events)
    },
  )

  test.for(cases)(
    '$codec of an $delivery stream is what Kafka finds in its log, whole and valid',
    ({ codec, delivery }, { skip }) => {
      skip(!compressionTraits[codec].isHere, notHere)
      const own = batches.filter(({ topic }) => topic === topicOf(codec, delivery))
      expect(new Set(own.map((batch) => batch.codec))).toEqual(new Set([codec]))
      expect(own.filter(({ isValid, magic }) => !isValid || magic !== 2)).toEqual([])
      const records = own.flatMap((batch) => batch.records)
      expect(records.map(({ offset }) => offset)).toEqual(events.map((_, n) => n))
      expect(records.map(({ valueBytes }) => valueBytes)).toEqual(
        events.map((event) => Buffer.byteLength(event)),
      )
      let next = 0
      for (const { baseOffset, recordCount, producerId, baseSequence } of own) {
        expect(baseOffset).toBe(next)
        // Idempotent writes number their records; the others have no producer id.
        if (delivery === 'at-least-once') expect([producerId >= 0, baseSequence]).toEqual([true, next])
        else expect([producerId, baseSequence]).toEqual([-1, -1])
        next += recordCount
      }
      const sizeOf = (name: CompressionType): number =>
        batches
          .filter(({ topic }) => topic === topicOf(name, delivery))
          .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
      if (codec !== 'none') expect(sizeOf(codec)).toBeLessThan(sizeOf('none') / 2)
    },
  )
})

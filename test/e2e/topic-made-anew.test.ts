import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, inject, test } from 'vitest'
import { isLong } from '../support/forms.ts'
import { createTopic, readTopic, testClient } from '../support/independent-reader.ts'
import { append } from '../support/producer-fixture.ts'
import { startProducer } from '../support/real-producer.ts'

const broker = inject('kafkaBroker')

const everyCase = [
  ['at-least-once', 1],
  ['at-least-once', 6],
  ['at-most-once', 1],
] as const

test.each(isLong ? everyCase : everyCase.slice(0, 1))(
  'a topic that is deleted and made anew under load gets all that is accepted from then on (%s, 3 partitions, then %d)',
  async (delivery, partitions) => {
    const topic = `anew-${randomUUID()}`
    await createTopic(broker, topic, { partitions: 3 })
    const { producer, settled } = await startProducer([broker], topic, {}, delivery)
    let next = 0
    const flow = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        if (producer.admission === 'open') append(producer, `${next}`, `key-${next++ % 17}`)
        await pass()
      }
    }
    await flow(100)
    const admin = testClient(broker).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: [topic] })
    await admin.disconnect()
    const firstAfter = next
    const flowing = flow(300)
    await createTopic(broker, topic, { partitions })
    await flowing
    const firstLate = next
    await flow(100)
    await settled()
    const stored = await readTopic(broker, topic)
    const found = new Set(stored.map(({ value }) => Number(value.toString())))
    const from = delivery === 'at-least-once' ? firstAfter : firstLate
    const missing = Array.from({ length: next - from }, (_, i) => from + i).filter((id) => !found.has(id))
    expect(missing).toEqual([])
    for (let nth = 0; nth < 17; nth++) {
      const ids = stored
        .filter(({ key }) => key === `key-${nth}`)
        .map(({ value }) => Number(value.toString()))
      const late = ids.filter((id) => id >= firstLate)
      expect(late).toEqual(late.toSorted((a, b) => a - b))
    }
    expect(producer.stats.dropped.unknown_topic).toBe(0)
  },
)

async function pass(): Promise<void> {
  await pause(5)
}

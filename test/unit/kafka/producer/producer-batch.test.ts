import { expect, test, vi } from 'vitest'
import { ProducerBatch } from '../../../../src/kafka/producer/producer-batch.ts'
import { RecordBytes } from '../../../../src/kafka/protocol/record-bytes.ts'

test('listeners are told once, and not before onSettled returns', async () => {
  const batch = new ProducerBatch(3, 0, Buffer.alloc(512), () => {})
  const listener = vi.fn()
  batch.onSettled((settlement) => listener(settlement))
  const place = { partition: 3, baseOffset: null, firstPlace: 0, recordCount: 1 }
  const settlement = { outcome: 'sent', reason: null, ...place } as const
  batch.notifySettled(settlement)
  batch.notifySettled(settlement)
  expect(listener).not.toHaveBeenCalled()
  await Promise.resolve()
  expect(listener).toHaveBeenCalledExactlyOnceWith(settlement)
})

test('who listens to one part of a batch that was split does not listen to the other', async () => {
  const make = (): ProducerBatch => new ProducerBatch(3, 0, Buffer.alloc(512), () => {})
  const whole = make()
  const [toWhole, toPart] = [vi.fn(), vi.fn()]
  whole.onSettled(toWhole)
  const [one, other] = [make(), make()] as const
  for (const part of [one, other]) part.append(RecordBytes.of(Buffer.from('value'), null, 1), 512)
  whole.handOverTo([one, other])
  one.onSettled(toPart)
  const place = { partition: 3, baseOffset: null, firstPlace: 1, recordCount: 1 }
  other.notifySettled({ outcome: 'acked', reason: null, ...place })
  await Promise.resolve()
  expect(toWhole).toHaveBeenCalledOnce()
  expect(toPart).not.toHaveBeenCalled()
})

import { expect, test, vi } from 'vitest'
import { ProducerBatch } from '../../../../src/kafka/producer/producer-batch.ts'

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

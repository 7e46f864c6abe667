import { ProducerBatch } from '../producer-batch.ts'
import { readRecords } from '../../protocol/record-format.ts'

/**
 * Makes two batches of one that a broker refused as it is, as `ProducerBatch.split` does: in the same order,
 * uncompressed, and open still.
 */
export function splitBatch(batch: ProducerBatch): [ProducerBatch, ProducerBatch] {
  const records = batch.plainRecords()
  const firstCount = batch.recordCount >> 1
  const halves = [firstCount, batch.recordCount - firstCount].map(() => {
    const buffer = Buffer.allocUnsafeSlow(Math.max(512, records.length >> 1))
    return new ProducerBatch(batch.partition, batch.createdAtMs, buffer, () => {})
  }) as [ProducerBatch, ProducerBatch]
  let place = 0
  for (const { record, headers } of readRecords(records, batch))
    halves[place++ < firstCount ? 0 : 1].append(record, Infinity, headers)
  return halves
}

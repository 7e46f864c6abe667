import { auditHeaderBehind } from '../record-headers.ts'
import type { ResumedBatch } from '../batch-journal.ts'
import { RecordBytes } from '../../protocol/record-bytes.ts'
import { ProducerBatch } from '../producer-batch.ts'
import { readRecords } from '../../protocol/record-format.ts'

/**
 * Makes two batches of a batch that a broker refused, as Kafka's `ProducerBatch.split` does. The records keep their order. The halves are
 * uncompressed and still open.
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

/** Makes a batch again that an earlier process noted. The batch is still open. null if the records do not make the same batch any more. */
export function remakeBatch(noted: ResumedBatch): ProducerBatch | null {
  const { partition, records, firstHeaders } = noted
  const buffer = Buffer.allocUnsafeSlow(noted.uncompressedBytes)
  const batch = new ProducerBatch(partition, performance.now(), buffer, () => {})
  for (const [nth, { key, value, headers, timestampMs }] of records.entries()) {
    const audit = firstHeaders === null ? null : auditHeaderBehind(firstHeaders, nth)
    batch.append(RecordBytes.of(value, key, timestampMs).headed(headers), Infinity, audit)
  }
  return isSameBatch(batch, noted) ? batch : null
}

/** Whether the records that were read back make the batch that was noted. */
function isSameBatch(batch: ProducerBatch, noted: ResumedBatch): boolean {
  return (
    batch.recordCount === noted.recordCount &&
    batch.uncompressedBytes === noted.uncompressedBytes &&
    batch.baseTimestampMs === noted.baseTimestampMs &&
    batch.maxTimestampMs === noted.maxTimestampMs
  )
}

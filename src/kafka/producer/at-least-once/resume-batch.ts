import { headersBehind } from '../audit-stamp.ts'
import type { ResumedBatch } from '../batch-journal.ts'
import { ProducerBatch } from '../producer-batch.ts'
import { RecordBytes } from '../../protocol/record-bytes.ts'

/** Makes the batch again that an earlier process noted, open still; null if its records do not make the same batch any more. */
export function remakeBatch(noted: ResumedBatch): ProducerBatch | null {
  const { partition, records, firstHeaders } = noted
  const buffer = Buffer.allocUnsafeSlow(noted.uncompressedBytes)
  const batch = new ProducerBatch(partition, performance.now(), buffer, () => {})
  for (const [nth, { key, value, timestampMs }] of records.entries()) {
    const headers = firstHeaders === null ? null : headersBehind(firstHeaders, nth)
    batch.append(RecordBytes.of(value, key, timestampMs), Infinity, headers)
  }
  return isSameBatch(batch, noted) ? batch : null
}

/** Whether records that were read back make the batch that was noted. */
function isSameBatch(batch: ProducerBatch, noted: ResumedBatch): boolean {
  return (
    batch.recordCount === noted.recordCount &&
    batch.uncompressedBytes === noted.uncompressedBytes &&
    batch.baseTimestampMs === noted.baseTimestampMs &&
    batch.maxTimestampMs === noted.maxTimestampMs
  )
}

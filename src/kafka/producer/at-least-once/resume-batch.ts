import { headersBehind } from '../audit-stamp.ts'
import type { ResumedBatch } from '../batch-journal.ts'
import { RecordBatch } from '../../protocol/record-batch.ts'
import { RecordBytes } from '../../protocol/record-bytes.ts'

/** Makes the batch again that an earlier process noted, open still; null if its records do not make the same batch any more. */
export function remakeBatch(noted: ResumedBatch): RecordBatch | null {
  const { partition, records, firstHeaders } = noted
  const buffer = Buffer.allocUnsafeSlow(noted.uncompressedBytes)
  const batch = new RecordBatch(partition, performance.now(), buffer, () => {})
  for (const [nth, { key, value, timestampMs }] of records.entries()) {
    const headers = firstHeaders === null ? null : headersBehind(firstHeaders, nth)
    batch.append(RecordBytes.of(value, key, timestampMs), Infinity, headers)
  }
  return isSameBatch(batch, noted) ? batch : null
}

/** Whether records that were read back make the batch that was noted. */
function isSameBatch(batch: RecordBatch, noted: ResumedBatch): boolean {
  return (
    batch.recordCount === noted.recordCount &&
    batch.uncompressedBytes === noted.uncompressedBytes &&
    batch.baseTimestampMs === noted.baseTimestampMs &&
    batch.maxTimestampMs === noted.maxTimestampMs
  )
}

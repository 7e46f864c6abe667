import { decompress } from '../protocol/compression.ts'
import { RecordBatch } from '../protocol/record-batch.ts'
import { RecordBytes } from '../protocol/record-bytes.ts'
import { readVarint, sizeOfVarint } from '../protocol/varint.ts'

/** A record of a batch that is read back. */
export interface RecordView {
  /** Its places are in {@link plainRecords}. Good until the next record is read. */
  readonly record: RecordBytes
  /** The headers as they were encoded, their number included. */
  readonly headers: Buffer
}

/**
 * Reads the records of a batch that was closed. Slow beside writing them: for what a broker refused.
 * @param records see {@link plainRecords}.
 */
export function* readRecords(
  records: Buffer,
  { recordCount, baseTimestampMs }: Pick<RecordBatch, 'recordCount' | 'baseTimestampMs'>,
): Generator<RecordView> {
  const record = new RecordBytes()
  let at = 0
  const varint = (): number => {
    const value = readVarint(records, at)
    at += sizeOfVarint(value)
    return value
  }
  for (let i = 0; i < recordCount; i++) {
    const sizeBytes = varint()
    const end = at + sizeBytes
    at++ // attributes
    record.timestampMs = baseTimestampMs + varint()
    varint() // offset delta: the place of the record
    const keyBytes = varint()
    const keyEnd = at + Math.max(0, keyBytes)
    record.keyed(keyBytes < 0 ? null : records, at, keyEnd)
    at = keyEnd
    const valueBytes = varint()
    record.value(records, at, at + valueBytes)
    yield { record, headers: records.subarray(at + valueBytes, end) }
    at = end
  }
}

/** The records of a batch as they were appended, whatever its codec made of them. */
export function plainRecords(batch: RecordBatch): Buffer {
  return decompress(batch.codecAttribute, batch.records)
}

/**
 * Makes two batches of one that a broker refused as it is, as `ProducerBatch.split` does: in the same order,
 * uncompressed, and open still.
 */
export function splitBatch(batch: RecordBatch): [RecordBatch, RecordBatch] {
  const records = plainRecords(batch)
  const firstCount = batch.recordCount >> 1
  const halves = [firstCount, batch.recordCount - firstCount].map(() => {
    const buffer = Buffer.allocUnsafeSlow(Math.max(512, records.length >> 1))
    return new RecordBatch(batch.partition, batch.createdAtMs, buffer, () => {})
  }) as [RecordBatch, RecordBatch]
  let place = 0
  for (const { record, headers } of readRecords(records, batch))
    halves[place++ < firstCount ? 0 : 1].append(record, Infinity, headers)
  return halves
}

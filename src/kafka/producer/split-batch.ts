import { decompress } from '../protocol/compression.ts'
import { RecordBatch } from '../protocol/record-batch.ts'
import { readVarint, sizeOfVarint } from '../protocol/varint.ts'

/** A record of a batch, as places in {@link plainRecords}. */
export interface RecordView {
  readonly timestampDelta: number
  /** Null if the record has no key. */
  readonly key: Buffer | null
  readonly valueStart: number
  readonly valueEnd: number
  /** The headers as they were encoded, their number included. */
  readonly headers: Buffer
}

/** Reads the records of a batch that was closed. Slow beside writing them: for what a broker refused. */
export function* readRecords(records: Buffer, count: number): Generator<RecordView> {
  let at = 0
  const varint = (): number => {
    const value = readVarint(records, at)
    at += sizeOfVarint(value)
    return value
  }
  for (let i = 0; i < count; i++) {
    const sizeBytes = varint()
    const end = at + sizeBytes
    at++ // attributes
    const timestampDelta = varint()
    varint() // offset delta: the place of the record
    const keyBytes = varint()
    const key = keyBytes < 0 ? null : records.subarray(at, at + keyBytes)
    at += Math.max(0, keyBytes)
    const valueBytes = varint()
    const valueStart = at
    at += valueBytes
    yield { timestampDelta, key, valueStart, valueEnd: at, headers: records.subarray(at, end) }
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
  for (const record of readRecords(records, batch.recordCount)) {
    const half = halves[place++ < firstCount ? 0 : 1]
    const { key, valueStart, valueEnd, timestampDelta, headers } = record
    const timestampMs = batch.baseTimestampMs + timestampDelta
    half.append(records, valueStart, valueEnd, key, 0, key?.length ?? 0, timestampMs, Infinity, headers)
  }
  return halves
}

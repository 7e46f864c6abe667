import { RecordBytes } from './record-bytes.ts'

/**
 * The format of the records in a batch (KIP-98, `org.apache.kafka.common.record.DefaultRecord`): numbers, headers, and the reading of whole
 * records. `record-batch.ts` writes records.
 *
 * Numbers have variable length: zigzag, then seven bits a byte, low bits first (as protobuf's sint32;
 * `org.apache.kafka.common.utils.ByteUtils`). Values are 32-bit signed integers.
 */

/** Number of bytes of an encoded `value`. */
export function sizeOfVarint(value: number): number {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  if (zigzag < 0x80) return 1
  if (zigzag < 0x4000) return 2
  if (zigzag < 0x200000) return 3
  return zigzag < 0x10000000 ? 4 : 5
}

/** Writes `value` at `offset`. @returns the offset behind it. */
export function writeVarint(buffer: Buffer, value: number, offset: number): number {
  let zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  while (zigzag >= 0x80) {
    buffer[offset++] = (zigzag & 0x7f) | 0x80
    zigzag >>>= 7
  }
  buffer[offset++] = zigzag
  return offset
}

/** Reads the value at `offset`. Its size is {@link sizeOfVarint} of the value. */
export function readVarint(buffer: Buffer, offset: number): number {
  let zigzag = 0
  for (let shift = 0; ; shift += 7) {
    const byte = buffer.readUInt8(offset++)
    zigzag |= (byte & 0x7f) << shift
    if (byte < 0x80) return (zigzag >>> 1) ^ -(zigzag & 1)
  }
}

/** A header of a record. Kafka also allows null as a value. Chute writes an empty value instead. */
export interface RecordHeader {
  readonly key: string
  readonly value: Buffer
}

/** Encodes headers for the end of a record (`DefaultRecord.writeTo`): their number, and then each key and each value behind its length. */
export function encodeHeaders(headers: readonly RecordHeader[]): Buffer {
  const parts = headers.flatMap(({ key, value }) => {
    const keyBytes = Buffer.from(key)
    return [encodedVarint(keyBytes.length), keyBytes, encodedVarint(value.length), value]
  })
  return Buffer.concat([encodedVarint(headers.length), ...parts])
}

/** The headers that tell why a record was refused, by the rest of their names. Kafka Connect begins such names with `__connect.errors.`. */
export function errorHeaders(texts: Readonly<Record<string, string>>): RecordHeader[] {
  return Object.entries(texts).map(([name, text]) => ({
    key: `__chute.errors.${name}`,
    value: Buffer.from(text),
  }))
}

/** Decodes what {@link encodeHeaders} has written. The values are views. */
export function decodeHeaders(encoded: Buffer): RecordHeader[] {
  let at = 0
  const next = (): number => {
    const value = readVarint(encoded, at)
    at += sizeOfVarint(value)
    return value
  }
  const bytes = (): Buffer => {
    const size = next()
    at += size
    return encoded.subarray(at - size, at)
  }
  return Array.from({ length: next() }, () => ({ key: bytes().toString(), value: bytes() }))
}

/** Encoded headers with others behind them. */
export function joinHeaders(encoded: Buffer, behind: Buffer): Buffer {
  const [count, countBehind] = [readVarint(encoded, 0), readVarint(behind, 0)]
  return Buffer.concat([
    encodedVarint(count + countBehind),
    encoded.subarray(sizeOfVarint(count)),
    behind.subarray(sizeOfVarint(countBehind)),
  ])
}

/** Whether encoded headers are none. */
export function hasNoHeaders(encoded: Buffer): boolean {
  return encoded[0] === 0
}

function encodedVarint(value: number): Buffer {
  const bytes = Buffer.alloc(sizeOfVarint(value))
  writeVarint(bytes, value, 0)
  return bytes
}

/** A record of a batch that is read back. */
export interface RecordView {
  /** Its ranges are in the bytes that are read. It is valid until the next record is read. */
  readonly record: RecordBytes
  /** The headers as they were encoded, with their number. */
  readonly headers: Buffer
}

/**
 * Reads the records of a closed batch. Reading is slower than writing. It is for batches that a broker refused, and for batches whose records
 * move to other batches.
 * @param records the records as they were appended: see `RecordBatch.plainRecords`.
 */
export function* readRecords(
  records: Buffer,
  { recordCount, baseTimestampMs }: { readonly recordCount: number; readonly baseTimestampMs: number },
): Generator<RecordView> {
  const record = new RecordBytes()
  let at = 0
  const next = (): number => {
    const value = readVarint(records, at)
    at += sizeOfVarint(value)
    return value
  }
  for (let i = 0; i < recordCount; i++) {
    const sizeBytes = next()
    const end = at + sizeBytes
    at++ // attributes
    record.timestampMs = baseTimestampMs + next()
    next() // offset delta: the place of the record
    const keyBytes = next()
    const keyEnd = at + Math.max(0, keyBytes)
    record.keyed(keyBytes < 0 ? null : records, at, keyEnd)
    at = keyEnd
    const valueBytes = next()
    record.value(records, at, at + valueBytes)
    yield { record, headers: records.subarray(at + valueBytes, end) }
    at = end
  }
}

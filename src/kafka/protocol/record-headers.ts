import { readVarint, sizeOfVarint, writeVarint } from './varint.ts'

/** A header of a record. Kafka takes a null value too; an empty one does as well. */
export interface RecordHeader {
  readonly key: string
  readonly value: Buffer
}

/** Headers as they stand at the end of a record (`DefaultRecord.writeTo`): their number, then each key and value behind its length. */
export function encodeHeaders(headers: readonly RecordHeader[]): Buffer {
  const parts = headers.flatMap(({ key, value }) => {
    const keyBytes = Buffer.from(key)
    return [varint(keyBytes.length), keyBytes, varint(value.length), value]
  })
  return Buffer.concat([varint(headers.length), ...parts])
}

/** Headers, as they stand at the end of a record, with more behind them. */
export function addHeaders(encoded: Buffer, more: readonly RecordHeader[]): Buffer {
  const count = readVarint(encoded, 0)
  const added = encodeHeaders(more)
  return Buffer.concat([
    varint(count + more.length),
    encoded.subarray(sizeOfVarint(count)),
    added.subarray(sizeOfVarint(more.length)),
  ])
}

function varint(value: number): Buffer {
  const bytes = Buffer.alloc(sizeOfVarint(value))
  writeVarint(bytes, value, 0)
  return bytes
}

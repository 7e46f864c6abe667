/**
 * Reads Kafka's record format, version 2, knowing nothing of the code that writes it: written from the layout in
 * Kafka's documentation ("Record Batch"), so that tests and the model broker judge batches independently.
 */

/** A batch as read. `records` is null where it is compressed; then {@link ReadBatch.recordsBytes} is what a codec made. */
export interface ReadBatch {
  readonly sizeBytes: number
  readonly baseOffset: bigint
  readonly magic: number
  readonly isCrcRight: boolean
  readonly attributes: number
  readonly lastOffsetDelta: number
  readonly baseTimestamp: number
  readonly maxTimestamp: number
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly baseSequence: number
  readonly recordCount: number
  readonly recordsBytes: Buffer
  readonly records: ReadRecord[] | null
}

/** A record as read. */
export interface ReadRecord {
  readonly offsetDelta: number
  readonly timestamp: number
  readonly key: string | null
  readonly value: string
  /** Values are bytes, a character each. */
  readonly headers: readonly (readonly [key: string, value: string])[]
}

/** Reads one batch, which has to fill `bytes` exactly. Throws where the layout is wrong. */
export function readBatch(bytes: Buffer): ReadBatch {
  const length = bytes.readInt32BE(8)
  if (length + 12 !== bytes.length) throw new Error(`length says ${length + 12}, there are ${bytes.length}`)
  const attributes = bytes.readInt16BE(21)
  const recordCount = bytes.readInt32BE(57)
  const baseTimestamp = Number(bytes.readBigInt64BE(27))
  const recordsBytes = bytes.subarray(61)
  return {
    sizeBytes: bytes.length,
    baseOffset: bytes.readBigInt64BE(0),
    magic: bytes.readInt8(16),
    isCrcRight: bytes.readUInt32BE(17) === crc32c(bytes.subarray(21)),
    attributes,
    lastOffsetDelta: bytes.readInt32BE(23),
    baseTimestamp,
    maxTimestamp: Number(bytes.readBigInt64BE(35)),
    producerId: bytes.readBigInt64BE(43),
    producerEpoch: bytes.readInt16BE(51),
    baseSequence: bytes.readInt32BE(53),
    recordCount,
    recordsBytes,
    records: (attributes & 7) === 0 ? readRecords(recordsBytes, recordCount, baseTimestamp) : null,
  }
}

/** Reads `count` records, which have to fill `bytes` exactly. */
export function readRecords(bytes: Buffer, count: number, baseTimestamp: number): ReadRecord[] {
  let at = 0
  const varint = (): number => {
    let value = 0
    let factor = 1
    for (;;) {
      const byte = bytes.readUInt8(at++)
      value += (byte & 0x7f) * factor
      if (byte < 0x80) break
      factor *= 128
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }
  const text = (length: number, encoding: BufferEncoding = 'utf8'): string => {
    if (at + length > bytes.length) throw new Error('a record ends behind its batch')
    at += length
    return bytes.toString(encoding, at - length, at)
  }
  const records: ReadRecord[] = []
  for (let i = 0; i < count; i++) {
    const size = varint()
    const end = at + size
    at++ // attributes
    const timestamp = baseTimestamp + varint()
    const offsetDelta = varint()
    const keyBytes = varint()
    const key = keyBytes < 0 ? null : text(keyBytes)
    const value = text(varint())
    const headers = Array.from(
      { length: varint() },
      () => [text(varint()), text(varint(), 'latin1')] as const,
    )
    if (at !== end) throw new Error(`record ${i} is ${at - end} bytes off its length`)
    records.push({ offsetDelta, timestamp, key, value, headers })
  }
  if (at !== bytes.length) throw new Error('bytes are left behind the last record')
  return records
}

/** CRC-32C (Castagnoli, RFC 3720 appendix B.4), a table of one byte. */
export function crc32c(bytes: Uint8Array): number {
  let crc = ~0
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!
  return ~crc >>> 0
}

const table = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  return crc
})

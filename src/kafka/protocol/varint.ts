/**
 * Kafka's variable-length integers: zigzag, then seven bits a byte, low bits first (as protobuf's sint32;
 * `org.apache.kafka.common.utils.ByteUtils`). Values are 32-bit signed integers.
 */

/** Bytes that `value` takes. */
export function sizeOfVarint(value: number): number {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  if (zigzag < 0x80) return 1
  if (zigzag < 0x4000) return 2
  if (zigzag < 0x200000) return 3
  return zigzag < 0x10000000 ? 4 : 5
}

/** Writes `value` at `offset` and returns the offset behind it. */
export function writeVarint(buffer: Buffer, value: number, offset: number): number {
  let zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  while (zigzag >= 0x80) {
    buffer[offset++] = (zigzag & 0x7f) | 0x80
    zigzag >>>= 7
  }
  buffer[offset++] = zigzag
  return offset
}

/** Reads the value at `offset`; it is {@link sizeOfVarint} of it long. */
export function readVarint(buffer: Buffer, offset: number): number {
  let zigzag = 0
  for (let shift = 0; ; shift += 7) {
    const byte = buffer.readUInt8(offset++)
    zigzag |= (byte & 0x7f) << shift
    if (byte < 0x80) return (zigzag >>> 1) ^ -(zigzag & 1)
  }
}

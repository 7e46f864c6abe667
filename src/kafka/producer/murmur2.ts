/**
 * The 32-bit murmur2 hash of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`), which picks the
 * partition of a keyed record. Any other client that follows it puts the same key into the same partition.
 * @param length only the first `length` bytes are hashed.
 * @returns a signed 32-bit integer.
 */
export function murmur2(data: Uint8Array, length: number = data.length): number {
  let hash = seed ^ length
  const blocks = length & ~3
  for (let i = 0; i < blocks; i += 4) {
    let k = data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    hash = Math.imul(hash, m) ^ Math.imul(k, m)
  }
  const rest = length - blocks
  if (rest > 2) hash ^= data[blocks + 2]! << 16
  if (rest > 1) hash ^= data[blocks + 1]! << 8
  if (rest > 0) hash = Math.imul(hash ^ data[blocks]!, m)
  hash ^= hash >>> 13
  hash = Math.imul(hash, m)
  return hash ^ (hash >>> 15)
}

/** The partition of a keyed record (`BuiltInPartitioner.partitionForKey`): the sign bit is cut off, not negated. */
export function partitionForKey(key: Uint8Array, keyBytes: number, partitionCount: number): number {
  return (murmur2(key, keyBytes) & 0x7fffffff) % partitionCount
}

const seed = 0x9747b28c | 0
const m = 0x5bd1e995

/**
 * The 32-bit murmur2 hash of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`). It decides the partition of a record with a
 * key. All clients that use this hash put a key into the same partition.
 * @param start the first of the bytes to hash. The last one is before `end`.
 * @returns a signed 32-bit integer.
 */
export function murmur2(data: Uint8Array, start = 0, end: number = data.length): number {
  const length = end - start
  let hash = seed ^ length
  const blocks = start + (length & ~3)
  for (let i = start; i < blocks; i += 4) {
    let k = data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    hash = Math.imul(hash, m) ^ Math.imul(k, m)
  }
  const rest = end - blocks
  if (rest > 2) hash ^= data[blocks + 2]! << 16
  if (rest > 1) hash ^= data[blocks + 1]! << 8
  if (rest > 0) hash = Math.imul(hash ^ data[blocks]!, m)
  hash ^= hash >>> 13
  hash = Math.imul(hash, m)
  return hash ^ (hash >>> 15)
}

/**
 * The partition of a record with a key (Kafka's `BuiltInPartitioner.partitionForKey`). The sign bit of the hash is cleared: a negative hash
 * is not negated.
 * @param keyHash {@link murmur2} of the key.
 */
export function partitionForHash(keyHash: number, partitionCount: number): number {
  return (keyHash & 0x7fffffff) % partitionCount
}

const seed = 0x9747b28c | 0
const m = 0x5bd1e995

import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { compressFrame as lz4CompressFrame, decompressFrameSync as lz4DecompressFrame } from 'lz4-napi'
import { compress as snappyCompress, uncompressSync as snappyUncompress } from 'snappy'
import type { CompressionType } from '../../config/config.ts'

/** A codec of Kafka's record batches. `attribute` is its number in bits 0–2 of a batch's attributes (KIP-98, KIP-110). */
export interface Codec {
  readonly attribute: number
  /** Compresses off the event loop's thread. */
  compress(records: Buffer): Promise<Buffer>
}

/** The codec of a `compression.type`; null for none. Throws where this Node has no zstd, which the configuration checks first. */
export function codecFor(compressionType: CompressionType): Codec | null {
  switch (compressionType) {
    case 'none':
      return null
    case 'gzip':
      return { attribute: 1, compress: promisify(zlib.gzip) }
    case 'snappy':
      return { attribute: 2, compress: compressXerialSnappy }
    case 'lz4':
      return { attribute: 3, compress: (records) => lz4CompressFrame(records) }
    case 'zstd':
      return { attribute: 4, compress: zstd() }
  }
}

/** What {@link Codec.compress} of the codec with this attribute was given. Blocks: for the few batches that a broker refuses. */
export function decompress(attribute: number, compressed: Buffer): Buffer {
  switch (attribute) {
    case 1:
      return zlib.gunzipSync(compressed)
    case 2:
      return Buffer.from(snappyUncompress(compressed.subarray(xerialHeader.length + 4)))
    case 3:
      return lz4DecompressFrame(compressed)
    case 4: {
      const { zstdDecompressSync } = zlib as unknown as { zstdDecompressSync: typeof zlib.gunzipSync }
      return zstdDecompressSync(compressed)
    }
    default:
      return compressed
  }
}

/** snappy as Kafka's Java client frames it (xerial's `SnappyOutputStream`): a header, then blocks with their length before them. */
async function compressXerialSnappy(records: Buffer): Promise<Buffer> {
  const block = await snappyCompress(records)
  const lengthBytes = Buffer.alloc(4)
  lengthBytes.writeInt32BE(block.length)
  return Buffer.concat([xerialHeader, lengthBytes, block])
}

/** Magic, version 1, oldest compatible version 1. */
const xerialHeader = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1])

/** zstd is in Node from 22.15 on; the types of Node 20 do not know it. */
function zstd(): (records: Buffer) => Promise<Buffer> {
  const { zstdCompress } = zlib as unknown as { zstdCompress?: typeof zlib.gzip }
  if (zstdCompress === undefined) throw new Error('this Node has no zstd: Node 22.15 or newer has it')
  return promisify(zstdCompress)
}

import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import type * as Lz4 from 'lz4-napi'
import type * as Snappy from 'snappy'
import { compressionTraits, type CompressionType } from '../../config/config.ts'

/** A codec of Kafka's record batches. */
export interface Codec {
  /** The codec's number in bits 0–2 of a batch's attributes (KIP-98, KIP-110). */
  readonly attribute: number
  /** Loads what the codec needs. It throws where that is missing. */
  load?(): void
  /** Compresses off the event loop's thread. */
  compress(records: Buffer): Promise<Buffer>
  /** Decompresses records of any client, off the event loop's thread. */
  decompress(compressed: Buffer): Promise<Buffer>
  /** As {@link decompress}, but blocks: for the few batches that a broker refuses. */
  decompressSync(compressed: Buffer): Buffer
}

/** The types of Node 20 do not have zstd. */
const zstd = zlib as unknown as {
  readonly zstdCompress: typeof zlib.gzip
  readonly zstdDecompress: typeof zlib.gunzip
  readonly zstdDecompressSync: typeof zlib.gunzipSync
}

/**
 * Loads a library that is written in Rust. Both have an allocator of their own, mimalloc, which keeps what is freed: 28 MB after some seconds of batches of
 * the `logs` preset. With a purge delay of 0 ms it gives the pages back to the system at once. It reads its environment when it is loaded.
 */
function load(library: string): unknown {
  process.env['MIMALLOC_PURGE_DELAY'] ??= '0'
  return requireHere(library)
}

const requireHere = createRequire(import.meta.url)
let snappyLibrary: typeof Snappy | undefined
let lz4Library: typeof Lz4 | undefined
/** Each of the two takes 4 to 5 MB of memory, so a process that needs neither loads neither. */
const snappy = (): typeof Snappy => (snappyLibrary ??= load('snappy') as typeof Snappy)
const lz4 = (): typeof Lz4 => (lz4Library ??= load('lz4-napi') as typeof Lz4)

/** Every `compression.type` and its codec. To add a codec, begin in `compressionTraits` of `config/config.ts`; CONTRIBUTING.md has the rest. */
const codecs = {
  none: null,
  gzip: {
    attribute: 1,
    compress: promisify(zlib.gzip),
    decompress: promisify(zlib.gunzip),
    decompressSync: zlib.gunzipSync,
  },
  // The frames of Kafka's Java client (xerial's `SnappyOutputStream`): a header, and then blocks, each behind its length.
  snappy: {
    attribute: 2,
    load: snappy,
    compress: async (records) => {
      const block = await snappy().compress(records)
      const lengthBytes = Buffer.alloc(4)
      lengthBytes.writeInt32BE(block.length)
      return Buffer.concat([xerialHeader, lengthBytes, block])
    },
    decompress: async (compressed) => {
      const blocks: Buffer[] = []
      for (const block of snappyBlocks(compressed)) blocks.push((await snappy().uncompress(block)) as Buffer)
      return Buffer.concat(blocks)
    },
    decompressSync: (compressed) =>
      Buffer.concat(snappyBlocks(compressed).map((block) => snappy().uncompressSync(block) as Buffer)),
  },
  lz4: {
    attribute: 3,
    load: lz4,
    compress: (records) => lz4().compressFrame(records),
    decompress: async (compressed) => await lz4().decompressFrame(compressed),
    decompressSync: (compressed) => lz4().decompressFrameSync(compressed),
  },
  zstd: {
    attribute: 4,
    compress: async (records) => await promisify(zstd.zstdCompress)(records),
    decompress: async (compressed) => {
      refuseMissing('zstd', 'the topic has batches in ')
      return await promisify(zstd.zstdDecompress)(compressed)
    },
    decompressSync: (compressed) => zstd.zstdDecompressSync(compressed),
  },
} satisfies Record<CompressionType, Codec | null>

/** The codec of a `compression.type`, loaded; null for none. Throws if this Node does not have it. The configuration has checked that before. */
export function codecFor(compressionType: CompressionType): Codec | null {
  refuseMissing(compressionType, 'compression.type is ')
  const codec: Codec | null = codecs[compressionType]
  codec?.load?.()
  return codec
}

/** All codecs, for a reader of batches that other clients have compressed. */
export const allCodecs: readonly Codec[] = Object.values(codecs).filter((codec) => codec !== null)

/**
 * The records of a batch as they were before their codec. Blocks.
 * @param attribute the number of the codec; 0: the batch was not compressed.
 */
export function decompress(attribute: number, records: Buffer): Buffer {
  if (attribute === 0) return records
  const codec = allCodecs.find((each) => each.attribute === attribute)
  if (codec === undefined) throw new Error(`no codec has the number ${attribute}`)
  return codec.decompressSync(records)
}

/** The blocks of snappy: those behind xerial's header. Some clients write no such header, and then the whole is one block. */
function snappyBlocks(compressed: Buffer): Buffer[] {
  if (!compressed.subarray(0, xerialMagicBytes).equals(xerialHeader.subarray(0, xerialMagicBytes)))
    return [compressed]
  const blocks: Buffer[] = []
  for (let at = xerialHeader.length; at < compressed.length;) {
    const end = at + 4 + compressed.readInt32BE(at)
    blocks.push(compressed.subarray(at + 4, end))
    at = end
  }
  return blocks
}

/** Magic, version 1, oldest compatible version 1. */
const xerialHeader = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1])
const xerialMagicBytes = 8

/** Throws if this Node does not have the codec. */
function refuseMissing(type: CompressionType, saidFirst: string): void {
  const { isHere, sinceNode } = compressionTraits[type]
  if (isHere) return
  const { node } = process.versions
  throw new Error(`${saidFirst}${type}, which Node ${node} does not have: Node ${sinceNode} or newer has it`)
}

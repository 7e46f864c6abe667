import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import type * as Kafkajs from 'kafkajs'
import { decompressFrame } from 'lz4-napi'
import { uncompress } from 'snappy'

// Node does not find these among the names that a CommonJS module exports.
const { CompressionCodecs, CompressionTypes } = createRequire(import.meta.url)('kafkajs') as typeof Kafkajs

/** Lets kafkajs's consumer read what kafkajs itself cannot: lz4, snappy in xerial's framing, and zstd where Node has it. */
export function registerCodecs(): void {
  CompressionCodecs[CompressionTypes.LZ4] = codec(async (data) => await decompressFrame(data))
  CompressionCodecs[CompressionTypes.Snappy] = codec(uncompressXerial)
  const { zstdDecompress } = zlib as unknown as { zstdDecompress?: typeof zlib.gunzip }
  if (zstdDecompress !== undefined)
    CompressionCodecs[CompressionTypes.ZSTD] = codec(promisify(zstdDecompress))
}

function codec(decompress: (data: Buffer) => Promise<Buffer>) {
  const compress = async (): Promise<Buffer> => {
    throw new Error('this side only reads')
  }
  return () => ({ compress, decompress })
}

async function uncompressXerial(data: Buffer): Promise<Buffer> {
  const blocks: Buffer[] = []
  let offset = 16
  while (offset < data.length) {
    const length = data.readInt32BE(offset)
    blocks.push((await uncompress(data.subarray(offset + 4, offset + 4 + length))) as Buffer)
    offset += 4 + length
  }
  return Buffer.concat(blocks)
}

import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import type * as Kafkajs from 'kafkajs'
import { decompressFrame } from 'lz4-napi'
import { uncompress } from 'snappy'

// Node does not find these among the names that a CommonJS module exports.
const { CompressionCodecs, CompressionTypes } = createRequire(import.meta.url)('kafkajs') as typeof Kafkajs

/**
 * Lets kafkajs's consumer read what it cannot by itself: lz4, snappy (framed by xerial's stream, as Java's client does, or
 * bare) and zstd where Node has it. kafkajs keeps them for the whole process.
 */
export function registerReadCodecs(): void {
  CompressionCodecs[CompressionTypes.LZ4] = codec(async (data) => await decompressFrame(data))
  CompressionCodecs[CompressionTypes.Snappy] = codec(uncompressSnappy)
  const { zstdDecompress } = zlib as unknown as { zstdDecompress?: typeof zlib.gunzip }
  CompressionCodecs[CompressionTypes.ZSTD] = codec(
    zstdDecompress === undefined ? noZstd : promisify(zstdDecompress),
  )
}

function codec(decompress: (data: Buffer) => Promise<Buffer>) {
  const compress = async (): Promise<Buffer> => {
    throw new Error('this side only reads')
  }
  return () => ({ compress, decompress })
}

async function noZstd(): Promise<Buffer> {
  throw new Error(
    `the topic has batches in zstd, which Node ${process.versions.node} does not have: Node 22.15 or newer has it`,
  )
}

async function uncompressSnappy(data: Buffer): Promise<Buffer> {
  if (!data.subarray(0, xerialMagic.length).equals(xerialMagic)) return (await uncompress(data)) as Buffer
  const blocks: Buffer[] = []
  // Behind the magic are two versions of four bytes; then come blocks, each behind its length.
  let offset = xerialMagic.length + 8
  while (offset < data.length) {
    const length = data.readInt32BE(offset)
    offset += 4
    blocks.push((await uncompress(data.subarray(offset, offset + length))) as Buffer)
    offset += length
  }
  return Buffer.concat(blocks)
}

const xerialMagic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])

import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import type * as Kafkajs from 'kafkajs'
import { decompressFrame } from 'lz4-napi'
import { uncompress } from 'snappy'
import type { CodecName } from './producer-fixture.ts'

// Node does not find these among the names that a CommonJS module exports.
const { CompressionCodecs, CompressionTypes } = createRequire(import.meta.url)('kafkajs') as typeof Kafkajs

const { zstdDecompress } = zlib as unknown as { zstdDecompress?: typeof zlib.gunzip }

/** How the codecs that kafkajs does not have are read: by code of their own, and not by the gateway's. undefined: this Node cannot. */
const decoders: Readonly<Record<Exclude<CodecName, 'gzip'>, Decoder | undefined>> = {
  snappy: { type: CompressionTypes.Snappy, decompress: uncompressXerial },
  lz4: { type: CompressionTypes.LZ4, decompress: async (data) => await decompressFrame(data) },
  zstd: zstdDecompress && { type: CompressionTypes.ZSTD, decompress: promisify(zstdDecompress) },
}

interface Decoder {
  readonly type: Exclude<Kafkajs.CompressionTypes, Kafkajs.CompressionTypes.None>
  readonly decompress: (data: Buffer) => Promise<Buffer>
}

/** Lets kafkajs's consumer read what kafkajs itself cannot. */
export function registerCodecs(): void {
  for (const decoder of Object.values(decoders)) {
    if (decoder !== undefined) CompressionCodecs[decoder.type] = codec(decoder.decompress)
  }
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

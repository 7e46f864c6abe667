import { createRequire } from 'node:module'
import type * as Kafkajs from 'kafkajs'
import { allCodecs } from '../protocol/compression.ts'

// Node does not find these among the names that a CommonJS module exports.
const { CompressionCodecs, CompressionTypes } = createRequire(import.meta.url)('kafkajs') as typeof Kafkajs

/**
 * Lets kafkajs's consumer read what it cannot by itself: lz4, snappy and, where Node has it, zstd. kafkajs numbers codecs as a batch's
 * attributes do, and keeps them for the whole process. Its own gzip stays.
 */
export function registerReadCodecs(): void {
  for (const codec of allCodecs) {
    const type = codec.attribute as Kafkajs.CompressionTypes
    if (type === CompressionTypes.None || type === CompressionTypes.GZIP) continue
    const decompress = async (data: Buffer): Promise<Buffer> => await codec.decompress(data)
    CompressionCodecs[type] = () => ({ compress, decompress })
  }
}

async function compress(): Promise<Buffer> {
  throw new Error('this side only reads')
}

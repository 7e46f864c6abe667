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
  for (const { attribute, decompress } of allCodecs)
    if (attribute !== CompressionTypes.GZIP)
      CompressionCodecs[attribute as keyof typeof CompressionCodecs] = () => ({ compress, decompress })
}

async function compress(): Promise<Buffer> {
  throw new Error('this side only reads')
}

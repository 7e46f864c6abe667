import { execFileSync } from 'node:child_process'
import zlib from 'node:zlib'
import * as fc from 'fast-check'
import { decompressFrameSync } from 'lz4-napi'
import { uncompressSync } from 'snappy'
import { describe, expect, test } from 'vitest'
import { compressionTraits } from '../../../../src/config/config.ts'
import { codecFor, decompress as decompressOurs } from '../../../../src/kafka/protocol/compression.ts'
import { codecsHere, type CodecName } from '../../../support/producer-fixture.ts'

/** `org.xerial.snappy.SnappyInputStream`: a header of 16 bytes, then blocks, each behind its length. */
function uncompressXerial(bytes: Buffer): Buffer {
  expect(bytes.subarray(0, 8)).toEqual(Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]))
  expect([bytes.readInt32BE(8), bytes.readInt32BE(12)]).toEqual([1, 1])
  const blocks: Buffer[] = []
  for (let at = 16; at < bytes.length;) {
    const length = bytes.readInt32BE(at)
    blocks.push(uncompressSync(bytes.subarray(at + 4, at + 4 + length)) as Buffer)
    at += 4 + length
  }
  return Buffer.concat(blocks)
}

/** The types of Node 20 do not have zstd. */
const { zstdDecompressSync } = zlib as unknown as { zstdDecompressSync: typeof zlib.gunzipSync }

/** Independent decoders. */
const decoders = {
  gzip: { attribute: 1, decompress: (bytes) => zlib.gunzipSync(bytes) },
  snappy: { attribute: 2, decompress: uncompressXerial },
  lz4: { attribute: 3, decompress: (bytes) => decompressFrameSync(bytes) },
  zstd: { attribute: 4, decompress: (bytes) => zstdDecompressSync(bytes) },
} satisfies Record<CodecName, { attribute: number; decompress: (bytes: Buffer) => Buffer }>

describe.each(codecsHere)('%s', (type) => {
  const { attribute, decompress } = decoders[type]

  test('has its number in the attributes of a batch', () => {
    expect(codecFor(type)!.attribute).toBe(attribute)
  })

  test('any bytes can be read back by an independent decoder', async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 2_000 }),
      fc.string({ minLength: 1, maxLength: 40 }).map((text) => Buffer.from(text.repeat(500))),
    )
    const property = fc.asyncProperty(bytes, async (data) => {
      const compressed = await codecFor(type)!.compress(Buffer.from(data))
      expect(decompress(compressed).equals(data)).toBe(true)
      expect(decompressOurs(attribute, compressed).equals(data)).toBe(true)
    })
    await fc.assert(property, { numRuns: 200 })
  })

  test('a batch of a megabyte becomes smaller', async () => {
    const data = Buffer.from('{"name":"room.temp","value":21.5}'.repeat(32_000))
    const compressed = await codecFor(type)!.compress(data)
    expect(compressed.length).toBeLessThan(data.length / 10)
    expect(decompress(compressed).equals(data)).toBe(true)
  })
})

test('none is no codec', () => {
  expect(codecFor('none')).toBeNull()
})

test('lz4 has the magic of the frame format, which is what Kafka reads (KIP-57)', async () => {
  const frame = await codecFor('lz4')!.compress(Buffer.from('value'))
  expect(frame.readUInt32LE(0)).toBe(0x184d2204)
})

test.skipIf(compressionTraits.zstd.isHere)('zstd says which Node has it', () => {
  expect(() => codecFor('zstd')).toThrow('Node 22.15')
})

/** What the process keeps of 960 batches of 250 KB that lz4 has compressed, in MB. */
const keptOfBatches = `
  import { randomBytes } from 'node:crypto'
  import { codecFor } from './src/kafka/protocol/compression.ts'
  const codec = codecFor('lz4')
  const batch = Buffer.from(randomBytes(125_000).toString('hex'))
  await codec.compress(batch)
  const before = process.memoryUsage.rss()
  for (let round = 0; round < 60; round++)
    await Promise.all(Array.from({ length: 16 }, () => codec.compress(batch)))
  globalThis.gc()
  // The results are freed in the turns behind the collection.
  await new Promise((resolve) => setTimeout(resolve, 300))
  console.log((process.memoryUsage.rss() - before) / 1e6)
`

test.skipIf(process.platform !== 'linux')('the library of lz4 gives back what it has freed', () => {
  const keptMb = (environment: NodeJS.ProcessEnv): number =>
    Number(
      execFileSync(
        process.execPath,
        ['--expose-gc', '--import', 'tsx', '--input-type=module', '--eval', keptOfBatches],
        { env: { ...process.env, ...environment }, encoding: 'utf8' },
      ),
    )
  expect(keptMb({})).toBeLessThan(0.6 * keptMb({ MIMALLOC_PURGE_DELAY: '10' }))
})

import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const Decoder = require('kafkajs/src/protocol/decoder.js') as new (bytes: Buffer) => object
const decode = require('kafkajs/src/protocol/recordBatch/v0/decoder.js') as (
  decoder: object,
) => Promise<KafkajsBatch>

/** A batch as kafkajs reads it. */
export interface KafkajsBatch {
  readonly records: {
    readonly key: Buffer | null
    readonly value: Buffer
    readonly timestamp: string
    readonly offset: string
    readonly headers: Readonly<Record<string, Buffer>>
  }[]
  readonly maxTimestamp: string
  readonly lastOffsetDelta: number
  readonly producerId: string
  readonly firstSequence: number
}

/** Reads a batch with kafkajs's own decoder, which shares no code with Chute's encoder. */
export async function decodeWithKafkajs(bytes: Buffer): Promise<KafkajsBatch> {
  return await decode(new Decoder(Buffer.from(bytes)))
}

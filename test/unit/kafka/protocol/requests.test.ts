import { createRequire } from 'node:module'
import { describe, expect, test } from 'vitest'
import { ProducerBatch } from '../../../../src/kafka/producer/producer-batch.ts'
import {
  decodeDescribeQuorum,
  decodeDescribeTopics,
  decodeEpochEnd,
  decodeInitProducerId,
  decodeListOffsets,
  decodeMetadata,
  decodeProduce,
  encodeDescribeQuorum,
  encodeDescribeTopics,
  encodeEpochEnd,
  encodeInitProducerId,
  encodeListOffsets,
  encodeMetadata,
  encodeProduce,
  joinTopics,
  splitTopics,
} from '../../../../src/kafka/protocol/requests.ts'
import { copiedBelowBytes, WireWriter, type WireRequest } from '../../../../src/kafka/protocol/wire.ts'
import { ModelReader, ModelWriter } from '../../../support/model-wire.ts'
import { readBatch } from '../../../support/record-batch-reader.ts'
import { RecordBytes } from '../../../../src/kafka/protocol/record-bytes.ts'

const require = createRequire(import.meta.url)

/** kafkajs's own request, encoded. */
async function kafkajsBody(path: string, options: object): Promise<Buffer> {
  const request = require(`kafkajs/src/protocol/requests/${path}/request.js`) as (options: object) => {
    encode: () => Promise<{ buffer: Buffer }>
  }
  return (await request(options).encode()).buffer
}

function body({ chunks }: WireRequest): Buffer {
  return Buffer.concat(chunks)
}

function batchOf(partition: number, value: string): ProducerBatch {
  const batch = new ProducerBatch(partition, 0, Buffer.alloc(512), () => {})
  batch.append(RecordBytes.of(Buffer.from(value), null, 1_700_000_000_000), 512)
  batch.close()
  return batch
}

describe('Produce', () => {
  test('carries acks, time-out, and each batch behind its partition', () => {
    const request = encodeProduce('events', -1, 30_000, [batchOf(4, 'one'), batchOf(7, 'two')])
    expect(request).toMatchObject({ apiKey: 0, apiVersion: 7 })
    const reader = new ModelReader(body(request))
    expect([reader.string(), reader.int16(), reader.int32()]).toEqual([null, -1, 30_000])
    const topics = reader.array(() => ({
      name: reader.string(),
      batches: reader.array(() => [reader.int32(), readBatch(reader.bytes()).records![0]!.value]),
    }))
    reader.end()
    expect(topics).toEqual([
      {
        name: 'events',
        batches: [
          [4, 'one'],
          [7, 'two'],
        ],
      },
    ])
  })

  test('copies small batches together, and leaves large ones as they are', () => {
    const small = Array.from({ length: 200 }, (_, i) => batchOf(i, `${i}`))
    expect(encodeProduce('events', 0, 1, small).chunks).toHaveLength(1)
    const large = new ProducerBatch(200, 0, Buffer.alloc(8_000), () => {})
    large.append(RecordBytes.of(Buffer.alloc(copiedBelowBytes), null, 1), 8_000)
    large.close()
    const batches = [batchOf(0, 'a'), large, batchOf(201, 'b'), batchOf(202, 'c')]
    const request = encodeProduce('events', 0, 1, batches)
    expect(request.chunks).toHaveLength(3)
    // Not a copy: the very bytes of the batch.
    expect(request.chunks[1]!.buffer).toBe(large.seal().buffer)
    const reader = new ModelReader(body(request))
    reader.string()
    expect([reader.int16(), reader.int32()]).toEqual([0, 1])
    const [topic] = reader.array(() => {
      reader.string()
      return reader.array(() => [reader.int32(), reader.bytes()] as const)
    })
    reader.end()
    expect(topic).toEqual(batches.map((batch) => [batch.partition, batch.seal()]))
  })

  test('the response is read as kafkajs reads it', async () => {
    const payload = new ModelWriter().int32(1).string('events').int32(2)
    payload.int32(4).int16(0).int64(1_234_567_890_123).int64(-1).int64(7)
    payload.int32(7).int16(6).int64(-1).int64(-1).int64(-1).int32(250)
    expect(decodeProduce(payload.done())).toEqual({
      results: [
        { partition: 4, errorCode: 0, baseOffset: 1_234_567_890_123n },
        { partition: 7, errorCode: 6, baseOffset: -1n },
      ],
      throttleTimeMs: 250,
    })
    const { decode } = require('kafkajs/src/protocol/requests/produce/v7/response.js') as {
      decode: (payload: Buffer) => Promise<{ topics: object[]; clientSideThrottleTime: number }>
    }
    expect(await decode(payload.done())).toMatchObject({
      clientSideThrottleTime: 250,
      topics: [{ partitions: [{ baseOffset: '1234567890123' }, { errorCode: 6 }] }],
    })
  })
})

describe('ListOffsets', () => {
  /** kafkajs knows up to version 3, which has no epochs. */
  test.each([
    ['high_watermark', -1],
    ['log_end', -2],
  ] as const)('for the %s asks as replica %i, whatever the epoch', (end, replicaId) => {
    const expected = new ModelWriter().int32(replicaId).int8(0).int32(1).string('events').int32(2)
    for (const partition of [0, 5]) expected.int32(partition).int32(-1).int64(-1)
    const request = encodeListOffsets('events', [0, 5], end)
    expect(request).toMatchObject({ apiKey: 2, apiVersion: 4 })
    expect(body(request)).toEqual(expected.done())
  })

  test('the response', () => {
    const payload = new ModelWriter().int32(0).int32(1).string('events').int32(2)
    payload.int32(0).int16(0).int64(-1).int64(99).int32(3)
    payload.int32(5).int16(6).int64(-1).int64(-1).int32(-1)
    expect(decodeListOffsets(payload.done())).toEqual([
      { partition: 0, errorCode: 0, offset: 99n, leaderEpoch: 3 },
      { partition: 5, errorCode: 6, offset: -1n, leaderEpoch: -1 },
    ])
  })
})

test('OffsetForLeaderEpoch asks as a consumer, whatever the present epoch, and its response', () => {
  const expected = new ModelWriter().int32(-1).int32(1).string('events').int32(1).int32(5).int32(-1).int32(7)
  const request = encodeEpochEnd({ topic: 'events', partition: 5, leaderEpoch: 7 })
  expect(request).toMatchObject({ apiKey: 23, apiVersion: 3 })
  expect(body(request)).toEqual(expected.done())
  const payload = new ModelWriter().int32(0).int32(1).string('events').int32(1)
  payload.int16(0).int32(5).int32(6).int64(1_234_567_890_123)
  expect(decodeEpochEnd(payload.done())).toEqual({ errorCode: 0, endOffset: 1_234_567_890_123n })
})

describe('Metadata', () => {
  test('is what kafkajs sends without creating topics, and asks what may be done to topics (KIP-430)', async () => {
    const theirs = await kafkajsBody('metadata/v5', { topics: ['a', 'ü'], allowAutoTopicCreation: false })
    const request = encodeMetadata(['a', 'ü'])
    expect(request).toMatchObject({ apiKey: 3, apiVersion: 8 })
    // MetadataRequest.json: IncludeClusterAuthorizedOperations, IncludeTopicAuthorizedOperations.
    expect(body(request)).toEqual(Buffer.concat([theirs, Buffer.from([0, 1])]))
  })

  test('the response, with a topic that is missing and a partition without a leader', () => {
    const payload = new ModelWriter().int32(0).int32(1).int32(1).string('host').int32(9092).string('rack')
    payload.string('cluster').int32(1).int32(4)
    payload.int16(0).string('events').int8(0).int32(2)
    payload.int16(0).int32(1).int32(1).int32(7).int32(2).int32(1).int32(2).int32(1).int32(1).int32(0)
    payload.int16(5).int32(0).int32(-1).int32(7).int32(0).int32(0).int32(1).int32(2)
    payload.int32(-(2 ** 31))
    payload
      .int16(3)
      .string('missing')
      .int8(0)
      .int32(0)
      .int32(-(2 ** 31))
    payload
      .int16(0)
      .string('mine')
      .int8(0)
      .int32(0)
      .int32((1 << 3) | (1 << 4) | (1 << 8))
    payload
      .int16(0)
      .string('theirs')
      .int8(0)
      .int32(0)
      .int32((1 << 3) | (1 << 8) | (1 << 10))
    payload.int32(-(2 ** 31))
    expect(decodeMetadata(payload.done())).toEqual({
      clusterId: 'cluster',
      brokers: [{ nodeId: 1, host: 'host', port: 9092 }],
      topics: [
        {
          name: 'events',
          id: null,
          errorCode: 0,
          mayWrite: null,
          partitions: [
            { partition: 1, leader: 1, replicas: 2 },
            { partition: 0, leader: -1, replicas: 0 },
          ],
        },
        { id: null, name: 'missing', errorCode: 3, mayWrite: null, partitions: [] },
        { id: null, name: 'mine', errorCode: 0, mayWrite: true, partitions: [] },
        { id: null, name: 'theirs', errorCode: 0, mayWrite: false, partitions: [] },
      ],
    })
  })
})

describe('DescribeQuorum', () => {
  test('asks for the one partition of the metadata of the cluster', () => {
    const topic = Buffer.from('__cluster_metadata')
    const expected = [Buffer.from([0, 2, topic.length + 1]), topic, Buffer.from([2, 0, 0, 0, 0, 0, 0, 0])]
    expect(body(encodeDescribeQuorum())).toEqual(Buffer.concat(expected))
  })

  const replica = (nodeId: number, caughtUpMs: bigint): Buffer => {
    const bytes = Buffer.alloc(29)
    bytes.writeInt32BE(nodeId)
    bytes.writeBigInt64BE(caughtUpMs, 20)
    return bytes
  }
  const answer = (errorCode: number, leader: number, replicas: Buffer[]): Buffer => {
    const partition = Buffer.alloc(22)
    partition.writeInt16BE(errorCode, 4)
    partition.writeInt32BE(leader, 6)
    const topic = Buffer.concat([Buffer.from([2]), Buffer.from('m')])
    return Buffer.concat([
      Buffer.from([0, 0, 0, 2]),
      topic,
      Buffer.from([2]),
      partition,
      Buffer.from([replicas.length + 1]),
      ...replicas,
      // No observers, and empty tagged fields of the partition, the topic and the answer.
      Buffer.from([1, 0, 0, 0]),
    ])
  }

  test('the time of the leader is the time of the controller', () => {
    const payload = answer(0, 2, [replica(1, 5n), replica(2, 1_700_000_000_000n)])
    expect(decodeDescribeQuorum(payload)).toEqual({ errorCode: 0, nodeId: 2, nowMs: 1_700_000_000_000 })
  })

  test('a leader that does not tell its time, and an error, have none', () => {
    expect(decodeDescribeQuorum(answer(0, 2, [replica(2, -1n)])).nowMs).toBeNull()
    expect(decodeDescribeQuorum(Buffer.from([0, 0, 31, 1, 0]))).toEqual({
      errorCode: 31,
      nodeId: -1,
      nowMs: null,
    })
  })
})

describe('DescribeConfigs', () => {
  test('is what kafkajs sends', async () => {
    const configNames = ['max.message.bytes', 'cleanup.policy']
    const resources = ['a', 'b'].map((name) => ({ type: 2, name, configNames }))
    const theirs = await kafkajsBody('describeConfigs/v1', { resources, includeSynonyms: false })
    expect(body(encodeDescribeTopics(['a', 'b']))).toEqual(theirs)
  })

  test('the response, with synonyms and with a topic that may not be read', () => {
    const payload = new ModelWriter().int32(0).int32(2)
    payload.int16(0).string(null).int8(2).string('a').int32(2)
    payload.string('max.message.bytes').string('2000').int8(0).int8(1).int8(0)
    payload.int32(1).string('max.message.bytes').string('1000').int8(5)
    payload.string('cleanup.policy').string('compact').int8(0).int8(1).int8(0).int32(0)
    payload.int16(29).string('no').int8(2).string('b').int32(0)
    expect([...decodeDescribeTopics(payload.done())]).toEqual([
      ['a', { maxMessageBytes: 2000, isCompacted: true }],
    ])
  })

  const described = (settings: readonly (readonly [string, string | null])[]): object | undefined => {
    const payload = new ModelWriter().int32(0).int32(1).int16(0).string(null).int8(2).string('a')
    payload.array(settings, ([name, value]) => {
      payload.string(name).string(value).int8(0).int8(5).int8(0).int32(0)
    })
    return decodeDescribeTopics(payload.done()).get('a')
  }

  test.each([null, '', ' ', '-1', '1e3', '0x10', 'NaN', '1.5', '9'.repeat(20)])(
    'a max.message.bytes of %j is not known, and not 0',
    (value) => {
      expect(described([['max.message.bytes', value]])).toEqual({ maxMessageBytes: null, isCompacted: null })
    },
  )

  test('a max.message.bytes of 0 is 0: the topic takes nothing', () => {
    expect(described([['max.message.bytes', '0']])).toMatchObject({ maxMessageBytes: 0 })
  })

  test.each([
    ['delete', false],
    ['compact', true],
    ['compact,delete', true],
    ['delete, compact', true],
    ['compaction-like', false],
    ['', null],
    [' , ', null],
    [null, null],
  ])('a cleanup.policy of %j is compacted: %j', (policy, isCompacted) => {
    expect(described([['cleanup.policy', policy]])).toEqual({ maxMessageBytes: null, isCompacted })
  })

  test('a setting that the broker leaves out is not known', () => {
    expect(described([])).toEqual({ maxMessageBytes: null, isCompacted: null })
  })
})

describe('InitProducerId', () => {
  test('is what kafkajs sends without a transaction', async () => {
    const theirs = await kafkajsBody('initProducerId/v1', {
      transactionalId: null,
      transactionTimeout: 60_000,
    })
    expect(body(encodeInitProducerId())).toEqual(theirs)
  })

  test('the response', () => {
    const payload = new ModelWriter()
      .int32(0)
      .int16(0)
      .int64(2n ** 40n)
      .int16(3)
    expect(decodeInitProducerId(payload.done())).toEqual({ errorCode: 0, producerId: 2n ** 40n, epoch: 3 })
  })
})

describe('requests about several topics', () => {
  test('are one request, whose head tells how many there are; large batches are not copied', () => {
    const large = Buffer.alloc(copiedBelowBytes, 7)
    const ofLarge = { partition: 2, sizeBytes: large.length, seal: () => large }
    const requests = [
      encodeProduce('one', 0, 30_000, [batchOf(4, 'small')]),
      encodeProduce('two', 0, 30_000, [ofLarge, batchOf(3, 'behind')]),
    ]
    const joined = joinTopics(requests)
    expect(joined).toMatchObject({ apiKey: 0, apiVersion: 7, apiName: 'Produce' })
    expect(joined.chunks).toContain(large)
    const reader = new ModelReader(body(joined))
    expect([reader.string(), reader.int16(), reader.int32()]).toEqual([null, 0, 30_000])
    const topics = reader.array(() => [
      reader.string(),
      reader.array(() => [reader.int32(), reader.bytes().length]),
    ])
    reader.end()
    const small = batchOf(4, 'small').sizeBytes
    expect(topics).toEqual([
      ['one', [[4, small]]],
      [
        'two',
        [
          [2, large.length],
          [3, small + 1],
        ],
      ],
    ])
    expect(joinTopics(requests.slice(0, 1))).toBe(requests[0])
  })

  test('are answered for each topic as if it had been alone', () => {
    const writer = new ModelWriter()
    const offsets = { one: 7n, two: 2n ** 40n }
    writer.array(Object.entries(offsets), ([name, offset]) => {
      writer.string(name).int32(1).int32(5).int16(0).int64(offset).int64(-1n).int64(0n)
    })
    const parts = splitTopics('Produce', writer.int32(250).done())
    for (const [name, baseOffset] of Object.entries(offsets))
      expect(decodeProduce(parts.get(name)!)).toEqual({
        results: [{ partition: 5, errorCode: 0, baseOffset }],
        throttleTimeMs: 250,
      })
    expect(() => splitTopics('Produce', writer.done().subarray(0, 40))).toThrow(RangeError)
  })

  test.each([
    ['Produce', new ModelWriter(), 24],
    ['ListOffsets', new ModelWriter().int32(0), 20],
  ] as const)('%s: a number of partitions that leads nowhere ends at once', (name, writer, nameBytes) => {
    // Each turn of a loop over the topics would end where it began.
    const payload = writer
      .int32(2 ** 31 - 1)
      .string('x'.repeat(nameBytes))
      .int32(-1)
      .int32(0)
    expect(() => splitTopics(name, payload.done())).toThrow(RangeError)
  })

  test('a name of a negative length ends at once, too', () => {
    // Its number of partitions would be what stands before it: 0.
    const payload = new ModelWriter()
      .int32(0)
      .int32(2 ** 31 - 1)
      .string('x')
      .int32(0)
      .int16(-6)
      .int32(0)
      .int32(0)
    expect(() => splitTopics('ListOffsets', payload.done())).toThrow(RangeError)
  })
})

test.each([
  ['Produce', decodeProduce, new ModelWriter().int32(1).string('events').int32(1).int32(0)],
  ['ListOffsets', decodeListOffsets, new ModelWriter().int32(0).int32(1).int16(200)],
  ['Metadata', decodeMetadata, new ModelWriter().int32(0).int32(2 ** 30)],
] as const)('a response to %s that ends too early is a RangeError', (_name, decode, payload) => {
  expect(() => decode(payload.done())).toThrow(RangeError)
})

test('what was taken from a writer stays as it was when the writer grows', () => {
  const writer = new WireWriter(8)
  const first = writer.int32(1).take()
  const second = writer.int32(2).take()
  const third = writer.int32(3).bytes(Buffer.alloc(100, 7)).string('end').take()
  const all = new ModelWriter().int32(1).int32(2).int32(3).done()
  expect(Buffer.concat([first, second, third])).toEqual(
    Buffer.concat([all, Buffer.alloc(100, 7), new ModelWriter().string('end').done()]),
  )
})

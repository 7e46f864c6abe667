import response from 'kafkajs/src/protocol/requests/fetch/v11/response.js'
import { expect, test } from 'vitest'
import { readPastEmptyBatches } from '../../../../src/kafka/consumer/kafkajs-empty-batches.ts'

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}
const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
const int64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(BigInt(value))
  return bytes
}

/** A batch of which the log cleaner has left nothing but the header. */
function emptyBatch(from: number, to: number): Buffer {
  const batch = Buffer.alloc(61)
  batch.writeBigInt64BE(BigInt(from), 0)
  batch.writeInt32BE(61 - 12, 8)
  batch[16] = 2
  batch.writeInt32BE(to - from, 23)
  return batch
}

/** A fetch response (version 11) with a partition for each of these record sets, each with a transaction that was aborted. */
function fetched(...recordSets: Buffer[]): Buffer {
  const partitions = recordSets.map((records, partition) =>
    Buffer.concat([
      int32(partition),
      int16(0),
      int64(100),
      int64(100),
      int64(0),
      Buffer.concat([int32(1), int64(7), int64(3)]),
      int32(-1),
      int32(records.length),
      records,
    ]),
  )
  const topic = Buffer.concat([int16(1), Buffer.from('t'), int32(partitions.length), ...partitions])
  return Buffer.concat([int32(0), int16(0), int32(0), int32(1), topic])
}

test('batches without records are gone past, up to the last one that is whole', async () => {
  readPastEmptyBatches()
  const [one, cut, none] = [
    Buffer.concat([emptyBatch(4, 9), emptyBatch(10, 12)]),
    Buffer.concat([emptyBatch(20, 20), emptyBatch(21, 22).subarray(0, 40)]),
    Buffer.alloc(0),
  ]
  const { responses } = await response.decode(fetched(one, cut, none))
  const offsets = responses[0]!.partitions.map(({ messages }) =>
    messages.map(({ offset, isControlRecord }) => [offset, isControlRecord]),
  )
  expect(offsets).toEqual([[['12', true]], [['20', true]], []])
})

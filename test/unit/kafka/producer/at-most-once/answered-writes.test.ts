import { expect, test, vi } from 'vitest'
import type { BrokerConnection } from '../../../../../src/kafka/network/transport.ts'
import { WriteRights } from '../../../../../src/kafka/network/write-rights.ts'
import { Account } from '../../../../../src/kafka/producer/account.ts'
import { AnsweredWrites } from '../../../../../src/kafka/producer/at-most-once/answered-writes.ts'
import { BufferMemory } from '../../../../../src/kafka/producer/buffer-memory.ts'
import { ProducerBatch } from '../../../../../src/kafka/producer/producer-batch.ts'
import { encodeProduce } from '../../../../../src/kafka/protocol/requests.ts'
import { RecordBytes } from '../../../../../src/kafka/protocol/record-bytes.ts'
import { LogKeeper } from '../../../../support/producer-fixture.ts'

test('batches whose answer ends too early stay with the writes, so that the end of the connection finds them', () => {
  const answers: ((payload: Buffer) => void)[] = []
  const connection = {
    call: (_request: unknown, onResponse: (payload: Buffer) => void) => answers.push(onResponse),
  } as unknown as BrokerConnection
  const onAnswered = vi.fn()
  const writes = new AnsweredWrites({
    topic: 'events',
    account: new Account(new BufferMemory(1_000)),
    telemetry: { batchWritten() {}, requestCompleted() {} },
    logger: new LogKeeper(),
    acks: 1,
    rights: new WriteRights('events', () => {}, false),
    onStored: () => {},
    onRejected: () => {},
    onNotLed: () => {},
    onStale: () => {},
    onBadContent: () => {},
    onThrottled: () => {},
    onAnswered,
  })
  const batch = new ProducerBatch(0, performance.now(), Buffer.alloc(500), () => {})
  batch.append(RecordBytes.of(Buffer.from('x'), null, 0), 500)
  batch.close()
  writes.write(connection, encodeProduce('events', 1, 100, [batch]), [batch])
  expect(() => answers[0]!(Buffer.alloc(6))).toThrow(RangeError)
  expect(writes.count).toBe(1)
  expect(writes.takeAll()).toEqual([batch])
  expect(onAnswered).not.toHaveBeenCalled()
})

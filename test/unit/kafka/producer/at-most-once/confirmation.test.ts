import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Account } from '../../../../../src/kafka/producer/account.ts'
import { BufferMemory } from '../../../../../src/kafka/producer/buffer-memory.ts'
import { Confirmation } from '../../../../../src/kafka/producer/at-most-once/confirmation.ts'
import { ProducerBatch } from '../../../../../src/kafka/producer/producer-batch.ts'
import type { BrokerConnection } from '../../../../../src/kafka/network/transport.ts'
import type { WireRequest } from '../../../../../src/kafka/protocol/wire.ts'
import { ModelWriter } from '../../../../support/model-wire.ts'
import { pass, useVirtualClock } from '../../../../support/virtual-clock.ts'
import { RecordBytes } from '../../../../../src/kafka/protocol/record-bytes.ts'

/** A barrier's requests and their answers, by hand. */
class ScriptedConnection implements BrokerConnection {
  readonly isOpen = true
  readonly pendingBytes = 0
  readonly isShared = false
  readonly renewAtMs = Infinity
  destroyedBy: Error | null = null
  readonly #calls: { end: string; partitions: number[]; onResponse: (payload: Buffer) => void }[] = []

  askForRoom(): boolean {
    return true
  }

  send(): void {}

  call(request: WireRequest, onResponse: (payload: Buffer) => void): void {
    const body = Buffer.concat(request.chunks)
    const partitions: number[] = []
    for (let at = 4 + 1 + 4 + 2 + topic.length + 4; at < body.length; at += 16)
      partitions.push(body.readInt32BE(at))
    this.#calls.push({
      end: body.readInt32BE(0) === -2 ? 'log_end' : 'high_watermark',
      partitions,
      onResponse,
    })
  }

  /** What waits for an answer: 'log_end 0,1'. */
  get asked(): string[] {
    return this.#calls.map(({ end, partitions }) => `${end} ${partitions.join()}`)
  }

  /** Answers the oldest request: an offset by partition, or an error. */
  answer(...answers: [partition: number, offset: number, epoch?: number, errorCode?: number][]): void {
    const writer = new ModelWriter().int32(0).int32(1).string(topic)
    writer.array(answers, ([partition, offset, epoch = 0, errorCode = 0]) => {
      writer.int32(partition).int16(errorCode).int64(-1).int64(offset).int32(epoch)
    })
    this.#calls.shift()!.onResponse(writer.done())
  }

  lacks(): null {
    return null
  }

  throttle(): void {}
  onClose(): void {}
  onDrain(): void {}

  destroy(cause: Error): void {
    this.destroyedBy = cause
  }
}

const topic = 'events'
const onAnswered = vi.fn()
const onStale = vi.fn()
const more = { isReplicated: () => true, onNoLogEnd: vi.fn(), onStandstill: vi.fn() }
let memory: BufferMemory
let account: Account
let connection: ScriptedConnection
let confirmation: Confirmation

beforeEach(() => {
  useVirtualClock()
  vi.clearAllMocks()
  memory = new BufferMemory(10_000)
  account = new Account(memory)
  connection = new ScriptedConnection()
  const options = { topic, intervalMs: 20, deliveryTimeoutMs: 5_000, account, onAnswered, onStale, ...more }
  confirmation = new Confirmation(options)
  confirmation.attach(connection)
})
afterEach(() => {
  confirmation.detach()
  vi.useRealTimers()
})

/** A batch of `records` that was handed to the socket. */
function writtenBatch(partition: number, records: number): ProducerBatch {
  const batch = new ProducerBatch(partition, performance.now(), Buffer.alloc(500), () => {})
  for (let i = 0; i < records; i++) {
    batch.append(RecordBytes.of(Buffer.from('x'), null, 0), 500)
    account.accept()
  }
  batch.close()
  memory.reserve(100)
  batch.chargedBytes = 100
  account.written(batch)
  return batch
}

function write(partition: number, records: number): ProducerBatch {
  const batch = writtenBatch(partition, records)
  confirmation.written([batch])
  return batch
}

/** Lets the next barrier go and answers both of its requests for partition 0. */
async function barrier(logEnd: number, highWatermark: number, epoch = 0): Promise<void> {
  await pass(25)
  connection.answer([0, logEnd, epoch])
  connection.answer([0, highWatermark, epoch])
}

test('asks where the log ends behind the writes, then how far the replicas are', async () => {
  confirmation.written([writtenBatch(0, 1), writtenBatch(2, 1)])
  expect(connection.asked).toEqual(['log_end 0,2', 'high_watermark 0,2'])
  connection.answer([0, 7], [2, 4])
  expect(account.confirmed).toBe(0)
  connection.answer([0, 7], [2, 4])
  expect(account.confirmed).toBe(2)
  expect(onAnswered).toHaveBeenCalledTimes(1)
  expect(confirmation.hasPending).toBe(false)
  await pass(200)
  expect(connection.asked).toEqual([])
})

test('goes with a write where writes are rare and the last one is half an interval old, else when a whole one has passed', async () => {
  write(0, 1)
  expect(connection.asked).toHaveLength(2)
  connection.answer([0, 1])
  connection.answer([0, 1])
  await pass(8)
  write(0, 1)
  expect(connection.asked).toEqual([])
  await pass(4)
  write(0, 1)
  expect(connection.asked).toHaveLength(2)
  connection.answer([0, 3])
  connection.answer([0, 3])
  await pass(5)
  write(0, 1)
  await pass(10)
  expect(connection.asked).toEqual([])
  await pass(10)
  expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
  expect(account.confirmed).toBe(3)
})

test('waits for the last write of its interval where writes are frequent', async () => {
  let barriers = 0
  const writeEvery2Ms = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      write(0, 1)
      if (connection.asked.length > 0) barriers++
      while (connection.asked.length > 0) connection.answer([0, 0])
      await pass(2)
      // None went without a write.
      expect(connection.asked).toEqual([])
    }
  }
  await writeEvery2Ms(30)
  barriers = 0
  await writeEvery2Ms(90)
  expect(barriers).toBe(10)
})

test('what the replicas do not have waits for a later barrier, and keeps its room in the buffer', async () => {
  write(0, 3)
  await barrier(10, 9)
  expect(account).toMatchObject({ confirmed: 0, inFlight: 3 })
  expect(memory.availableBytes).toBe(9_900)
  expect(confirmation.uncoveredWrites).toBe(0)
  expect(confirmation.hasPending).toBe(true)
  write(0, 5)
  await barrier(15, 10)
  expect(account).toMatchObject({ confirmed: 3, inFlight: 5 })
  // Nothing was written since, so it is not asked where the log ends.
  await pass(25)
  expect(connection.asked).toEqual(['high_watermark 0'])
  connection.answer([0, 15])
  expect(account).toMatchObject({ confirmed: 8, inFlight: 0 })
  expect(memory.availableBytes).toBe(10_000)
})

test('what is written behind a barrier is not covered by it', async () => {
  write(0, 1)
  await pass(25)
  write(0, 2)
  connection.answer([0, 1])
  connection.answer([0, 3])
  expect(account).toMatchObject({ confirmed: 1, inFlight: 2 })
})

test('a batch that the leader acknowledged is confirmed by the high watermark, with its offset', async () => {
  const batch = writtenBatch(0, 3)
  const settled = vi.fn()
  batch.onSettled((settlement) => settled(settlement))
  confirmation.appended(batch, 40n)
  await pass(25)
  expect(connection.asked).toEqual(['high_watermark 0'])
  connection.answer([0, 42])
  expect(account.confirmed).toBe(0)
  await pass(25)
  connection.answer([0, 43])
  await pass(1)
  expect(settled).toHaveBeenCalledExactlyOnceWith(
    expect.objectContaining({ outcome: 'confirmed', baseOffset: 40n }),
  )
})

test('a connection that ends gives back what no one knows of, covered or not', async () => {
  const covered = write(0, 1)
  await barrier(1, 0)
  const uncovered = write(1, 1)
  expect(confirmation.detach()).toEqual([covered, uncovered])
  expect(confirmation.hasPending).toBe(false)
  expect(confirmation.detach()).toEqual([])
})

test('writing pauses while a barrier is overdue', async () => {
  write(0, 1)
  await pass(10)
  expect(confirmation.isLate(performance.now())).toBe(false)
  await pass(25)
  expect(confirmation.isLate(performance.now())).toBe(true)
  connection.answer([0, 1])
  connection.answer([0, 1])
  expect(confirmation.isLate(performance.now())).toBe(false)
})

test('nobody waits for replicas longer than delivery.timeout.ms', async () => {
  write(0, 2)
  await barrier(2, 0)
  await pass(4_000)
  confirmation.everySecond(performance.now())
  expect(account.suspectedLost).toBe(0)
  await pass(1_000)
  confirmation.everySecond(performance.now())
  expect(account).toMatchObject({ suspectedLost: 2, inFlight: 0 })
})

describe('doubt', () => {
  beforeEach(() => {
    confirmation.found({ partition: 0, errorCode: 0, offset: 100n, leaderEpoch: 4 })
  })

  test('a leader that is elected again without another in between keeps its log', async () => {
    write(0, 1)
    await barrier(101, 101, 5)
    expect(account.confirmed).toBe(1)
  })

  test('another leader in between may have cut off what waits', async () => {
    write(0, 1)
    await barrier(101, 100, 4)
    write(0, 1)
    await barrier(300, 300, 6)
    expect(account).toMatchObject({ confirmed: 0, suspectedLost: 2 })
    write(0, 1)
    await barrier(301, 301, 6)
    expect(account).toMatchObject({ confirmed: 1, suspectedLost: 2 })
  })

  test.each([
    ['a high watermark that goes back', 7, 4],
    ['an older epoch', 500, 0],
  ])('%s is another topic of the same name', async (_, highWatermark, epoch) => {
    write(0, 1)
    await barrier(101, 100, 4)
    await pass(25)
    connection.answer([0, highWatermark, epoch])
    expect(account).toMatchObject({ confirmed: 0, suspectedLost: 1 })
    expect(onStale).not.toHaveBeenCalled()
  })

  test.each([
    ['NOT_LEADER_OR_FOLLOWER', 6],
    ['UNKNOWN_TOPIC_OR_PARTITION', 3],
    ['TOPIC_AUTHORIZATION_FAILED', 29],
  ])('%s: this broker cannot tell any more', (_, errorCode) => {
    confirmation.written([writtenBatch(0, 1), writtenBatch(1, 1)])
    connection.answer([0, 101, 4], [1, 8, 0])
    connection.answer([0, -1, -1, errorCode], [1, 8, 0])
    expect(account).toMatchObject({ confirmed: 1, suspectedLost: 1 })
    expect(onStale).toHaveBeenCalledExactlyOnceWith(0)
  })

  test('another leader in between, which the answer about a partition that comes back shows: also of what no barrier covers', async () => {
    const found = (offset: bigint, leaderEpoch: number): void =>
      confirmation.found({ partition: 0, errorCode: 0, offset, leaderEpoch })
    write(0, 1)
    await pass(25)
    write(0, 2)
    write(1, 1)
    connection.answer([0, 101, 4])
    connection.answer([0, 101, 4])
    expect(account).toMatchObject({ confirmed: 1, inFlight: 3 })
    // The partition went to another broker, which did not have the two records, and is back.
    found(101n, 6)
    // Others write there, too.
    await pass(25)
    expect(connection.asked).toEqual(['log_end 0,1', 'high_watermark 0,1'])
    connection.answer([0, 105, 6], [1, 1])
    connection.answer([0, 105, 6], [1, 1])
    expect(account).toMatchObject({ confirmed: 2, suspectedLost: 2, inFlight: 0 })
    expect(confirmation).toMatchObject({ uncoveredWrites: 0, hasPending: false })
    expect(memory.availableBytes).toBe(memory.totalBytes)
    // A connection that ends gives back only what has no outcome.
    write(0, 2)
    found(105n, 8)
    expect(confirmation.detach()).toEqual([])
  })

  test('a leader that does not know its high watermark yet is asked again', async () => {
    write(0, 1)
    await pass(25)
    connection.answer([0, 101, 5])
    connection.answer([0, -1, -1, 5])
    expect(account).toMatchObject({ confirmed: 0, inFlight: 1 })
    await pass(25)
    connection.answer([0, 101, 5])
    expect(account.confirmed).toBe(1)
  })

  test('a log end that is not told confirms nothing, and is asked for again', async () => {
    write(0, 1)
    await pass(25)
    connection.answer([0, -1, -1, -1])
    connection.answer([0, 200, 4])
    expect(account).toMatchObject({ confirmed: 0, inFlight: 1 })
    await barrier(202, 202, 4)
    expect(account).toMatchObject({ confirmed: 1, inFlight: 0 })
  })
})

describe('a log end', () => {
  beforeEach(() => {
    confirmation.found({ partition: 0, errorCode: 0, offset: 100n, leaderEpoch: 4 })
  })

  test('that has not grown by what was written confirms nothing, and is asked for again', async () => {
    write(0, 3)
    await barrier(102, 102, 4)
    expect(account).toMatchObject({ confirmed: 0, inFlight: 3 })
    expect(confirmation.uncoveredWrites).toBe(0)
    await pass(25)
    expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
    connection.answer([0, 103, 4])
    connection.answer([0, 103, 4])
    expect(account).toMatchObject({ confirmed: 3, inFlight: 0 })
  })

  test('is held against all that no answer has shown yet', async () => {
    write(0, 3)
    await barrier(100, 100, 4)
    write(0, 2)
    await barrier(103, 103, 4)
    expect(account.confirmed).toBe(0)
    await barrier(105, 105, 4)
    expect(account.confirmed).toBe(5)
  })

  test('that is short again and again decides: what was written is confirmed by the answer to a later write', async () => {
    for (let i = 0; i < 3; i++) {
      expect(more.onNoLogEnd).not.toHaveBeenCalled()
      write(0, 1)
      await barrier(100, 100, 4)
    }
    expect(more.onNoLogEnd).toHaveBeenCalledTimes(1)
    expect(confirmation.needsAnswers).toBe(true)
    // Nothing that it could tell is of use.
    await pass(100)
    expect(connection.asked).toEqual([])
    confirmation.appended(writtenBatch(0, 2), 103n)
    await pass(25)
    expect(connection.asked).toEqual(['high_watermark 0'])
    connection.answer([0, 104, 4])
    expect(account).toMatchObject({ confirmed: 3, inFlight: 2 })
  })

  test('that decides covers no write behind its barrier: the next barrier does, whatever log end it is told', async () => {
    for (let i = 0; i < 2; i++) {
      write(0, 1)
      await barrier(100, 100, 4)
    }
    write(0, 1)
    await pass(25)
    write(0, 1)
    connection.answer([0, 100, 4])
    connection.answer([0, 100, 4])
    expect(confirmation.needsAnswers).toBe(true)
    expect(confirmation).toMatchObject({ uncoveredWrites: 1, isChangingToAnswers: true })
    await pass(25)
    expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
    // Others write there, too.
    connection.answer([0, 104, 4])
    expect(confirmation).toMatchObject({ uncoveredWrites: 0, isChangingToAnswers: false })
    connection.answer([0, 104, 4])
    expect(account).toMatchObject({ confirmed: 0, inFlight: 4 })
    confirmation.appended(writtenBatch(0, 1), 104n)
    await pass(25)
    expect(connection.asked).toEqual(['high_watermark 0'])
    connection.answer([0, 105, 4])
    expect(account).toMatchObject({ confirmed: 5, inFlight: 0 })
  })

  test('and a write whose place leaves no room for those before it: they are not there', async () => {
    for (let i = 0; i < 3; i++) {
      write(0, 1)
      await barrier(100, 100, 4)
    }
    confirmation.appended(writtenBatch(0, 2), 102n)
    expect(account).toMatchObject({ suspectedLost: 3, inFlight: 2 })
  })

  test('that is beyond the high watermark told after it is one, however often another was short', async () => {
    for (let i = 0; i < 5; i++) {
      write(0, 1)
      await barrier(100 + i, 100 + i, 4)
      await barrier(101 + i, 100 + i, 4)
      await pass(25)
      connection.answer([0, 101 + i, 4])
    }
    expect(account.confirmed).toBe(5)
    expect(more.onNoLogEnd).not.toHaveBeenCalled()
    expect(confirmation.needsAnswers).toBe(false)
  })

  test('of a topic that was made anew is no sign of anything', async () => {
    for (let i = 0; i < 5; i++) {
      confirmation.found({ partition: 0, errorCode: 0, offset: 100n, leaderEpoch: 4 })
      write(0, 1)
      await barrier(1, 1, 0)
    }
    expect(account).toMatchObject({ confirmed: 0, suspectedLost: 5 })
    expect(more.onNoLogEnd).not.toHaveBeenCalled()
  })
})

describe('while the stream shuts down', () => {
  test('a barrier follows each write at once', () => {
    confirmation.hurry()
    write(0, 1)
    expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
    write(0, 1)
    expect(connection.asked).toHaveLength(2)
    connection.answer([0, 1])
    connection.answer([0, 1])
    expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
  })

  test('replicas that lag are asked about no more often than usual', async () => {
    confirmation.hurry()
    write(0, 1)
    connection.answer([0, 1])
    connection.answer([0, 0])
    expect(connection.asked).toEqual([])
    await pass(25)
    expect(connection.asked).toEqual(['high_watermark 0'])
  })
})

describe('while a client waits for the outcome', () => {
  function writeAwaited(partition: number): ReturnType<typeof vi.fn> {
    const batch = writtenBatch(partition, 1)
    const settled = vi.fn()
    batch.onSettled((settlement) => settled(settlement))
    batch.hurry()
    confirmation.written([batch])
    return settled
  }

  test('the barrier goes right behind the write, and covers those before that nobody waits for', async () => {
    write(0, 1)
    connection.answer([0, 1])
    connection.answer([0, 1])
    write(1, 1)
    expect(connection.asked).toEqual([])
    const settled = writeAwaited(0)
    expect(connection.asked).toEqual(['log_end 1,0', 'high_watermark 1,0'])
    connection.answer([1, 1], [0, 2])
    connection.answer([1, 1], [0, 2])
    await pass(0)
    expect(settled).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ outcome: 'confirmed' }))
    expect(account.confirmed).toBe(3)
  })

  test('one is out at a time: all that are written meanwhile share the next', () => {
    for (let i = 0; i < 50; i++) writeAwaited(0)
    expect(connection.asked).toHaveLength(2)
    connection.answer([0, 1])
    connection.answer([0, 1])
    expect(account.confirmed).toBe(1)
    expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
    connection.answer([0, 50])
    connection.answer([0, 50])
    expect(account.confirmed).toBe(50)
    expect(connection.asked).toEqual([])
  })

  test('what is written after them, for nobody, waits for its interval', async () => {
    writeAwaited(0)
    write(0, 1)
    connection.answer([0, 1])
    connection.answer([0, 1])
    expect(connection.asked).toEqual([])
    await pass(25)
    expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
  })

  test('a batch that the leader acknowledged is asked about at once', () => {
    const batch = writtenBatch(0, 1)
    batch.hurry()
    confirmation.appended(batch, 0n)
    expect(connection.asked).toEqual(['high_watermark 0'])
  })

  test('replicas that lag are asked about soon, then ever less often; more often again once they stand still', async () => {
    writeAwaited(0)
    connection.answer([0, 1])
    connection.answer([0, 0])
    const pauses: number[] = []
    for (let askedAtMs = performance.now(); pauses.length < 7;) {
      while (connection.asked.length === 0) await pass(1)
      pauses.push(Math.round(performance.now() - askedAtMs))
      askedAtMs = performance.now()
      connection.answer([0, 0])
    }
    expect(pauses).toEqual([1, 2, 4, 8, 16, 5, 5])
    // Other traffic does not hurry it again.
    write(0, 1)
    expect(connection.asked).toEqual([])
  })

  test('a new connection starts at the usual pace', async () => {
    writeAwaited(0)
    confirmation.detach()
    connection = new ScriptedConnection()
    confirmation.attach(connection)
    write(0, 1)
    await pass(15)
    expect(connection.asked).toEqual([])
    await pass(10)
    expect(connection.asked).toEqual(['log_end 0', 'high_watermark 0'])
  })
})

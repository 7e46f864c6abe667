import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { Account } from '../../../../src/kafka/producer/account.ts'
import { BufferMemory } from '../../../../src/kafka/producer/buffer-memory.ts'
import { dropReasons, outcomes, type DropReason } from '../../../../src/kafka/producer/outcome.ts'
import { ProducerBatch } from '../../../../src/kafka/producer/producer-batch.ts'
import { errorRateOf } from '../../../../src/kafka/producer/producer-stats.ts'
import { sumOfOutcomes } from '../../../support/producer-stats.ts'
import { RecordBytes } from '../../../../src/kafka/protocol/record-bytes.ts'

function setUp(): { account: Account; memory: BufferMemory } {
  const memory = new BufferMemory(1_000_000)
  return { account: new Account(memory), memory }
}

/** A batch of `count` records that the account has accepted, with 100 bytes reserved for each. */
function accepted({ account, memory }: ReturnType<typeof setUp>, count: number): ProducerBatch {
  const batch = new ProducerBatch(0, 0, Buffer.alloc(4_096), () => {})
  for (let i = 0; i < count; i++) {
    memory.reserve(100)
    batch.append(RecordBytes.of(Buffer.from('value'), null, 1_700_000_000_000), 4_096)
    batch.chargedBytes += 100
    account.accept()
  }
  return batch
}

function sumOfTerms(account: Account): number {
  return account.buffered + account.inFlight + sumOfOutcomes(account)
}

describe('a batch', () => {
  test('goes from buffered to in flight to its outcome, and its room comes back', () => {
    const parts = setUp()
    const { account, memory } = parts
    const batch = accepted(parts, 3)
    expect(account).toMatchObject({ accepted: 3, buffered: 3, inFlight: 0, recordSendTotal: 0 })
    batch.close()
    account.written(batch)
    expect(account).toMatchObject({ buffered: 0, inFlight: 3, recordSendTotal: 3 })
    expect(memory.availableBytes).toBe(999_700)
    account.settle(batch, 'confirmed')
    expect(account).toMatchObject({ inFlight: 0, confirmed: 3, recordSendTotal: 3, recordErrorTotal: 0 })
    expect(memory.availableBytes).toBe(1_000_000)
  })

  test('can be dropped from where it is: open, closed or written', () => {
    const parts = setUp()
    const { account } = parts
    const [open, closed, written] = [accepted(parts, 1), accepted(parts, 2), accepted(parts, 4)] as const
    closed.close()
    written.close()
    account.written(written)
    account.settle(open, 'dropped', 'shutdown')
    account.settle(closed, 'dropped', 'expired')
    account.settle(written, 'dropped', 'broker_rejected')
    expect(account).toMatchObject({ buffered: 0, inFlight: 0, recordSendTotal: 7, recordErrorTotal: 7 })
    expect(account.dropped).toMatchObject({ shutdown: 1, expired: 2, broker_rejected: 4 })
    expect(account.localErrorTotal).toBe(7)
  })

  test('cannot get a second outcome', () => {
    const parts = setUp()
    const batch = accepted(parts, 1)
    batch.close()
    parts.account.settle(batch, 'dropped', 'expired')
    expect(() => parts.account.settle(batch, 'confirmed')).toThrow('second outcome')
    expect(() => parts.account.written(batch)).toThrow('settled')
    expect(sumOfTerms(parts.account)).toBe(1)
  })

  test('that is open cannot be written', () => {
    const parts = setUp()
    expect(() => parts.account.written(accepted(parts, 1))).toThrow('open')
  })

  test('that is written again stays in flight once', () => {
    const parts = setUp()
    const batch = accepted(parts, 2)
    batch.close()
    parts.account.written(batch)
    parts.account.written(batch)
    expect(parts.account).toMatchObject({ buffered: 0, inFlight: 2, recordSendTotal: 2 })
  })

  test('tells who waits for it its outcome, partition and offset', async () => {
    const parts = setUp()
    const batch = accepted(parts, 1)
    const listener = vi.fn()
    batch.onSettled((settlement) => listener(settlement))
    batch.close()
    parts.account.written(batch)
    parts.account.settle(batch, 'acked', null, 42n)
    await Promise.resolve()
    const place = { partition: 0, baseOffset: 42n, firstPlace: 0, recordCount: 1 }
    const settlement = { outcome: 'acked', reason: null, ...place }
    expect(listener).toHaveBeenCalledExactlyOnceWith(settlement)
  })
})

test('a drop needs its reason', () => {
  const parts = setUp()
  expect(() => parts.account.settle(accepted(parts, 1), 'dropped')).toThrow('reason')
})

test('suspects are errors, but none that the producer saw itself', () => {
  const parts = setUp()
  const { account } = parts
  const [lost, kept] = [accepted(parts, 1), accepted(parts, 3)] as const
  for (const batch of [lost, kept]) {
    batch.close()
    account.written(batch)
  }
  account.settle(lost, 'suspected_lost')
  account.settle(kept, 'confirmed')
  expect(account).toMatchObject({ recordErrorTotal: 1, localErrorTotal: 0 })
  expect(errorRateOf(account.recent)).toBe(0.25)
})

test('what is dropped at the door is accepted, an attempt and an error', () => {
  const { account } = setUp()
  account.acceptAndDrop(4)
  expect(account).toMatchObject({ accepted: 4, recordSendTotal: 4, recordErrorTotal: 4 })
  expect(errorRateOf(account.recent)).toBe(1)
  expect(sumOfTerms(account)).toBe(4)
})

test('after any sequence of moves, accepted is the sum of the other terms and the ledger fits', () => {
  const move = fc.record({
    kind: fc.constantFrom('accept', 'close', 'write', 'settle', 'drop-at-door'),
    which: fc.nat(),
    count: fc.integer({ min: 1, max: 5 }),
    outcome: fc.constantFrom(...outcomes),
    reason: fc.constantFrom<DropReason>(...dropReasons),
  })
  fc.assert(
    fc.property(fc.array(move, { maxLength: 60 }), (moves) => {
      const parts = setUp()
      const { account, memory } = parts
      const batches: ProducerBatch[] = []
      let total = 0
      for (const { kind, which, count, outcome, reason } of moves) {
        const batch = batches[which % Math.max(1, batches.length)]
        if (kind === 'accept') batches.push(accepted(parts, count))
        else if (kind === 'drop-at-door') account.acceptAndDrop(count)
        else if (kind === 'close' && batch?.state === 'open') batch.close()
        else if (kind === 'write' && batch?.state === 'closed') account.written(batch)
        else if (kind === 'settle' && batch !== undefined) {
          const settle = (): void => account.settle(batch, outcome, outcome === 'dropped' ? reason : null)
          if (batch.state === 'settled') expect(settle).toThrow('second outcome')
          else settle()
        }
        if (kind === 'accept' || kind === 'drop-at-door') total += count
        expect(account.accepted).toBe(total)
        expect(sumOfTerms(account)).toBe(total)
        expect(account.buffered).toBeGreaterThanOrEqual(0)
        expect(account.inFlight).toBeGreaterThanOrEqual(0)
        expect(memory.availableBytes).toBe(1_000_000 - 100 * (account.buffered + account.inFlight))
      }
    }),
  )
})

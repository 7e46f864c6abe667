import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { dropReasons } from '../../../src/kafka/producer/outcome.ts'
import type { ProducerStats } from '../../../src/kafka/producer/producer.ts'
import type { MergeableFamily } from '../../../src/metrics/family.ts'
import { Metrics } from '../../../src/metrics/metrics.ts'
import { GroupAccount } from '../../../src/workers/group-account.ts'
import type { WorkerReport } from '../../../src/workers/messages.ts'
import { producerStats } from '../../support/producer-stats.ts'

/** A report of a worker that has accepted `accepted` records, of which `pending` have no outcome. */
function report(accepted: number, pending: number, cpuSeconds: number | null = null): WorkerReport {
  const metrics = new Metrics('1.2.3')
  metrics.observe(() => [producerStats({ accepted, inFlight: pending, confirmed: accepted - pending })])
  metrics.edge.accepted('http', accepted)
  return {
    account: metrics.account(),
    readiness: { ready: true, checks: [] },
    process: cpuSeconds === null ? null : [cpu(cpuSeconds), memory(50)],
  }
}

function cpu(value: number): MergeableFamily {
  return { name: 'cpu_total', help: '', type: 'counter', samples: [{ suffix: '', labels: {}, value }] }
}

function memory(value: number): MergeableFamily {
  return {
    name: 'memory',
    help: '',
    type: 'gauge',
    merge: 'sum',
    samples: [{ suffix: '', labels: {}, value }],
  }
}

function processesOf(account: GroupAccount): Record<string, number | undefined> {
  const families = account.processes([cpu(1), memory(10)])
  return Object.fromEntries(families.map(({ name, samples }) => [name, samples[0]?.value]))
}

test('there is no sum before the first report', () => {
  expect(new GroupAccount().sum()).toBeNull()
})

test('the last report of each worker counts', async () => {
  const account = new GroupAccount()
  account.heard(1, report(5, 5))
  account.heard(2, report(7, 0))
  account.heard(1, report(9, 2))
  expect(account.sum()?.streams).toMatchObject([{ accepted: 16, inFlight: 2, confirmed: 14 }])
  expect(account.sum()?.edge.accepted.http).toBe(16)
  expect(await account.sumInTurns()).toEqual(account.sum())
})

test('of a worker that has ended the counters stay, and what it held is suspected lost', () => {
  const account = new GroupAccount()
  account.heard(1, report(5, 0))
  account.heard(2, report(7, 3))
  expect(account.retire(2)).toMatchObject({ lost: 3, streams: [{ accepted: 7, suspectedLost: 3 }] })
  account.heard(2, report(1, 1))
  expect(account.sum()?.streams).toMatchObject([
    { accepted: 13, inFlight: 1, confirmed: 9, suspectedLost: 3, bufferTotalBytes: 2 * 67_108_864 },
  ])
  account.retire(2)
  account.retire(1)
  expect(account.sum()?.streams).toMatchObject([{ accepted: 13, inFlight: 0, suspectedLost: 4 }])
})

test('a worker that has never reported takes nothing along', () => {
  expect(new GroupAccount().retire(1)).toEqual({ streams: [], lost: 0 })
})

test('the counters of a process that has ended stay, its memory does not', () => {
  const account = new GroupAccount()
  account.heard(1, report(0, 0, 20))
  account.heard(2, report(0, 0, 30))
  expect(processesOf(account)).toEqual({ cpu_total: 51, memory: 110 })
  // A report of the account alone says nothing of the process.
  account.heard(2, report(1, 0))
  expect(processesOf(account)).toEqual({ cpu_total: 51, memory: 110 })
  account.retire(2)
  expect(processesOf(account)).toEqual({ cpu_total: 51, memory: 60 })
})

test('whatever workers report and whenever they end, no counter goes back and the account closes', () => {
  const step = fc.record({
    worker: fc.integer({ min: 1, max: 3 }),
    accepted: fc.nat(9),
    settled: fc.nat(9),
    ends: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const account = new GroupAccount()
      const workers = new Map<number, { accepted: number; pending: number }>()
      let before = { accepted: 0, confirmed: 0, suspectedLost: 0, edge: 0 }
      for (const { worker, accepted, settled, ends } of steps) {
        const known = workers.get(worker) ?? { accepted: 0, pending: 0 }
        known.accepted += accepted
        known.pending = Math.max(0, known.pending + accepted - settled)
        workers.set(worker, known)
        account.heard(worker, report(known.accepted, known.pending))
        if (ends) {
          account.retire(worker)
          workers.delete(worker)
        }
        const { edge, streams } = account.sum()!
        const [stream] = streams as [ProducerStats]
        const dropped = dropReasons.reduce((sum, reason) => sum + stream.dropped[reason], 0)
        expect(stream.accepted).toBe(
          stream.buffered + stream.inFlight + stream.confirmed + stream.suspectedLost + dropped,
        )
        expect(edge.accepted.http).toBe(stream.accepted)
        const now = {
          accepted: stream.accepted,
          confirmed: stream.confirmed,
          suspectedLost: stream.suspectedLost,
          edge: edge.accepted.http,
        }
        for (const [name, count] of Object.entries(now))
          expect(count).toBeGreaterThanOrEqual(before[name as keyof typeof before])
        before = now
      }
    }),
  )
})

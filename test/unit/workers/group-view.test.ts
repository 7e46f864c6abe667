import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { dropReasons } from '../../../src/kafka/producer/outcome.ts'
import type { ProducerStats } from '../../../src/kafka/producer/producer.ts'
import type { MergeableFamily } from '../../../src/metrics/family.ts'
import { Metrics } from '../../../src/metrics/metrics.ts'
import type { Readiness } from '../../../src/readiness.ts'
import {
  collectWorkerMetrics,
  GroupAccount,
  groupReadiness,
  type WorkerState,
} from '../../../src/workers/group-view.ts'
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
  account.takeReport(1, report(5, 5))
  account.takeReport(2, report(7, 0))
  account.takeReport(1, report(9, 2))
  expect(account.sum()?.streams).toMatchObject([{ accepted: 16, inFlight: 2, confirmed: 14 }])
  expect(account.sum()?.edge.accepted.http).toBe(16)
  expect(await account.sumInTurns()).toEqual(account.sum())
})

test('of a worker that has ended the counters stay, and what it held is suspected lost', () => {
  const account = new GroupAccount()
  account.takeReport(1, report(5, 0))
  account.takeReport(2, report(7, 3))
  expect(account.retire(2)).toMatchObject({ lost: 3, streams: [{ accepted: 7, suspectedLost: 3 }] })
  account.takeReport(2, report(1, 1))
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
  account.takeReport(1, report(0, 0, 20))
  account.takeReport(2, report(0, 0, 30))
  expect(processesOf(account)).toEqual({ cpu_total: 51, memory: 110 })
  // A report of the account alone says nothing of the process.
  account.takeReport(2, report(1, 0))
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
        account.takeReport(worker, report(known.accepted, known.pending))
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

/** A report of a worker of a durable stream. */
function durableReport(counts: { accepted: number; recovered: number; acked: number }): WorkerReport {
  const { accepted, recovered, acked } = counts
  const records = accepted + recovered - acked
  const spool = {
    records,
    bytes: records * 100,
    maxBytes: 1_000,
    oldestAgeSeconds: 0,
    drained: acked,
    writeFailures: 0,
    readFailures: 0,
    available: true,
  }
  const metrics = new Metrics('1.2.3')
  metrics.observe(() => [
    producerStats({
      ...counts,
      spooled: records - Math.min(2, records),
      inFlight: Math.min(2, records),
      spool,
    }),
  ])
  return { account: metrics.account(), readiness: { ready: true, checks: [] }, process: null }
}

test('what a worker of a durable stream held is on disk, and the account has it until its next process has found it', () => {
  const account = new GroupAccount()
  account.takeReport(1, durableReport({ accepted: 5, recovered: 0, acked: 5 }))
  account.takeReport(2, durableReport({ accepted: 9, recovered: 1, acked: 4 }))
  expect(account.retire(2)).toMatchObject({
    lost: 0,
    streams: [{ accepted: 9, spooled: 6, suspectedLost: 0 }],
  })
  expect(account.sum()?.streams).toMatchObject([
    { accepted: 14, recovered: 1, spooled: 6, inFlight: 0, acked: 9, spool: { records: 6, bytes: 600 } },
  ])
  // It had accepted one more since its last report.
  account.takeReport(2, durableReport({ accepted: 0, recovered: 7, acked: 0 }))
  expect(account.sum()?.streams).toMatchObject([
    {
      accepted: 14,
      recovered: 2,
      spooled: 5,
      inFlight: 2,
      acked: 9,
      spool: { records: 7, bytes: 700, drained: 9 },
    },
  ])
  account.retire(2)
  // Two had got their outcome.
  account.takeReport(2, durableReport({ accepted: 0, recovered: 5, acked: 0 }))
  expect(account.sum()?.streams).toMatchObject([
    {
      accepted: 14,
      recovered: 2,
      spooled: 3,
      inFlight: 2,
      acked: 11,
      suspectedLost: 0,
      spool: { records: 5 },
    },
  ])
})

test('a stream that was durable and came back without its disk holds its records in memory: they are suspected lost', () => {
  const account = new GroupAccount()
  const was = {
    records: 0,
    bytes: 0,
    maxBytes: 0,
    oldestAgeSeconds: 0,
    drained: 4,
    writeFailures: 1,
    readFailures: 0,
    available: true,
  }
  const metrics = new Metrics('1.2.3')
  metrics.observe(() => [
    producerStats({ accepted: 10, acked: 4, confirmed: 1, buffered: 3, inFlight: 2, spool: was }),
  ])
  const reported = { account: metrics.account(), readiness: { ready: true, checks: [] }, process: null }
  account.takeReport(1, reported)
  expect(account.retire(1)).toMatchObject({ lost: 5, streams: [{ suspectedLost: 5, spooled: 0, acked: 4 }] })
  account.takeReport(1, report(0, 0))
  expect(account.sum()?.streams).toMatchObject([{ acked: 4, suspectedLost: 5, spool: { drained: 4 } }])

  // One that was killed with records on disk, and came back without its disk, has acknowledged none of them.
  const other = new GroupAccount()
  other.takeReport(1, durableReport({ accepted: 9, recovered: 0, acked: 4 }))
  other.retire(1)
  other.takeReport(1, report(0, 0))
  expect(other.sum()?.streams).toMatchObject([{ accepted: 9, acked: 4, spooled: 5 }])
})

test('whatever workers of a durable stream do before they are killed, no counter goes back and the account closes', () => {
  const counts = fc.record({ accepted: fc.nat(9), acked: fc.nat(9) })
  const step = fc.record({
    worker: fc.integer({ min: 1, max: 3 }),
    told: counts,
    untold: counts,
    ends: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const account = new GroupAccount()
      const workers = new Map<number, { accepted: number; recovered: number; acked: number }>()
      const before = { accepted: 0, recovered: 0, acked: 0, recordSendTotal: 0 }
      const look = (): void => {
        const [stream] = account.sum()!.streams as [ProducerStats]
        const { accepted, recovered, acked, spooled, inFlight } = stream
        expect(accepted + recovered).toBe(spooled + inFlight + acked)
        expect(stream.spool!.records).toBe(spooled + inFlight)
        for (const name of ['accepted', 'recovered', 'acked', 'recordSendTotal'] as const) {
          expect(stream[name], name).toBeGreaterThanOrEqual(before[name])
          before[name] = stream[name]
        }
      }
      for (const { worker, told, untold, ends } of steps) {
        const known = workers.get(worker) ?? { accepted: 0, recovered: 0, acked: 0 }
        const live = ({ accepted, acked }: typeof told): void => {
          known.accepted += accepted
          known.acked = Math.min(known.acked + acked, known.accepted + known.recovered)
        }
        live(told)
        workers.set(worker, known)
        account.takeReport(worker, durableReport(known))
        look()
        if (!ends) continue
        live(untold)
        account.retire(worker)
        look()
        workers.set(worker, {
          accepted: 0,
          recovered: known.accepted + known.recovered - known.acked,
          acked: 0,
        })
      }
    }),
  )
})

const well: Readiness = { ready: true, checks: [{ name: 'draining', ok: true, detail: 'takes requests' }] }
const running = new Map<number, WorkerState>([
  [1, 'running'],
  [2, 'running'],
])

test('a gateway is ready when every worker is', () => {
  const readiness = new Map([
    [1, well],
    [2, well],
  ])
  expect(groupReadiness({ workers: running, readiness, draining: false })).toEqual({
    ready: true,
    checks: [...well.checks, { name: 'workers', ok: true, detail: '2 workers take requests' }],
  })
})

test('a check that fails names the workers that it fails in', () => {
  const full = (detail: string): Readiness => ({
    ready: false,
    checks: [{ name: 'buffers', ok: false, detail }],
  })
  const fine = { ready: true, checks: [{ name: 'buffers', ok: true, detail: 'there is room' }] }
  const readiness = new Map([
    [1, fine],
    [2, full('full: a')],
    [3, full('full: b')],
  ])
  const merged = groupReadiness({ workers: running, readiness, draining: false })
  expect(merged.ready).toBe(false)
  expect(merged.checks[0]).toEqual({
    name: 'buffers',
    ok: false,
    detail: 'worker 2: full: a; worker 3: full: b',
  })
})

test('a check that is well in all says what each worker has to say, once', () => {
  const says = (detail: string): Readiness => ({
    ready: true,
    checks: [{ name: 'confirmation', ok: true, detail }],
  })
  const readiness = new Map([
    [1, says('as configured')],
    [2, says('each write is answered')],
    [3, says('each write is answered')],
  ])
  const merged = groupReadiness({ workers: running, readiness, draining: false })
  expect(merged.checks[0]).toEqual({
    name: 'confirmation',
    ok: true,
    detail: 'as configured; worker 2: each write is answered',
  })
})

test('draining counts from the moment the primary knows of it', () => {
  const merged = groupReadiness({ workers: running, readiness: new Map([[1, well]]), draining: true })
  expect(merged).toMatchObject({ ready: false, checks: [{ name: 'draining', ok: false }, {}] })
})

test.each(['silent', 'starting', 'down'] as const)('a worker that is %s makes it not ready', (state) => {
  const workers = new Map<number, WorkerState>([
    [1, 'running'],
    [2, state],
  ])
  const merged = groupReadiness({ workers, readiness: new Map([[1, well]]), draining: false })
  expect(merged.ready).toBe(false)
  expect(merged.checks.at(-1)).toEqual({ name: 'workers', ok: false, detail: `worker 2 is ${state}` })
  const [byState] = collectWorkerMetrics(workers, 0)
  const counts = byState?.samples.map(({ labels, value }) => [labels['state'], value]) ?? []
  expect(Object.fromEntries(counts)).toMatchObject({ running: 1, [state]: 1 })
  expect(counts).toHaveLength(4)
})

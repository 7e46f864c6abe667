import { expect, test } from 'vitest'
import type { Readiness } from '../../../src/readiness.ts'
import {
  collectWorkerMetrics,
  groupReadiness,
  type WorkerState,
} from '../../../src/workers/group-readiness.ts'

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

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { goalsOf, slownessOf } from '../../../bench/report/goals.ts'
import { performancePage } from '../../../bench/report/page.ts'
import { plotsOf } from '../../../bench/report/plots.ts'
import { readResults, type KeptResults } from '../../../bench/report/results.ts'

const environment = {
  machine: '2 × processor',
  node: 'v20',
  kafka: 'Apache Kafka',
  load: 'wrk',
  command: 'npm run bench -- ingest',
  commit: 'abc',
  date: '2026-01-01',
}

function ingestRow(server: string, request: string, cpuMicrosPerRequest: number, ratioToBare: number | null) {
  return {
    server,
    request,
    requestsPerSecond: 1_000,
    eventsPerSecond: 100_000,
    cpuMicrosPerRequest,
    cpuMicrosPerEvent: cpuMicrosPerRequest / 100,
    p50Ms: 1,
    p99Ms: 2,
    ratioToBare,
    p99RatioToBare: ratioToBare,
    waitShare: 0,
    landed: 1,
  }
}

function results(ratioToBare: number, bareHttpMicros = 70): KeptResults {
  const rows = [
    ingestRow('bare Fastify', 'single event', 60, 1),
    ingestRow('bare node:http', 'single event', bareHttpMicros, 1.3),
    ingestRow('Chute', 'single event', 70, ratioToBare),
    ingestRow('Chute', 'NDJSON of 100', 800, null),
  ]
  return { ingest: { environment, rows } }
}

test('a goal is met, missed or not measured, and absolute bars follow the speed of the machine', () => {
  expect(slownessOf(results(0.95))).toBe(2)
  const verdicts = (ratio: number, bareHttpMicros?: number): unknown[] =>
    goalsOf(results(ratio, bareHttpMicros)).map(({ met }) => met)
  // Rate and CPU of node:http; ratio, 70 of 76 µs, p99; NDJSON misses 125,000 a second; nothing is known of arrays.
  expect(verdicts(0.95).slice(0, 6)).toEqual([true, true, true, true, false, null])
  expect(verdicts(0.85).slice(0, 6)).toEqual([true, false, true, true, false, null])
  expect(verdicts(0.95, 66)[0]).toBe(false)
  expect(verdicts(1.6)[3]).toBe(false)
  expect(performancePage(results(0.85))).toContain('**no**')
})

test('docs/performance.md and its plots are what the kept results say', () => {
  const kept = readResults()
  const docs = new URL('../../../docs/', import.meta.url)
  expect(readFileSync(new URL('performance.md', docs), 'utf8')).toBe(performancePage(kept))
  for (const [name, svg] of Object.entries(plotsOf(kept))) {
    expect(readFileSync(new URL(`plots/${name}.svg`, docs), 'utf8'), name).toBe(svg)
    expect(svg, name).not.toContain('NaN')
  }
})

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readResults } from '../../../bench/report/results.ts'
import { scalingPage } from '../../../bench/report/scaling.ts'

const page = readFileSync('docs/scaling.md', 'utf8')
const results = readResults()

const count = (value: number): string => Math.round(value).toLocaleString('en')

test('the tables of docs/scaling.md are what the kept benches and the arithmetic say', () => {
  expect(page).toBe(scalingPage(page, results))
  expect(page).toMatch(/^\| connections at the first broker \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$/m)
  expect(page).toMatch(/^\| 1,000,000 events\/s \| \d+ \| \d+ \| \d+ \| \d+ \|$/m)
})

test('docs/scaling.md quotes the other benches as they are kept', () => {
  const two = results.workers!.rows.find(
    ({ workers, request }) => workers === 2 && request === 'single event',
  )!
  expect(page).toContain(`costs ${(1 / two.efficiency).toFixed(2)} times as much`)
  expect(page).toContain(`an efficiency of ${two.efficiency.toFixed(2)}`)
  const door = results.door!.rows.find(
    ({ gateway, request }) => gateway === 'with a door' && request === 'single event',
  )!
  expect(page).toContain(`cost ${door.cpuRatio.toFixed(2)} times the CPU`)
  const partitions = results.growth!.rows.find(
    ({ quantity, size }) => quantity === 'partitions' && size === '200',
  )!
  expect(page).toContain(`an event costs ${partitions.ratio.toFixed(2)} times as much as with one`)
  const acked = results.delivery!.producer.find(({ delivery }) => delivery === 'at least once')!
  expect(page).toContain(`A round trip is ${acked.p50Ms.toFixed(2)} ms here`)
  const durableRates = results
    .durable!.rows.filter(({ stream }) => stream === 'durable, fsync on')
    .map(({ eventsPerSecond }) => count(eventsPerSecond))
  expect(page).toContain(`${durableRates[0]} single events/s, ${durableRates[1]} as NDJSON`)
  const scrapes = results
    .scrape!.rows.filter(({ path }) => path === '/metrics')
    .map(({ sizeBytes }) => sizeBytes)
  expect(page).toContain(
    `${(scrapes[0]! / 1e6).toFixed(1)} MB a scrape with 300 streams, ${Math.round(scrapes[1]! / 1e3)} KB with gzip`,
  )
  const record = results.audit!.rows.find(
    ({ stream, request }) => stream === 'without' && request === 'NDJSON of 100',
  )!
  expect(page).toContain(`${count(record.bytesPerRecord)} bytes a record`)
  const memory = /resident memory (\d+ to \d+ MiB)/i.exec(readFileSync('docs/performance.md', 'utf8'))![1]!
  expect(page).toContain(`has ${memory}`)
})

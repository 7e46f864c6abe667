import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import {
  barriersOfBroker,
  connectionsOfFirstBroker,
  eventsOfProduceRequest,
  processesFor,
  produceRequestsOfBroker,
  type FleetShape,
} from '../../../bench/fleet-arithmetic.ts'
import { readResults } from '../../../bench/report/results.ts'

const page = readFileSync('docs/scaling.md', 'utf8')
const results = readResults()

const single = cpuOf(results.ingest!.rows, { server: 'Chute', request: 'single event' })
const ndjson = cpuOf(results.ingest!.rows, { server: 'Chute', request: 'NDJSON of 100' })
const durable = cpuOf(results.durable!.rows, { stream: 'durable, fsync on', request: 'single event' })
const durableNdjson = cpuOf(results.durable!.rows, { stream: 'durable, fsync on', request: 'NDJSON of 100' })

function cpuOf(rows: readonly object[], fields: Readonly<Record<string, string>>): number {
  const found = (rows as readonly (Readonly<Record<string, unknown>> & { cpuMicrosPerEvent: number })[]).find(
    (row) => Object.entries(fields).every(([name, value]) => row[name] === value),
  )
  return found!.cpuMicrosPerEvent
}

const count = (value: number): string => Math.round(value).toLocaleString('en')

test('docs/scaling.md has the processes that the CPU times of the benches ask for', () => {
  const costs = [single, ndjson, durable, durableNdjson]
  expect(page).toContain(`| CPU µs an event | ${costs.map((micros) => micros.toFixed(1)).join(' | ')} |`)
  for (const rate of [10_000, 100_000, 1_000_000])
    expect(page).toContain(
      `| ${count(rate)} events/s | ${costs.map((micros) => processesFor(rate, micros)).join(' | ')} |`,
    )
})

const brokers = 6
const million = 1_000_000

function fleetOf(cpuMicros: number, streams: number, slow = false): FleetShape {
  return {
    processes: processesFor(million, cpuMicros),
    brokers,
    streams,
    atMostOnceStreams: streams,
    eventsPerSecond: million,
    lingerMs: slow ? 50 : 5,
    confirmIntervalMs: slow ? 100 : 20,
  }
}

test('docs/scaling.md has what the arithmetic says of a million events a second', () => {
  const fleets = [fleetOf(single, 1), fleetOf(single, 10), fleetOf(single, 10, true), fleetOf(ndjson, 1)]
  const row = (name: string, value: (fleet: FleetShape) => number, digits = 0): string =>
    `| ${name} | ${fleets.map((fleet) => (digits === 0 ? count(value(fleet)) : value(fleet).toFixed(digits))).join(' | ')} |`
  const mebibytes = Number(
    /resident memory \d+ to (\d+) MiB/i.exec(readFileSync('docs/performance.md', 'utf8'))![1],
  )
  const table = [
    row('processes', ({ processes }) => processes),
    row('connections at the first broker', connectionsOfFirstBroker),
    row('produce requests/s at a broker', produceRequestsOfBroker),
    row('events in each', eventsOfProduceRequest),
    row('barriers/s at a broker', barriersOfBroker),
    row('memory of all processes, GiB, Kafka well', ({ processes }) => (processes * mebibytes) / 1024, 1),
    row(
      '`buffer.memory` of 64 MiB, in all, GiB',
      ({ processes, streams }) => (processes * streams * 64) / 1024,
      1,
    ),
    row(
      'seconds of an outage that it holds',
      ({ processes, streams }) => (processes * streams * 64 * 2 ** 20) / million / 240,
    ),
  ]
  expect(page).toContain(table.join('\n'))
})

test('docs/scaling.md has the figures of the fleet that was measured', () => {
  for (const { quantity, predicted, measured } of results.fleet!.rows)
    expect(page).toContain(
      `| ${quantity} | ${predicted.toFixed(1)} | ${measured.toFixed(1)} | ${(measured / predicted).toFixed(2)} |`,
    )
  const bytes = results.audit!.rows.find(
    ({ stream, request }) => stream === 'without' && request === 'NDJSON of 100',
  )!
  expect(page).toContain(`${count(bytes.bytesPerRecord)} bytes a record`)
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
  const memory = /resident memory (\d+ to \d+ MiB)/i.exec(readFileSync('docs/performance.md', 'utf8'))![1]!
  expect(page).toContain(`has ${memory}`)
})

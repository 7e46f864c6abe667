import {
  barriersOfBroker,
  connectionsOfFirstBroker,
  eventsOfProduceRequest,
  processesFor,
  produceRequestsOfBroker,
  type FleetShape,
} from '../fleet-arithmetic.ts'
import { thousands } from './goals.ts'
import type { KeptResults } from './results.ts'
import { cpuOfFleet } from './sections.ts'

/** docs/scaling.md with its tables made anew from what is kept. The text around them is left alone. */
export function scalingPage(page: string, results: KeptResults): string {
  const { ingest, durable, soak, fleet } = results
  if (ingest === undefined || durable === undefined || soak === undefined || fleet === undefined) return page
  const ofChute = ingest.rows.filter(({ server }) => server === 'Chute')
  const ofDurable = durable.rows.filter(({ stream }) => stream === 'durable, fsync on')
  const [single, ndjson] = kinds.map((kind) => cpuOf(ofChute, kind)) as [number, number]
  const costs = [single, ndjson, ...kinds.map((kind) => cpuOf(ofDurable, kind))]
  const mebibytes = Math.max(...soak.samples.map(({ rssMegabytes }) => rssMegabytes))
  const tables = {
    processes: processesTable(costs),
    million: millionTable(single, ndjson, mebibytes),
    fleet: fleetTable(fleet),
  }
  let text = page
  for (const [name, table] of Object.entries(tables)) text = between(text, name, table)
  return text
}

const kinds = ['single event', 'NDJSON of 100']
const million = 1_000_000

function cpuOf(
  rows: readonly { readonly request: string; readonly cpuMicrosPerEvent: number }[],
  kind: string,
): number {
  return rows.find(({ request }) => request === kind)!.cpuMicrosPerEvent
}

function processesTable(costs: readonly number[]): string {
  const rows = [10_000, 100_000, million].map((rate) => [
    `${thousands(rate)} events/s`,
    ...costs.map((cost) => String(processesFor(rate, cost))),
  ])
  return markdown(
    ['', 'single events', 'NDJSON of 100', 'durable, single events', 'durable, NDJSON of 100'],
    [['CPU µs an event', ...costs.map((cost) => cost.toFixed(1))], ...rows],
  )
}

function millionTable(single: number, ndjson: number, mebibytes: number): string {
  const fleet = (cost: number, streams: number, lingerMs = 5, confirmIntervalMs = 20): FleetShape => ({
    processes: processesFor(million, cost),
    brokers: 6,
    streams,
    atMostOnceStreams: streams,
    eventsPerSecond: million,
    lingerMs,
    confirmIntervalMs,
  })
  const fleets = [fleet(single, 1), fleet(single, 10), fleet(single, 10, 50, 100), fleet(ndjson, 1)]
  const buffers = ({ processes, streams }: FleetShape): number => processes * streams * 64 * 2 ** 20
  const rows: [string, (fleet: FleetShape) => string][] = [
    ['processes', ({ processes }) => thousands(processes)],
    ['connections at the first broker', (each) => thousands(connectionsOfFirstBroker(each))],
    ['produce requests/s at a broker', (each) => thousands(produceRequestsOfBroker(each))],
    ['events in each', (each) => thousands(eventsOfProduceRequest(each))],
    ['barriers/s at a broker', (each) => thousands(barriersOfBroker(each))],
    [
      'memory of all processes, GiB, Kafka well',
      ({ processes }) => ((processes * mebibytes) / 1024).toFixed(1),
    ],
    ['`buffer.memory` of 64 MiB, in all, GiB', (each) => (buffers(each) / 2 ** 30).toFixed(1)],
    ['seconds of an outage that it holds', (each) => thousands(buffers(each) / million / 240)],
  ]
  return markdown(
    [
      '',
      'single events, 1 stream',
      'single events, 10 streams',
      'the same, `linger.ms` 50, `confirm.interval.ms` 100',
      'NDJSON of 100, 1 stream',
    ],
    rows.map(([name, value]) => [name, ...fleets.map(value)]),
  )
}

function fleetTable(fleet: NonNullable<KeptResults['fleet']>): string {
  const { date, machine } = fleet.environment
  const rows = fleet.rows.map(({ quantity, predicted, measured }) => [
    quantity,
    predicted.toFixed(1),
    measured.toFixed(1),
    (measured / predicted).toFixed(2),
  ])
  return `On ${date}, ${machine}: ${thousands(fleet.eventsPerSecond)} single events a second in all, ${fleet.failed} requests failed.\n\n${markdown(['quantity', 'predicted', 'measured', '÷'], rows)}\n${cpuOfFleet(fleet.cpu)}`
}

function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => '---'), ...rows]
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}

function between(page: string, name: string, table: string): string {
  const [begin, end] = [`<!-- ${name}: npm run bench -->\n`, `<!-- /${name} -->`]
  const [before, rest] = page.split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined)
    throw new Error(`docs/scaling.md has lost ${begin} or ${end}`)
  return `${before}${begin}${table}${end}${after}`
}

import type { GrowthRow } from '../growth-bench.ts'
import type { IdleRow } from '../idle-bench.ts'
import type { IngestRow } from '../ingest-bench.ts'
import type { KeptResults } from './results.ts'

/** One goal, what was measured, and whether it is met; null where it was not measured. */
export interface Goal {
  readonly goal: string
  readonly measured: string
  readonly met: boolean | null
}

/** CPU time of a request of bare Fastify on the machine that the goals were set on, in microseconds. */
const bareMicrosOfGoals = 30

/** How much slower this machine is: absolute bars are scaled by it. 1 where nothing is known. */
export function slownessOf({ ingest }: KeptResults): number {
  const bare = ingest?.rows.find(({ server }) => server === 'bare Fastify')
  return bare === undefined ? 1 : bare.cpuMicrosPerRequest / bareMicrosOfGoals
}

/** The goals of the gateway's performance, held against what is kept. */
export function goalsOf(results: KeptResults): Goal[] {
  return [
    ...ingestGoals(results),
    workersGoal(results),
    ...durableGoals(results),
    outageGoal(results),
    ...memoryGoals(results),
    ...hostileGoals(results),
    ...scrapeGoals(results),
    ...idleGoals(results),
    ...growthGoals(results),
    ...doorGoals(results),
    ...deliveryGoals(results),
  ]
}

function ingestGoals(results: KeptResults): Goal[] {
  const slowness = slownessOf(results)
  const row = (request: string, server = 'Chute'): IngestRow | undefined =>
    results.ingest?.rows.find((each) => each.server === server && each.request === request)
  const single = row('single event')
  const bareHttp = row('single event', 'bare node:http')
  const mostMicros = 38 * slowness
  const goals: Goal[] = [
    goal(
      'single event: at least 0.95 of bare node:http’s rate, at most 1.05 of its CPU',
      single !== undefined && bareHttp !== undefined ? { single, bareHttp } : null,
      (of) => {
        const rate = of.single.requestsPerSecond / of.bareHttp.requestsPerSecond
        const cpu = of.single.cpuMicrosPerRequest / of.bareHttp.cpuMicrosPerRequest
        return [`rate ${rate.toFixed(2)} ×, CPU ${cpu.toFixed(2)} ×`, rate >= 0.95 && cpu <= 1.05]
      },
    ),
    goal('single event: at least 0.9 of bare Fastify', single?.ratioToBare, (ratio) => [
      ratio.toFixed(2),
      ratio >= 0.9,
    ]),
    goal(
      `single event: at most ${mostMicros.toFixed(0)} µs CPU (38 × ${slowness.toFixed(2)})`,
      single,
      (of) => [`${of.cpuMicrosPerRequest.toFixed(1)} µs`, of.cpuMicrosPerRequest <= mostMicros],
    ),
    goal('single event: p99 at most 1.5 × bare Fastify’s, closed loop', single?.p99RatioToBare, (ratio) => [
      `${ratio.toFixed(2)} ×`,
      ratio <= 1.5,
    ]),
  ]
  for (const request of ['NDJSON of 100', 'array of 100']) {
    const leastEvents = 250_000 / slowness
    const mostPerEvent = 4.5 * slowness
    const bar = `${request}: at least ${thousands(leastEvents)} events/s (250,000 ÷ ${slowness.toFixed(2)}), at most ${mostPerEvent.toFixed(1)} µs CPU (4.5 × ${slowness.toFixed(2)}), all landed`
    goals.push(
      goal(bar, row(request), (of) => [
        `${thousands(of.eventsPerSecond)} events/s, ${of.cpuMicrosPerEvent.toFixed(2)} µs, landed ${of.landed?.toFixed(4)}`,
        of.eventsPerSecond >= leastEvents && of.cpuMicrosPerEvent <= mostPerEvent && (of.landed ?? 0) >= 1,
      ]),
    )
  }
  return goals
}

/** Where the machine has no cores to spare, the rate can't grow: what counts is that an event costs no more. */
function workersGoal({ workers }: KeptResults): Goal {
  return goal(
    'two workers: an event costs at most 1 ÷ 0.90 of what it costs with one',
    workers,
    ({ rows }) => {
      const two = rows.filter((row) => row.workers === 2)
      const told = two.map(
        ({ request, connections, efficiency, ratioToOne }) =>
          `${request}, ${connections} connections: efficiency ${efficiency.toFixed(2)}, ${ratioToOne.toFixed(2)} × the rate`,
      )
      return [told.join('; '), two.every(({ efficiency }) => efficiency >= 0.9)]
    },
  )
}

/** Bars of the two cores that they were set for: not scaled. */
function durableGoals({ durable }: KeptResults): Goal[] {
  return [
    { request: 'single event', least: 10_000 },
    { request: 'NDJSON of 100', least: 60_000 },
  ].map(({ request, least }) =>
    goal(`durable 202 with fsync, ${request}: at least ${thousands(least)} events/s`, durable, ({ rows }) => {
      const row = rows.find((each) => each.stream === 'durable, fsync on' && each.request === request)!
      const told = `${thousands(row.eventsPerSecond)} events/s, p50 ${row.p50Ms.toFixed(1)} ms, p99 ${row.p99Ms.toFixed(1)} ms, landed ${row.landed.toFixed(4)}`
      return [told, row.eventsPerSecond >= least && row.landed >= 1]
    }),
  )
}

function outageGoal({ outage }: KeptResults): Goal {
  return goal('Kafka stalled or away: reply p50 and p99 within 10 % of Kafka well', outage, ({ rows }) => {
    const others = rows.filter(({ state }) => state !== 'well')
    const worst = Math.max(...others.flatMap(({ p50Ratio, p99Ratio }) => [p50Ratio, p99Ratio]))
    const told = others.map(
      ({ state, p50Ratio, p99Ratio }) =>
        `${state} p50 ${p50Ratio.toFixed(2)} ×, p99 ${p99Ratio.toFixed(2)} ×`,
    )
    return [told.join('; '), worst <= 1.1]
  })
}

function memoryGoals({ soak, pauses }: KeptResults): Goal[] {
  return [
    goal('soak: memory does not grow (last quarter at most 5 % above the second)', soak, (of) => [
      `${of.rssGrowth.toFixed(3)} × in ${of.minutes} minutes`,
      of.rssGrowth <= 1.05,
    ]),
    goal(
      'pauses of the event loop by our own work: p99.9 at most 10 ms, none above 20 ms',
      pauses,
      ({ rows }) => {
        const worst = Math.max(...rows.map(({ ownMaxMs }) => ownMaxMs))
        const p999 = Math.max(...rows.map(({ ownP999Ms }) => ownP999Ms))
        return [`p99.9 ${p999.toFixed(1)} ms, ${worst.toFixed(1)} ms at most`, p999 <= 10 && worst <= 20]
      },
    ),
    goal('the garbage collector takes at most 5 % of the CPU', pauses, ({ rows }) => {
      const told = rows.map(({ load, gcShare }) => `${load}: ${(gcShare * 100).toFixed(1)} %`)
      return [told.join('; '), rows.every(({ gcShare }) => gcShare <= 0.05)]
    }),
    goal(
      'resident memory under full load: at most 64 MB above idle and what `buffer.memory` holds',
      pauses,
      ({ rows }) => {
        const told = rows.map(
          ({ load, rssBeyondBufferBytes }) => `${load}: ${Math.round(rssBeyondBufferBytes / 1e6)} MB`,
        )
        return [told.join('; '), rows.every(({ rssBeyondBufferBytes }) => rssBeyondBufferBytes <= 64e6)]
      },
    ),
  ]
}

function idleGoals({ idle }: KeptResults): Goal[] {
  const tell = ({ streams, shareOfCore, rssBytes }: IdleRow): string =>
    `${streams} streams: ${(shareOfCore * 100).toFixed(2)} %, ${Math.round(rssBytes / 1e6)} MB`
  return [
    goal('idle: at most 1 % of a core with two streams, 2 % with 300', idle, ({ rows }) => [
      rows.map(tell).join('; '),
      rows.every(({ streams, shareOfCore }) => shareOfCore <= (streams === 2 ? 0.01 : 0.02)),
    ]),
    goal('idle, two streams: at most 90 MB resident', idle, ({ rows }) => [
      tell(rows[0]!),
      rows[0]!.rssBytes <= 90e6,
    ]),
  ]
}

function hostileGoals({ hostile }: KeptResults): Goal[] {
  return [
    goal('no body within the limits holds the event loop for more than 20 ms', hostile, ({ rows }) => {
      const worst = Math.max(...rows.map(({ ownMaxMs }) => ownMaxMs))
      return [`${worst.toFixed(1)} ms at most`, worst <= 20]
    }),
    goal("another client's p50 beside hostile bodies within 25 ms of calm", hostile, ({ rows }) => {
      const worst = Math.max(...rows.map(({ p50AboveCalmMs }) => p50AboveCalmMs))
      return [`${worst.toFixed(1)} ms above at most`, worst <= 25]
    }),
  ]
}

function scrapeGoals({ scrape }: KeptResults): Goal[] {
  return [
    goal('no scrape of 300 streams holds the event loop for more than 20 ms', scrape, ({ rows }) => {
      const worst = Math.max(...rows.map(({ ownMaxMs }) => ownMaxMs))
      return [`${worst.toFixed(1)} ms at most`, worst <= 20]
    }),
  ]
}

function growthGoals({ growth }: KeptResults): Goal[] {
  const bars = {
    streams: 1.15,
    'at-least-once streams': 1.15,
    partitions: 1.1,
    connections: 1.15,
    keys: 1.1,
  } as const
  const flat = (Object.keys(bars) as (keyof typeof bars)[]).map((quantity) => {
    const most = bars[quantity]
    // What streams with connections of their own cost is there to compare.
    const of = growth?.rows.filter((row) => row.quantity === quantity && !row.size.includes('own')) ?? []
    return goal(
      `CPU an event, ${quantity}: at most ${most.toFixed(2)} × the least, no request fails`,
      of.length === 0 ? null : of,
      (rows) => {
        const told = rows.map(
          ({ size, ratio, failed }) =>
            `${size}: ${ratio.toFixed(2)} ×${failed > 0 ? `, ${failed} failed` : ''}`,
        )
        return [told.join(', '), rows.every(({ ratio, failed }) => ratio <= most && failed === 0)]
      },
    )
  })
  const bytes = goal('CPU a byte does not grow from 100 B to 200 KB', growth, ({ rows }) => {
    const of = rows.filter(({ quantity }) => quantity === 'bytes')
    const nanos = of.slice(1).map((row, before) => nanosPerByte(of[before]!, row))
    const told = nanos.map((value, before) => `to ${of[before + 1]!.size} B: ${value.toFixed(2)} ns`)
    return [`each byte more, ${told.join(', ')}`, nanos.at(-1)! <= 1.15 * Math.max(...nanos.slice(0, -1))]
  })
  return [...flat, bytes]
}

function doorGoals({ door }: KeptResults): Goal[] {
  return [
    goal(
      'a key, limits, CORS and two headers of a record: at least 0.90 of the rate without them, at most 1.10 of the CPU',
      door,
      ({ rows }) => {
        const guarded = rows.filter(({ gateway }) => gateway === 'with a door')
        const told = guarded.map(
          ({ request, rateRatio, cpuRatio }) =>
            `${request}: rate ${rateRatio.toFixed(2)} ×, CPU ${cpuRatio.toFixed(2)} ×`,
        )
        return [
          told.join('; '),
          guarded.every(({ rateRatio, cpuRatio }) => rateRatio >= 0.9 && cpuRatio <= 1.1),
        ]
      },
    ),
    goal(
      'a key that floods at 20 × its limit: no other key is refused, its p99 at most 2 × calm',
      door,
      ({ flood }) => {
        const [calm, beside] = [flood[0]!, flood[1]!]
        return [
          `${beside.refused} refused, p99 ${(beside.p99Ms / calm.p99Ms).toFixed(2)} ×`,
          beside.refused === 0 && beside.p99Ms <= 2 * calm.p99Ms,
        ]
      },
    ),
  ]
}

/** What each byte costs by which an event is longer. */
function nanosPerByte(shorter: GrowthRow, longer: GrowthRow): number {
  const micros = longer.cpuMicrosPerEvent - shorter.cpuMicrosPerEvent
  return (micros * 1_000) / (Number(longer.size) - Number(shorter.size))
}

function deliveryGoals({ delivery }: KeptResults): Goal[] {
  return [
    goal(
      'deliveries in the order of the delivery model, at the front door: p50',
      delivery,
      ({ frontDoor }) => {
        // What a delivery promises: taken, acknowledged, committed.
        const p50s = [frontDoor[0]!, frontDoor[2]!, frontDoor[3]!].map(({ p50Ms }) => p50Ms)
        return [p50s.map((p50Ms) => `${p50Ms.toFixed(2)} ms`).join(' < '), isAscending(p50s)]
      },
    ),
    goal(
      'deliveries in the order of the delivery model, at the producer: p50, throughput, CPU, round trips',
      delivery,
      (of) => {
        const rows = of.producer
        const ordered =
          isAscending(rows.map(({ p50Ms }) => p50Ms)) &&
          isAscending(rows.map(({ eventsPerSecond }) => -eventsPerSecond)) &&
          isAscending(rows.map(({ cpuMicrosPerEvent }) => cpuMicrosPerEvent)) &&
          isAscending(rows.map(({ roundTrips }) => roundTrips))
        return [rows.map(({ p50Ms }) => `${p50Ms.toFixed(2)} ms`).join(' < '), ordered]
      },
    ),
  ]
}

function goal<T>(
  text: string,
  measured: T | null | undefined,
  judge: (value: T) => readonly [measured: string, met: boolean],
): Goal {
  if (measured === undefined || measured === null) return { goal: text, measured: 'not measured', met: null }
  const [told, met] = judge(measured)
  return { goal: text, measured: told, met }
}

function isAscending(values: readonly number[]): boolean {
  return values.every((value, index) => index === 0 || values[index - 1]! < value)
}

/** A rounded number, with commas. */
export function thousands(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

import type { BenchEnvironment } from '../environment.ts'
import type { FleetCpu } from '../fleet-bench.ts'
import { profileParts } from '../cpu-profile.ts'
import type { KeptResults } from './results.ts'
import { thousands } from './goals.ts'
import { flamePlotOf } from './plots.ts'
import { table } from './table.ts'

/** A section for each result that is kept. */
export function sections(results: KeptResults): string[] {
  return [
    ingest(results),
    latency(results),
    workers(results),
    delivery(results),
    durable(results),
    audit(results),
    door(results),
    sender(results),
    outage(results),
    growth(results),
    fleet(results),
    pauses(results),
    hostile(results),
    scrape(results),
    soak(results),
    profile(results),
    micro(results),
    idle(results),
  ].filter((text) => text !== '')
}

function ingest({ ingest: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Taking events in', result.environment, [
    table(result.rows, {
      server: (row) => row.server,
      request: (row) => row.request,
      '÷ bare Fastify': (row) => row.ratioToBare?.toFixed(2) ?? '–',
      'events/s': (row) => Math.round(row.eventsPerSecond).toLocaleString('en-US'),
      'CPU µs a request': (row) => row.cpuMicrosPerRequest.toFixed(1),
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(1),
      'p50 ms': (row) => row.p50Ms.toFixed(2),
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      'p99 ÷ bare': (row) => row.p99RatioToBare?.toFixed(2) ?? '–',
      'waits for a core': (row) => percent(row.waitShare),
      'landed ÷ accepted': (row) => row.landed?.toFixed(4) ?? '–',
    }),
  ])
}

function latency({ latency: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Latency at a fixed rate', result.environment, [
    'Open loop: requests are due every millisecond, whatever the server does. Each request is timed from the moment when it was due. The rates are shares of the highest rate that Chute took in a closed loop. The client is a small one of our own, in its own process, since no distribution has wrk2.\n',
    '![Latency against rate](plots/latency.svg)\n',
    table(result.rows, {
      server: (row) => row.server,
      'of the most': (row) => percent(row.share),
      'requests/s': (row) => String(row.ratePerSecond),
      'p50 ms': (row) => row.p50Ms.toFixed(2),
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      'p99.9 ms': (row) => row.p999Ms.toFixed(2),
      'waits for a core': (row) => percent(row.waitShare),
      failed: (row) => String(row.failed),
    }),
    landedText(result.landed),
  ])
}

function workers({ workers: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('One worker and two', result.environment, [
    'Three gateways of each number of workers, in turn. Each number is the median of three gateways, and each ratio that of three pairs, round by round. The load and Kafka have the same cores as the gateway. `cores` is what was left for the gateway. Efficiency is the CPU time of an event with one worker ÷ the CPU time with these workers. It says what n workers would make of n cores of their own. Two workers get the same load as one, and then twice as many connections, so that each worker has as many as the one had.\n',
    table(result.rows, {
      workers: (row) => String(row.workers),
      connections: (row) => String(row.connections),
      request: (row) => row.request,
      'events/s': (row) => Math.round(row.eventsPerSecond).toLocaleString('en-US'),
      '÷ one worker': (row) => row.ratioToOne.toFixed(2),
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(1),
      cores: (row) => row.cores.toFixed(2),
      efficiency: (row) => row.efficiency.toFixed(2),
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      'landed ÷ accepted': (row) => row.landed.toFixed(4),
    }),
  ])
}

function delivery({ delivery: result }: KeptResults): string {
  if (result === undefined) return ''
  const documented = { 'at most once': '~1', 'at least once': '~5', 'exactly once': '~20' }
  return section('The three deliveries', result.environment, [
    'Through the HTTP front door, at 10 requests a second, with the default settings (`linger.ms` 5, a barrier every 20 ms), beside the p50 of the delivery model:\n',
    table(result.frontDoor, {
      delivery: (row) => row.delivery,
      'reply means': (row) => row.until,
      'p50 ms': (row) => row.p50Ms.toFixed(2),
      'p50 ms of the delivery model': (row) => documented[row.delivery],
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      failed: (row) => String(row.failed),
    }),
    'At the producer, without HTTP and with `linger.ms` 0. p50 is that of one record alone. The other columns are with as many lots of 100 as the delivery allows at a time (a transactional producer has one transaction):\n',
    table(result.producer, {
      delivery: (row) => row.delivery,
      until: (row) => row.until,
      'p50 ms': (row) => row.p50Ms.toFixed(2),
      'events/s': (row) => Math.round(row.eventsPerSecond).toLocaleString('en-US'),
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(2),
      'round trips': (row) => String(row.roundTrips),
      'landed ÷ delivered': (row) => row.landed.toFixed(4),
    }),
  ])
}

function durable({ durable: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('A 202 that survives', result.environment, [
    '64 clients in a closed loop. The data folder is in the temporary folder of the system. `fsync: on` beside `fsync: off` shows what the disk costs. The streams take their turns in this order in every round. Up to commit b8e61ee a durable stream is ahead of at-most-once with single events: the replies of a durable stream went together, when their group was on disk. Since that commit the replies of a turn go together on every stream. "In Kafka/s" counts until Kafka has the last event. The difference to events/s is the backlog on disk.\n',
    table(result.rows, {
      stream: (row) => row.stream,
      request: (row) => row.request,
      'events/s': (row) => thousands(row.eventsPerSecond),
      '÷ at-most-once': (row) => row.ratioToAtMostOnce.toFixed(2),
      'p50 ms': (row) => row.p50Ms.toFixed(2),
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(1),
      'in Kafka/s': (row) => thousands(row.settledPerSecond),
      failed: (row) => String(row.failed),
      'landed ÷ accepted': (row) => row.landed.toFixed(4),
    }),
  ])
}

function audit({ audit: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('What the header of `audit: true` costs', result.environment, [
    'The same gateway twice, in turn: with and without `audit: true` on its at-most-once stream. 64 clients in a closed loop. CPU time is that of the gateway, until every record has its outcome. Bytes are the growth of the topic’s files, without compression.\n',
    table(result.rows, {
      stream: (row) => row.stream,
      request: (row) => row.request,
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(2),
      '÷ without': (row) => row.cpuRatio.toFixed(3),
      'bytes a record': (row) => row.bytesPerRecord.toFixed(1),
      'events/s': (row) => thousands(row.eventsPerSecond),
      failed: (row) => String(row.failed),
      'landed ÷ accepted': (row) => row.landed.toFixed(4),
    }),
  ])
}

function door({ door: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('What the door costs', result.environment, [
    'The same gateway without a door and with one, three processes of each, in turn: processes of one gateway differ by some percent for as long as they run, so each number is the median of three processes, and each ratio that of three pairs, round by round. With a door, each request has a key and an `Origin`; it is charged to limits of requests, events and bytes of its key, and of requests of its address; each record has two headers (`key:name`, `time`), so that it is larger. 64 clients in a closed loop. CPU time is that of the gateway, until every record has its outcome.\n',
    table(result.rows, {
      gateway: (row) => row.gateway,
      request: (row) => row.request,
      'requests/s': (row) => thousands(row.requestsPerSecond),
      '÷ without (rate)': (row) => row.rateRatio.toFixed(3),
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(2),
      '÷ without (CPU)': (row) => row.cpuRatio.toFixed(3),
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      failed: (row) => String(row.failed),
    }),
    '\nOne key sends 200 requests a second, whatever the gateway does, alone and beside another key that may send 100 and sends 2,000. The clients and Kafka share the cores.\n',
    table(result.flood, {
      beside: (row) => row.beside,
      'p50 ms': (row) => row.p50Ms.toFixed(2),
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      refused: (row) => String(row.refused),
      'flood, requests/s': (row) => thousands(row.floodPerSecond),
      'of which refused': (row) => row.floodRefusedShare.toFixed(3),
    }),
  ])
}

function sender({ sender: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Whether a sender thread pays', result.environment, [
    'A batch gets its checksum and is written to a socket. The event loop does that, as in Chute, or a thread of its own does it. The buffer is handed to the thread and back. The figures are CPU time for each batch.\n',
    table(result.rows, {
      'batch, bytes': (row) => thousands(row.batchBytes),
      'sent by': (row) => row.way,
      'event loop, µs': (row) => row.loopMicros.toFixed(1),
      'all threads, µs': (row) => row.allMicros.toFixed(1),
    }),
  ])
}

function outage({ outage: result }: KeptResults): string {
  if (result === undefined) return ''
  const { full, landed } = result
  return section('Kafka stalled and away', result.environment, [
    `${result.ratePerSecond} requests a second, open loop, with Kafka well, stopped (SIGSTOP) and killed, in turn:\n`,
    table(result.rows, {
      Kafka: (row) => row.state,
      'p50 ms': (row) => row.p50Ms.toFixed(2),
      'p99 ms': (row) => row.p99Ms.toFixed(2),
      'p50 ÷ well': (row) => row.p50Ratio.toFixed(2),
      'p99 ÷ well': (row) => row.p99Ratio.toFixed(2),
      accepted: (row) => String(row.accepted),
      refused: (row) => String(row.refused),
    }),
    `Once the buffer was full: ${full.refused} of ${full.refused + full.accepted} refused with 503, p50 ${full.refusedP50Ms.toFixed(2)} ms; ${full.other} had no such reply. ${landedText(landed)}The account calls ${result.suspectedLost} of them \`suspected_lost\`: they were written to a broker that was then killed.\n`,
  ])
}

function growth({ growth: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('How cost grows', result.environment, [
    '![CPU time against size](plots/growth.svg)\n\n![CPU time by size of event](plots/growth-bytes.svg)\n',
    'Chute makes one writing call to the kernel for the reply of a request, and one for each batch or request to Kafka. The same events spread over many streams are many small batches. Those that streams of one delivery write in one turn are one request. Each round of each row has a new process, since two processes of the same gateway differ by up to 10 % for as long as they live.\n',
    table(result.rows, {
      quantity: (row) => row.quantity,
      size: (row) => row.size,
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(1),
      '÷ the first': (row) => row.ratio.toFixed(2),
      'writing calls an event': (row) => row.writeCallsPerEvent.toFixed(2),
      failed: (row) => String(row.failed),
    }),
    landedText(result.landed),
  ])
}

function fleet({ fleet: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('A fleet', result.environment, [
    `Three gateways with two workers each behind HAProxy, four streams (three of them at-most-once), three brokers; all of it and the clients share the cores. Clients send single events with keys, ${thousands(result.eventsPerSecond)} a second in all. "One process" is one gateway of one process, measured right before, at the same rate for each process. Connections are those that the kernel has at the port of the first broker, and requests are that broker’s own count. [scaling.md](scaling.md) goes on with the arithmetic.\n`,
    table(result.rows, {
      quantity: (row) => row.quantity,
      'predicted from': (row) => row.from,
      predicted: (row) => row.predicted.toFixed(1),
      measured: (row) => row.measured.toFixed(1),
      'measured ÷ predicted': (row) => (row.measured / row.predicted).toFixed(2),
    }),
    `${result.failed} requests failed.\n`,
    cpuOfFleet(result.cpu),
    landedText(result.landed),
  ])
}

/** CPU times, unless the machine had other work: then they are those of a crowd. */
export function cpuOfFleet(cpu: FleetCpu): string {
  const { loadBefore, cores, fullSpeed } = cpu
  if (loadBefore > cores / 2)
    return `CPU times are left out: when the bench began, the load average of the ${cores} cores was ${loadBefore.toFixed(1)}. They are in bench/results/fleet.json.\n`
  return `CPU time of an event in the gateways: ${cpu.aloneMicrosPerEvent.toFixed(1)} µs in one process and ${cpu.fleetMicrosPerEvent.toFixed(1)} µs in the fleet. A broker spends ${cpu.brokerMicrosPerRequest.toFixed(0)} µs on a request at that rate. As fast as it goes, 64 connections: ${thousands(fullSpeed.eventsPerSecond)} events/s, and for each ${fullSpeed.gatewayMicrosPerEvent.toFixed(1)} µs in the gateways, ${fullSpeed.balancerMicrosPerRequest.toFixed(1)} µs in HAProxy, ${fullSpeed.brokerMicrosPerEvent.toFixed(1)} µs in the brokers. ${fullSpeed.failed} of these requests failed.\n`
}

function pauses({ pauses: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Pauses of the event loop', result.environment, [
    'The load is as fast as it goes. "Our own" is the longest time that the thread spent on a core between two ticks of a timer. "Delay" has the waiting for a core besides.\n',
    table(result.rows, {
      load: (row) => row.load,
      'events/s': (row) => Math.round(row.eventsPerSecond).toLocaleString('en-US'),
      'our own, p99.9 ms': (row) => row.ownP999Ms.toFixed(1),
      'our own, longest ms': (row) => row.ownMaxMs.toFixed(1),
      'of it in the kernel, ms': (row) => String(row.ownMaxKernelMs),
      'page faults in it': (row) => String(row.ownMaxPageFaults),
      'garbage collector, longest ms': (row) => row.gcMaxMs.toFixed(1),
      'garbage collector, % of CPU': (row) => (row.gcShare * 100).toFixed(1),
      'MB above idle and buffers': (row) => String(Math.round(row.rssBeyondBufferBytes / 1e6)),
      'delay p99 ms': (row) => row.delayP99Ms.toFixed(1),
      'delay longest ms': (row) => row.delayMaxMs.toFixed(1),
      'waits for a core': (row) => percent(row.waitShare),
    }),
    landedText(result.landed),
  ])
}

function hostile({ hostile: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Hostile bodies', result.environment, [
    'One connection sends the same body over and over. The body is within the limits, and is made to take long. Another client sends 200 single events a second meanwhile. Status 0: the connection was closed before the whole body was sent.\n',
    table(result.rows, {
      body: (row) => row.shape,
      status: (row) => String(row.status),
      requests: (row) => String(row.requests),
      'our own pause, longest ms': (row) => row.ownMaxMs.toFixed(1),
      "the other's p50 ms": (row) => row.p50Ms.toFixed(1),
      'above calm ms': (row) => row.p50AboveCalmMs.toFixed(1),
      p99: (row) => row.p99Ms.toFixed(1),
    }),
  ])
}

function scrape({ scrape: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Scrapes of many streams', result.environment, [
    'One scrape, or one poll of the live page, after the other. The gateway has nothing else to do.\n',
    table(result.rows, {
      path: (row) => row.path,
      encoding: (row) => row.encoding,
      streams: (row) => String(row.streams),
      'bytes sent': (row) => String(row.sizeBytes),
      'median ms': (row) => row.medianMs.toFixed(0),
      'our own pause, longest ms': (row) => row.ownMaxMs.toFixed(1),
    }),
  ])
}

function soak({ soak: result }: KeptResults): string {
  if (result === undefined) return ''
  const { samples } = result
  const rss = samples.map(({ rssMegabytes }) => rssMegabytes)
  const own = Math.max(...samples.map(({ ownMaxMs }) => ownMaxMs))
  return section('Soak', result.environment, [
    `${result.minutes} minutes of ${result.ratePerSecond} single events a second, and every 9 s a second of NDJSON as fast as it goes. Resident memory ${Math.min(...rss).toFixed(0)} to ${Math.max(...rss).toFixed(0)} MiB. Mean of the last quarter ÷ mean of the second: ${result.rssGrowth.toFixed(3)}. Longest pause of our own: ${own.toFixed(1)} ms. ${result.failed} requests failed. ${landedText(result.landed)}\n`,
    '![Memory over time](plots/soak.svg)\n',
  ])
}

function profile({ profile: result }: KeptResults): string {
  if (result === undefined) return ''
  const columns = Object.fromEntries(
    result.rows.map((row) => [
      row.request,
      (part: (typeof profileParts)[number]) => (row.shares[part] * row.cpuMicrosPerRequest).toFixed(1),
    ]),
  )
  return section('Where the time of a request goes', result.environment, [
    'The figures are CPU µs a request, divided by the shares that Node’s CPU profiler finds, without idle time. "Other native code" is mostly the kernel: receiving, and waiting for a core. The profiler itself costs time. So compare columns and rows, and take absolute times from the other tables. The tooltips of the flame graphs have the names.\n',
    table(profileParts, { part: (part) => part, ...columns }),
    ...result.rows.map(({ request }) => `![Flame graph: ${request}](plots/${flamePlotOf(request)}.svg)\n`),
  ])
}

function micro({ micro: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Our own part of an event', result.environment, [
    'The way of an event from the route’s handler to the connection to Kafka, without sockets, HTTP and Kafka. A test fails when the garbage of an event grows by half.\n',
    table(result.rows, {
      request: (row) => row.request,
      'CPU µs an event': (row) => row.cpuMicrosPerEvent.toFixed(2),
      'bytes of garbage an event': (row) => String(Math.round(row.allocatedPerEvent)),
    }),
  ])
}

function idle({ idle: result }: KeptResults): string {
  if (result === undefined) return ''
  return section('Idle, connected', result.environment, [
    table(result.rows, {
      streams: (row) => String(row.streams),
      '% of a core': (row) => (row.shareOfCore * 100).toFixed(2),
      'MB resident': (row) => String(Math.round(row.rssBytes / 1e6)),
    }),
  ])
}

function section(title: string, environment: BenchEnvironment, parts: readonly string[]): string {
  const { machine, node, kafka, load, command, commit, date } = environment
  const source = `\`${command}\` on ${date}, commit ${commit}. ${machine}; Node ${node}, ${kafka}; ${load}.\n`
  return [`## ${title}\n`, source, ...parts].join('\n')
}

function landedText({ accepted, inTopics }: { accepted: number; inTopics: number }): string {
  return `By the log end offsets, ${inTopics} of ${accepted} accepted events are in the topics.\n`
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { startKafka, type LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { haproxyFile, onPorts } from '../test/support/balancer-files.ts'
import { freePorts } from '../test/support/free-ports.ts'
import { createTopic } from '../test/support/independent-reader.ts'
import { eventOf } from './events.ts'
import {
  barriersOfBroker,
  connectionsOfFirstBroker,
  produceRequestsOfBroker,
  type FleetShape,
} from './fleet-arithmetic.ts'
import { landedOf, type Landed } from './landed.ts'
import { loadMany } from './load.ts'
import { say } from './rounds.ts'
import { cpuMicrosOf, startChute, type ChuteProcess } from './server-process.ts'
import { eventTo } from './streams.ts'

/** A quantity of a fleet: what the arithmetic says, and what was measured. */
export interface FleetRow {
  readonly quantity: string
  /** How it is predicted, in words. */
  readonly from: string
  readonly predicted: number
  readonly measured: number
}

/** See {@link benchFleet}. */
export interface FleetResult {
  readonly rows: FleetRow[]
  readonly eventsPerSecond: number
  readonly failed: number
  readonly cpu: FleetCpu
  readonly landed: Landed
}

/** CPU times. On a machine that does something else they say nothing. */
export interface FleetCpu {
  /** What ran or waited for a core before the bench began (1 minute), and the cores. */
  readonly loadBefore: number
  readonly cores: number
  /** At the fixed rate. */
  readonly aloneMicrosPerEvent: number
  readonly fleetMicrosPerEvent: number
  readonly brokerMicrosPerRequest: number
  /** As fast as it goes, single events through HAProxy. */
  readonly fullSpeed: {
    readonly eventsPerSecond: number
    readonly gatewayMicrosPerEvent: number
    readonly balancerMicrosPerRequest: number
    readonly brokerMicrosPerEvent: number
    readonly failed: number
  }
}

const gatewayCount = 3
const workers = 2
/** Nodes of Kafka. */
export const brokers = 3
const streams = ['realtime-1', 'realtime-2', 'realtime-3', 'critical']
/** Few: a fleet on two cores has to keep up, or its rate would not be that of the one process. */
const eventsPerProcess = 40

/**
 * One gateway of one process alone, and then three gateways with two workers each behind HAProxy, at the same rate of events for each process:
 * what the arithmetic makes of the one is compared with the fleet. Each event is a request of its own.
 */
export async function benchFleet(options: { seconds: number }): Promise<FleetResult> {
  const loadBefore = loadavg()[0]!
  const folder = mkdtempSync(join(tmpdir(), 'chute-fleet-'))
  const kafka = await startKafka({ nodes: brokers, jvmFlags: ['-Djava.rmi.server.hostname=127.0.0.1'] })
  const requests = await RequestCounts.of(kafka)
  const started: (ChuteProcess | Balancer)[] = []
  try {
    for (const topic of streams) await createTopic(kafka.brokers.join(','), topic, { partitions: brokers })
    const file = join(folder, 'chute.json')
    const deliveryOf = (name: string) => (name === 'critical' ? 'at-least-once' : 'at-most-once')
    const config = {
      streams: Object.fromEntries(streams.map((name) => [name, { delivery: deliveryOf(name) }])),
    }
    writeFileSync(file, JSON.stringify(config))
    const serve = async (env: NodeJS.ProcessEnv = {}): Promise<ChuteProcess> => {
      const gateway = await startChute(kafka.brokers.join(','), { CHUTE_CONFIG: file, ...env })
      started.push(gateway)
      return gateway
    }

    const single = await serve()
    const alone = await measure({
      url: single.url,
      gateways: [single],
      kafka,
      requests,
      processes: 1,
      seconds: options.seconds,
    })
    const landedAlone = await landedOf(single, kafka.brokers[0]!)
    await single.stop()
    say(`one process: ${describe(alone)}`)

    const gateways: ChuteProcess[] = []
    for (let nth = 0; nth < gatewayCount; nth++) gateways.push(await serve({ WORKERS: String(workers) }))
    const balancer = await startBalancer(folder, gateways)
    started.push(balancer)
    const processes = gatewayCount * workers
    const { url } = balancer
    const fleet = await measure({ url, gateways, kafka, requests, processes, seconds: options.seconds })
    say(`fleet: ${describe(fleet)}`)
    const fullSpeed = await measureFullSpeed({ balancer, gateways, kafka, seconds: options.seconds / 2 })
    const shape: FleetShape = {
      processes,
      brokers,
      streams: streams.length,
      atMostOnceStreams: streams.length - 1,
      eventsPerSecond: fleet.eventsPerSecond,
      lingerMs: 5,
      confirmIntervalMs: 20,
    }
    return {
      rows: rowsOf({ shape, alone, fleet }),
      eventsPerSecond: fleet.eventsPerSecond,
      failed: alone.failed + fleet.failed,
      cpu: {
        loadBefore,
        cores: cpus().length,
        aloneMicrosPerEvent: alone.cpuMicrosPerEvent,
        fleetMicrosPerEvent: fleet.cpuMicrosPerEvent,
        brokerMicrosPerRequest: fleet.brokerMicrosPerSecond / fleet.brokerRequestsPerSecond,
        fullSpeed,
      },
      landed: await landedOfAll(gateways, kafka.brokers[0]!, landedAlone),
    }
  } finally {
    await Promise.all(started.map(async (each) => await each.stop()))
    await kafka.stop()
    rmSync(folder, { recursive: true })
  }
}

/** Single events with keys, to all streams in turn. */
const manyKeys = Array.from({ length: 200 }, (_, nth) =>
  eventTo(streams[nth % streams.length]!, eventOf({ source: `device-${nth}` })),
)

/** A number of processes at their rate. What is of a broker is that of the first one. */
interface Measured {
  readonly eventsPerSecond: number
  readonly failed: number
  readonly connectionsOfBroker: number
  readonly produceRequestsPerSecond: number
  readonly barriersPerSecond: number
  readonly cpuMicrosPerEvent: number
  readonly rssBytes: number
  readonly brokerMicrosPerSecond: number
  readonly brokerRequestsPerSecond: number
}

interface Measuring {
  readonly url: string
  readonly gateways: readonly ChuteProcess[]
  readonly kafka: LocalKafka
  readonly requests: RequestCounts
  readonly processes: number
  readonly seconds: number
}

async function measure({ url, gateways, kafka, requests, processes, seconds }: Measuring): Promise<Measured> {
  const node = kafka.nodes[0]!
  // For the compilers, and so that each stream is connected to each broker.
  await loadMany(url, manyKeys, 4)
  const clients = new PacedClients(url, processes * eventsPerProcess)
  await pause(2_000)
  const before = await requests.read()
  const [startMs, events, gatewayMicros, brokerMicros] = [
    performance.now(),
    clients.accepted,
    cpuOf(gateways),
    cpuMicrosOf(node.pid!),
  ]
  await pause(seconds * 1_000)
  const took = (performance.now() - startMs) / 1_000
  const [eventsThen, gatewayThen, brokerThen] = [clients.accepted, cpuOf(gateways), cpuMicrosOf(node.pid!)]
  const connections = connectionsAt(node.port)
  const rssBytes = gateways.reduce((sum, gateway) => sum + gateway.usage().rssBytes, 0)
  const after = await requests.read()
  await clients.stop()
  const perSecond = (name: string) =>
    (after.of(name) - before.of(name)) / ((after.atMs - before.atMs) / 1_000)
  return {
    eventsPerSecond: (eventsThen - events) / took,
    failed: clients.failed,
    connectionsOfBroker: connections,
    produceRequestsPerSecond: perSecond('Produce'),
    barriersPerSecond: perSecond('ListOffsets') / 2,
    cpuMicrosPerEvent: (gatewayThen - gatewayMicros) / (eventsThen - events),
    rssBytes,
    brokerMicrosPerSecond: (brokerThen - brokerMicros) / took,
    brokerRequestsPerSecond: perSecond('Produce') + perSecond('ListOffsets'),
  }
}

async function measureFullSpeed(run: {
  balancer: Balancer
  gateways: readonly ChuteProcess[]
  kafka: LocalKafka
  seconds: number
}): Promise<FleetCpu['fullSpeed']> {
  const { balancer, gateways, kafka, seconds } = run
  const cpu = () => ({
    gateways: cpuOf(gateways),
    balancer: cpuMicrosOf(balancer.pid),
    brokers: kafka.nodes.reduce((sum, { pid }) => sum + cpuMicrosOf(pid!), 0),
  })
  const before = cpu()
  const { requests, requestsPerSecond, failed } = await loadMany(balancer.url, manyKeys, seconds)
  const after = cpu()
  return {
    eventsPerSecond: requestsPerSecond,
    gatewayMicrosPerEvent: (after.gateways - before.gateways) / requests,
    balancerMicrosPerRequest: (after.balancer - before.balancer) / requests,
    brokerMicrosPerEvent: (after.brokers - before.brokers) / requests,
    failed,
  }
}

function rowsOf({
  shape,
  alone,
  fleet,
}: {
  shape: FleetShape
  alone: Measured
  fleet: Measured
}): FleetRow[] {
  const mebibytes = (bytes: number) => bytes / 2 ** 20
  return [
    {
      quantity: 'connections at the first broker',
      from: 'processes × (1 for all at-most-once streams + 1 for all at-least-once streams + 1 for metadata)',
      predicted: connectionsOfFirstBroker(shape),
      measured: fleet.connectionsOfBroker,
    },
    {
      quantity: 'produce requests/s at a broker',
      from: 'processes × streams ÷ (`linger.ms` + the time to the first event of a batch)',
      predicted: produceRequestsOfBroker(shape),
      measured: fleet.produceRequestsPerSecond,
    },
    {
      quantity: 'barriers/s at a broker',
      from: 'processes × at-most-once streams × produce requests, 50 at most',
      predicted: barriersOfBroker(shape),
      measured: fleet.barriersPerSecond,
    },
    {
      quantity: 'resident memory of all gateways, MiB',
      from: 'gateways × (`WORKERS` + 1) × that of one process',
      predicted: mebibytes(gatewayCount * (workers + 1) * alone.rssBytes),
      measured: mebibytes(fleet.rssBytes),
    },
  ]
}

/** Sends keyed single events to all streams in turn, at a steady rate, as long as the server keeps up. */
class PacedClients {
  accepted = 0
  failed = 0
  readonly #agent = new Agent({ keepAlive: true })
  readonly #loops: Promise<void>[]
  #isOver = false

  constructor(url: string, eventsPerSecond: number) {
    const clients = 24
    const periodMs = (clients / eventsPerSecond) * 1_000
    this.#loops = Array.from({ length: clients }, async (_, nth) => {
      let dueMs = performance.now() + (nth / clients) * periodMs
      for (let sent = 0; !this.#isOver; sent++) {
        await pause(Math.max(0, dueMs - performance.now()))
        // What is late is not made up for.
        dueMs = Math.max(dueMs + periodMs, performance.now())
        const event = eventOf({ source: `device-${(nth * 7 + sent) % 500}` })
        const status = await this.#post(`${url}/v1/streams/${streams[(nth + sent) % streams.length]}`, event)
        if (status === 202) this.accepted++
        else this.failed++
      }
    })
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#loops)
    this.#agent.destroy()
  }

  async #post(url: string, body: string): Promise<number> {
    return await new Promise((resolve) => {
      const sent = request(url, { agent: this.#agent, method: 'POST' }, (reply) =>
        reply.resume().once('end', () => resolve(reply.statusCode ?? 0)),
      )
      sent.once('error', () => resolve(0)).end(body)
    })
  }
}

interface Balancer {
  readonly url: string
  readonly pid: number
  stop(): Promise<void>
}

/** HAProxy with the configuration of docs/deploy.md. */
async function startBalancer(folder: string, gateways: readonly ChuteProcess[]): Promise<Balancer> {
  const [port] = await freePorts(1)
  const file = join(folder, 'haproxy.cfg')
  writeFileSync(
    file,
    onPorts(
      haproxyFile,
      port!,
      gateways.map(({ url }) => Number(new URL(url).port)),
    ),
  )
  const child: ChildProcess = spawn('haproxy', ['-db', '-f', file], { stdio: 'ignore' })
  const url = `http://127.0.0.1:${port}`
  while ((await fetch(`${url}/livez`).catch(() => null))?.ok !== true) {
    if (child.exitCode !== null) throw new Error(`HAProxy ended with ${child.exitCode}`)
    await pause(50)
  }
  return {
    url,
    pid: child.pid!,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
    },
  }
}

/** How many requests of each kind the first broker has served, by its own count (JMX). */
class RequestCounts {
  readonly #classpath: string
  readonly #url: string

  private constructor(classpath: string, port: number) {
    this.#classpath = classpath
    this.#url = `service:jmx:rmi:///jndi/rmi://127.0.0.1:${port}/jmxrmi`
  }

  static async of({ nodes, classpath }: LocalKafka): Promise<RequestCounts> {
    const [port] = await freePorts(1)
    const options = [`port=${port}`, 'authenticate=false', 'ssl=false', 'host=127.0.0.1']
    const { pid } = nodes[0]!
    await run('jcmd', [String(pid), 'ManagementAgent.start', ...options.map((each) => `jmxremote.${each}`)])
    return new RequestCounts(classpath, port!)
  }

  async read(): Promise<{ atMs: number; of: (name: string) => number }> {
    const name = 'kafka.network:type=RequestMetrics,name=RequestsPerSec,*'
    const tool = ['-cp', this.#classpath, 'org.apache.kafka.tools.JmxTool', '--jmx-url', this.#url]
    const what = [
      '--object-name',
      name,
      '--attributes',
      'Count',
      '--one-time',
      '--report-format',
      'properties',
    ]
    const { stdout } = await run('java', ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', ...tool, ...what])
    return {
      atMs: Number(/^time=(\d+)/m.exec(stdout)![1]),
      of: (kind) =>
        Array.from(stdout.matchAll(new RegExp(`request=${kind},version=\\d+:Count=(\\d+)`, 'g')))
          .map(([, count]) => Number(count))
          .reduce((sum, count) => sum + count, 0),
    }
  }
}

/** Connections that a port of this machine has accepted and that are open, as the kernel has them. */
function connectionsAt(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) => readFileSync(file, 'utf8').split('\n'))
  return rows
    .map((row) => row.trim().split(/\s+/))
    .filter(([, at, , state]) => at?.endsWith(local) === true && state === '01').length
}

function cpuOf(gateways: readonly ChuteProcess[]): number {
  return gateways.reduce((sum, gateway) => sum + gateway.usage().cpuMicros, 0)
}

/** The topics have the events of the first gateway too. */
async function landedOfAll(
  gateways: readonly ChuteProcess[],
  broker: string,
  before: Landed,
): Promise<Landed> {
  const each = await Promise.all(gateways.map(async (gateway) => await landedOf(gateway, broker)))
  return {
    accepted: before.accepted + each.reduce((sum, { accepted }) => sum + accepted, 0),
    inTopics: each[0]!.inTopics,
  }
}

function describe({ eventsPerSecond, cpuMicrosPerEvent, barriersPerSecond }: Measured): string {
  return `${Math.round(eventsPerSecond)} events/s, ${cpuMicrosPerEvent.toFixed(1)} µs CPU an event, ${Math.round(barriersPerSecond)} barriers/s at a broker`
}

const run = promisify(execFile)

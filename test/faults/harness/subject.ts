import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import type { ConnectionUse } from '../../../src/config/config.ts'
import type { ProducerStats } from '../../../src/kafka/producer/producer.ts'
import { createTopic } from '../../support/independent-reader.ts'
import type { Counts } from '../../support/producer-stats.ts'
import { serveGateway, type ServedGateway } from '../../support/served-gateway.ts'
import { DeviceLoad, type DeviceLoadOptions } from './device-load.ts'
import { readLanded, type Landed } from './landed.ts'
import { Scraper } from './scraper.ts'

/** A stream of a gateway under test, and what devices send to it. */
export interface SubjectStream {
  readonly name: string
  readonly delivery: 'at-most-once' | 'at-least-once'
  readonly load: Omit<DeviceLoadOptions, 'url' | 'stream'>
  /** Kafka's settings of the producer. */
  readonly producer?: Readonly<Record<string, string | number>>
  /** Settings of the topic. */
  readonly topicConfig?: Readonly<Record<string, string>>
}

/** See {@link startSubject}. */
export interface SubjectOptions {
  /** Where the gateway looks for Kafka. */
  readonly brokers: readonly string[]
  readonly streams: readonly SubjectStream[]
  readonly partitions?: number
  readonly replication?: number
  /** Of all streams; `FAULT_CONNECTION`, or `shared`, unless set. */
  readonly connection?: ConnectionUse
  readonly env?: NodeJS.ProcessEnv
}

/** A gateway in a process of its own, with devices that send to it and somebody who keeps looking at it. */
export interface Subject {
  readonly gateway: ServedGateway
  readonly scraper: Scraper
  readonly streams: readonly Watched[]
  /** The load of a stream. */
  load(stream: string): DeviceLoad
  /** Devices begin to send. */
  startLoads(): void
  stopLoads(): Promise<void>
  /** Waits until every accepted record has its outcome. @returns milliseconds that it took; throws after a minute. */
  settled(): Promise<number>
  /** Sends SIGTERM and waits for the end. */
  end(): Promise<Ending>
}

/** One stream of a subject, with its topic. */
export interface Watched {
  readonly name: string
  readonly topic: string
  readonly delivery: SubjectStream['delivery']
  readonly load: DeviceLoad
  /** What arrived, by an independent reader. */
  landed(broker: string): Promise<Landed>
}

/** How a gateway ended. */
export interface Ending {
  readonly exitCode: number | null
  /** From the signal to the end of the process. */
  readonly tookMs: number
  /** The account that the log's last line states, by stream. */
  readonly account: Readonly<Record<string, LoggedAccount>>
}

/** A stream's account in the log. */
export interface LoggedAccount
  extends
    Counts,
    Pick<ProducerStats, 'accepted' | 'buffered' | 'inFlight'>,
    Partial<Pick<ProducerStats, 'recovered' | 'spooled'>> {}

/** Creates the topics, starts a gateway for them and waits until it is ready. It ends with the test at the latest. */
export async function startSubject(options: SubjectOptions): Promise<Subject> {
  const id = randomUUID().slice(0, 8)
  const topicOf = ({ name }: SubjectStream): string => `${name}-${id}`
  const create = async (stream: SubjectStream): Promise<void> =>
    await createTopic(options.brokers.join(','), topicOf(stream), {
      partitions: options.partitions ?? 3,
      replicationFactor: options.replication ?? 1,
      config: { 'message.timestamp.type': 'LogAppendTime', ...stream.topicConfig },
    })
  const [gateway] = await Promise.all([serve(options, topicOf), ...options.streams.map(create)])
  const scraper = new Scraper(gateway.url, gateway.pid)
  onTestFinished(() => scraper.stop())
  await gateway.ready()
  void scraper.run()
  const streams = options.streams.map((stream): Watched => {
    const load = new DeviceLoad({ url: gateway.url, stream: stream.name, ...stream.load })
    const topic = topicOf(stream)
    const { name, delivery } = stream
    return {
      name,
      topic,
      delivery,
      load,
      landed: async (broker) => await readLanded(broker, topic, load),
    }
  })
  return {
    gateway,
    scraper,
    streams,
    load: (stream) => streams.find(({ name }) => name === stream)!.load,
    startLoads() {
      for (const { load } of streams) load.start()
    },
    async stopLoads() {
      await Promise.all(streams.map(async ({ load }) => await load.stop()))
    },
    settled: async () => await settled(scraper),
    end: async () => await end(gateway),
  }
}

async function serve(
  { streams, brokers, connection = usualConnection, env }: SubjectOptions,
  topicOf: (stream: SubjectStream) => string,
): Promise<ServedGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-faults-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'chute.json')
  const settings = streams.map((stream) => {
    const { name, delivery, producer = {} } = stream
    return [name, { topic: topicOf(stream), delivery, audit: true, producer, connection }]
  })
  writeFileSync(file, JSON.stringify({ streams: Object.fromEntries(settings) as object }))
  const environment = { KAFKA_BROKERS: brokers.join(','), KAFKA_CREATE_TOPICS: 'false', CHUTE_CONFIG: file }
  const gateway = await serveGateway({ ...environment, ...env })
  onTestFinished(() => gateway.signal('SIGKILL'))
  return gateway
}

async function settled(scraper: Scraper): Promise<number> {
  const startMs = performance.now()
  for (;;) {
    const { streams } = await scraper.scrape()
    const tookMs = performance.now() - startMs
    const pending = streams.reduce((sum, { buffered, inFlight }) => sum + buffered + inFlight, 0)
    if (pending === 0) return tookMs
    if (tookMs > settleLimitMs) throw new Error(`${pending} records have no outcome after ${tookMs} ms`)
    await pause(50)
  }
}

async function end(gateway: ServedGateway): Promise<Ending> {
  const startMs = performance.now()
  gateway.signal('SIGTERM')
  const exitCode = await gateway.ended()
  const { account } = gateway.lines.at(-1) as unknown as Pick<Ending, 'account'>
  return { exitCode, tookMs: performance.now() - startMs, account }
}

const settleLimitMs = 60_000
/** Each fault can be lived through in both forms: shared connections, or one for each stream. */
const usualConnection: ConnectionUse = process.env['FAULT_CONNECTION'] === 'own' ? 'own' : 'shared'

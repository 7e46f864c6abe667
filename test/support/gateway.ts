import type { AddressInfo } from 'node:net'
import { buildGateway, type Gateway } from '../../src/app.ts'
import type { Config, StreamConfig } from '../../src/config/config.ts'
import type { Logger } from '../../src/logger.ts'
import { streamConfig } from './producer-fixture.ts'

/** A gateway that listens in this process. */
export interface TestGateway {
  readonly url: string
  readonly gateway: Gateway
  /** What it logged, in order. */
  readonly log: readonly LogLine[]
  /** Resolves when a line with this message is logged, at once if one was. */
  logged(message: string): Promise<LogLine>
  /** Drains and stops; a second call does nothing. */
  stop(): Promise<boolean>
}

/** One line of the log. */
export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly atMs: number
}

/** A configuration for tests: the defaults, with what a test changes. */
export function testConfig(options: {
  brokers: readonly string[]
  streams: readonly StreamConfig[]
  retiredStreams?: readonly string[]
  http?: Partial<Config['http']>
  kafka?: Partial<Config['kafka']>
  shutdownTimeoutMs?: number
  dedupeStore?: Config['dedupeStore']
}): Config {
  return {
    http: {
      host: '127.0.0.1',
      port: 0,
      adminPort: null,
      tls: null,
      liveEvents: true,
      corsOrigins: [],
      beaconPath: null,
      keys: [],
      open: false,
      rateLimit: null,
      rateLimitAllow: [],
      rateLimitStore: null,
      bounds: { connections: 20_000, connectionsPerAddress: null, bodies: 2_000, bodiesPerAddress: null },
      trustProxyHops: 0,
      limits: {
        bodyBytes: 4 << 20,
        eventBytes: 1 << 20,
        eventsPerRequest: 10_000,
        depth: 32,
        bodyTimeoutMs: 10_000,
        bodyTimeoutMaxMs: 300_000,
        bodyMinBytesPerSecond: 50,
        keepAliveTimeoutMs: 72_000,
      },
      ...options.http,
    },
    kafka: {
      brokers: options.brokers,
      clientId: 'chute-test',
      ssl: null,
      sasl: null,
      connectionTimeoutMs: 3_000,
      topics: { create: true, partitions: 3, replicationFactor: 1 },
      metadataMaxAgeMs: 5_000,
      ...options.kafka,
    },
    pemFiles: {},
    streams: options.streams,
    retiredStreams: options.retiredStreams ?? [],
    consumer: null,
    shutdownTimeoutMs: options.shutdownTimeoutMs ?? 10_000,
    drainDelayMs: 0,
    spoolDrainTimeoutMs: 0,
    dataDir: null,
    dataDirEphemeral: false,
    workers: 1,
    dedupeStore: options.dedupeStore ?? null,
    logLevel: 'info',
    logFormat: 'pino',
  }
}

/** Starts a gateway for `config` on a free port; returns when it is ready unless `awaitReady` is false. */
export async function startGatewayWith(
  config: Config,
  options: { awaitReady?: boolean } = {},
): Promise<TestGateway> {
  const lines: LogLine[] = []
  const waiting: { message: string; resolve: (line: LogLine) => void }[] = []
  const at =
    (level: LogLine['level']) =>
    (fields: object, message: string): void => {
      const line: LogLine = {
        level,
        message,
        fields: fields as Record<string, unknown>,
        atMs: performance.now(),
      }
      lines.push(line)
      for (const waiter of waiting) if (waiter.message === message) waiter.resolve(line)
    }
  const logger: Logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
  const gateway = buildGateway(config, logger)
  await gateway.start()
  const { port } = gateway.server.server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`
  let stopping: Promise<boolean> | null = null
  const started: TestGateway = {
    url,
    gateway,
    log: lines,
    async logged(message) {
      const line = lines.find((each) => each.message === message)
      return line ?? (await new Promise<LogLine>((resolve) => waiting.push({ message, resolve })))
    },
    async stop() {
      stopping ??= gateway.stop()
      return await stopping
    },
  }
  if (options.awaitReady !== false) await untilReady(url)
  return started
}

/** Starts a gateway with one at-most-once stream for each entry of `topics` (stream → topic), each with the telemetry schema. */
export async function startGateway(options: {
  broker: string
  topics: Readonly<Record<string, string>>
  corsOrigins?: readonly string[]
}): Promise<TestGateway> {
  const streams = Object.entries(options.topics).map(([name, topic]): StreamConfig => ({
    ...streamConfig(topic, 'at-most-once'),
    name,
    schema: 'telemetry',
  }))
  const http = { corsOrigins: options.corsOrigins ?? [] }
  return await startGatewayWith(testConfig({ brokers: [options.broker], streams, http }))
}

/** Waits until `/readyz` says 200. It is asked again and again, as a load balancer does. */
export async function untilReady(url: string, limitMs = 30_000): Promise<void> {
  const deadlineMs = performance.now() + limitMs
  for (;;) {
    const reply = await fetch(`${url}/readyz`)
    if (reply.status === 200) return
    const state = await reply.text()
    if (performance.now() > deadlineMs) throw new Error(`not ready after ${limitMs} ms: ${state}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

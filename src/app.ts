import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { FastifyInstance } from 'fastify'
import { type Certificates, certificatesOf, ownCertificates } from './config/certificates.ts'
import { isLoopback, type Config } from './config/config.ts'
import { hashOfConfig, type PreparedReload } from './config/reload.ts'
import { areDiskCallsUnderWay } from './disk-calls.ts'
import { Deduplicators } from './dedupe/deduplicators.ts'
import type { Logger } from './logger.ts'
import { BufferMemory } from './kafka/producer/buffer-memory.ts'
import type { ProducerStats } from './kafka/producer/producer.ts'
import { Producers } from './kafka/producers.ts'
import { InvalidTopics } from './invalid-topics.ts'
import { LiveEvents, type LiveSource } from './live-events.ts'
import { LiveStreams } from './live-streams.ts'
import { Metrics, writeSnapshot } from './metrics/metrics.ts'
import { Reloads } from './metrics/reload-metrics.ts'
import { readinessOf } from './readiness.ts'
import { registerApiDocs } from './routes/admin/api-docs.ts'
import { EventReaders, registerLiveEvents } from './routes/admin/live-events.ts'
import { registerLivePage } from './routes/admin/live-page.ts'
import { registerMetrics } from './routes/admin/operations.ts'
import type { SharedPort } from './routes/http/connections.ts'
import { LimitCounts, type LimitStore, type RemoteLimitStore } from './limits/limit-counts.ts'
import { RedisLimits } from './limits/redis-limits.ts'
import { SharedLimits } from './limits/shared-limits.ts'
import { buildAdminServer, buildServer, type ServerOptions } from './routes/server.ts'
import { DurableProducer } from './spool/durable-producer.ts'
import { warningOfFolder } from './spool/ephemeral-folder.ts'
import { SpoolFolders } from './spool/spool-folders.ts'
import { findTracing } from './tracing/tracing.ts'
import { version } from './version.ts'
import type { GroupView, ViewScope, WorkerReport } from './workers/messages.ts'

/**
 * The composition root: it builds a gateway from a configuration. Read this file first. No other file sees every part. The parts see each other
 * through the interfaces that they get here.
 * @param group the other processes, if this process is one of several. Then the admin routes answer for all of them.
 * @throws DataFolderError if the folder for durable streams cannot be used.
 */
export function buildGateway(config: Config, logger: Logger, group: GatewayGroup | null = null): Gateway {
  const metrics = new Metrics(version, config.http.keys.length === 0)
  const reloads = new Reloads(hashOfConfig(config))
  if (group === null) metrics.observeReloads(reloads)
  const durable = config.streams.filter(({ spool }) => spool !== null)
  const haveHeaders = durable.some(({ headers }) => Object.keys(headers).length > 0)
  const names = durable.map(({ name }) => name)
  const { dataDir } = config
  const worker = group === null ? null : { number: group.worker, of: config.workers }
  const folders = new SpoolFolders({ dataDir, worker }, { names, haveHeaders }, logger)
  const isLasting = warningOfFolder(config) === null
  const producers = new Producers({
    kafka: config.kafka,
    streams: config.streams,
    dataDir: folders.path,
    logger,
    telemetry: (stream) => metrics.producerTelemetry(stream.name, stream.topic),
    durable: ({ name, spool }, open) => {
      if (spool === null) return null
      const ownFolder = folders.stream(name)
      const common = { spool, room: new BufferMemory(spool.maxBytes), isLasting, logger }
      const left: DurableProducer[] = []
      try {
        for (const folder of folders.streamsLeft(name))
          left.push(new DurableProducer({ ...common, producer: open(), folder }))
        return { own: new DurableProducer({ ...common, producer: open(), folder: ownFolder, left }), left }
      } catch (error) {
        for (const each of left) each.abort()
        throw error
      }
    },
  })
  metrics.observe(() => producers.stats)
  let certificates = ownCertificates(certificatesOf(config), config.pemFiles)
  metrics.observeTls(() => ({ failed: handshakes?.failed ?? null, certificates }))
  const invalid = new InvalidTopics(config, producers, logger)
  metrics.observeInvalid(() => invalid.stats)
  const dedupe = new Deduplicators(producers.byStream.values(), config.dedupeStore, logger)
  metrics.observeDedupe(() => dedupe.stats)
  let draining = false
  const readiness = () => readinessOf({ producers, draining })
  const scrape =
    group === null
      ? metrics
      : {
          text: async (accept?: string) => {
            const { metrics: sum } = await group.view('all')
            return writeSnapshot(() => sum, accept)
          },
        }
  const ownCounts = new LimitCounts()
  const { rateLimitStore } = config.http
  const counts: LimitStore = group === null ? ownCounts : new SharedLimits(group.limits, ownCounts)
  const redisLimits = rateLimitStore === null ? null : new RedisLimits(rateLimitStore, logger)
  const limitStore = redisLimits === null ? counts : new SharedLimits(redisLimits, counts)
  const live = config.http.liveEvents ? new LiveEvents() : null
  const readers = new EventReaders()
  const tracing = findTracing(version, logger)
  const options: ServerOptions = {
    http: config.http,
    producers: [...producers.byStream.values()],
    dedupe: dedupe.byStream,
    invalid: invalid.byStream,
    retiredStreams: config.retiredStreams,
    limitStore,
    telemetry: metrics,
    tracing,
    live,
    readiness: group === null ? readiness : async () => (await group.view('account')).readiness,
    ...(group !== null && {
      stuckWorkers: async () => (await group.view('account')).stuckWorkers,
      ticketSecret: group.ticketSecret,
    }),
    logger,
    admin: (app) => {
      registerMetrics(app, scrape)
      registerLivePage(app, {
        version,
        hasEvents: live !== null,
        look: async () => {
          if (group === null)
            return () => ({
              metrics: metrics.account(),
              readiness: readiness(),
              uptimeSeconds: uptimeSeconds(),
            })
          const view = await group.view('account')
          return () => view
        },
      })
      registerLiveEvents(app, {
        source: live === null || group === null ? live : group.events,
        readers,
        streams: () => [...producers.byStream.keys()],
        mayBeHost: hostsOfEvents(config.http),
      })
      registerApiDocs(app)
    },
  }
  const { app: server, connections, handshakes, targets, reload, rateLimits, bounds } = buildServer(options)
  metrics.observeLimits(() => ({
    limited: rateLimits.limited,
    store: redisLimits,
    connections: bounds.connections,
    bodies: bounds.bodies,
    refusedConnections: bounds.refusedConnections,
  }))
  const adminServer = buildAdminServer(options)
  const servers = adminServer === null ? [server] : [server, adminServer]
  const streams = new LiveStreams(config, { producers, dedupe, targets, invalid, folders, logger })
  let { sasl } = config.kafka
  const prepareReload = async (next: Config): Promise<PreparedReload> => {
    const compiled = await streams.compile(next)
    if (draining) throw new Error('the gateway shuts down')
    const prepared = streams.prepare(compiled)
    return {
      discard: prepared.discard,
      commit() {
        prepared.commit()
        // A token that is good stays: it is kept with the object that it was asked for with.
        if (!isDeepStrictEqual(sasl, next.kafka.sasl)) {
          sasl = next.kafka.sasl
          producers.renew({ sasl })
        }
        reload(next.http)
        metrics.isOpen = next.http.keys.length === 0
      },
    }
  }

  return {
    server,
    adminServer,
    reloads,
    live,
    get stats() {
      return producers.stats
    },
    report(ofProcess = null) {
      return { account: metrics.account(), readiness: readiness(), process: ofProcess }
    },
    async start(findKafkaMs = 0) {
      producers.start()
      dedupe.start()
      redisLimits?.start()
      const startedAtMs = performance.now()
      const isSettled = (): boolean =>
        readiness().ready && (redisLimits?.isUp !== false || performance.now() - startedAtMs > findRedisMs)
      while (!isSettled() && performance.now() - startedAtMs < findKafkaMs) await pause(20)
      await server.listen({ host: config.http.host, port: config.http.port, backlog: listenBacklog })
      await adminServer?.listen({ host: config.http.host, port: config.http.adminPort ?? 0 })
    },
    // What happens after a signal, in this order. `serve-command.ts` and `serve-workers.ts` of commands/ call it, and
    // CONTRIBUTING.md ("What happens at SIGTERM") has all places. With WORKERS above 1, workers/worker-group.ts kills a
    // worker `overtimeMs` after shutdownTimeoutMs and spoolDrainTimeoutMs, even in mid-drain.
    async stop(delay = null, { spoolWanted = null } = {}) {
      draining = true
      const leave = delay === null ? null : connections.beginToLeave()
      const isLeaving = await delay
      readers.close()
      let deadlineMs = performance.now() + config.shutdownTimeoutMs
      // Clients that still send a body get half of the time. The records in the buffers get the rest.
      const limitMs = config.shutdownTimeoutMs / 2
      if (leave !== null && isLeaving === true) await withinMs(limitMs, leave(group?.port ?? null))
      await withinMs(Math.max(0, deadlineMs - limitMs - performance.now()), server.close())
      if (config.spoolDrainTimeoutMs > 0) {
        const beganMs = performance.now()
        const sent = producers.spoolsSent(beganMs + config.spoolDrainTimeoutMs)
        await (spoolWanted === null ? sent : Promise.race([sent, spoolWanted]))
        deadlineMs += performance.now() - beganMs
      }
      const drained = await producers.close(Math.max(0, deadlineMs - performance.now()))
      await dedupe.close(deadlineMs)
      redisLimits?.close()
      // The admin routes answer to the last moment, so that a scrape sees the account close.
      const lastScrapeMs = Math.min(1_000, Math.max(100, deadlineMs - performance.now()))
      await withinMs(lastScrapeMs, Promise.all(servers.map(async (each) => await each.close())))
      // On some file systems a close waits for the disk. The lock ends with the process in any case.
      if (!areDiskCallsUnderWay()) folders.close()
      if (tracing !== null) await withinMs(lastSpansMs, tracing.flush())
      return drained
    },
    async drain(limitMs) {
      const deadlineMs = performance.now() + limitMs
      dedupe.start()
      producers.start()
      const isSent = await producers.spoolsSent(deadlineMs)
      // The folder also has keys that Redis may not know. It may be away.
      await dedupe.told(Math.min(deadlineMs, performance.now() + redisAnswersMs))
      return isSent
    },
    renew(renewed) {
      const { tls, kafkaSsl } = renewed
      if (tls !== null) handshakes?.renew(tls)
      producers.renew({ ssl: kafkaSsl })
      certificates = ownCertificates(renewed, config.pemFiles)
    },
    prepareReload,
    async reload(next) {
      const { commit } = await prepareReload(next)
      commit()
    },
    abort() {
      producers.abort()
      dedupe.abort()
      redisLimits?.close()
    },
  }
}

/** A gateway that was built and is not necessarily listening. */
export interface Gateway {
  /** Takes events. */
  readonly server: FastifyInstance
  /** Has the admin routes if `ADMIN_PORT` is set; else null. */
  readonly adminServer: FastifyInstance | null
  /** The events of this process that can be shown; null: none are. */
  readonly live: LiveEvents | null
  /** The account of each stream at this moment. */
  readonly stats: readonly ProducerStats[]
  /** The report to the primary, at this moment. `ofProcess`: the metrics of the process, if the primary asks for them. */
  report(ofProcess?: WorkerReport['process']): WorkerReport
  /**
   * Looks for Kafka, and for the Redis of the limits, then listens, and keeps looking in the background. A gateway also starts without Kafka.
   * @param findKafkaMs longest time to look for Kafka before the gateway listens. Left out: 0.
   */
  start(findKafkaMs?: number): Promise<void>
  /**
   * Answers the requests that are under way and drains, within `shutdownTimeoutMs`, and before that within `spoolDrainTimeoutMs` what is on
   * disk. `/readyz` answers 503 from now on.
   * @param delay until it resolves, requests are taken as before, and each reply is the last one of its connection, so that clients and load
   * balancers move on. Then the other connections are closed with care (`beginToLeave` in routes/http/connections.ts), unless the delay
   * resolves to false. `shutdownTimeoutMs` begins at the end of the delay. null: no delay.
   * @param options.spoolWanted resolves when another process waits for what is on disk. Then nothing waits for `spoolDrainTimeoutMs` any
   * more. Left out: no other process ever does.
   * @returns whether nothing that was accepted is lost by the end.
   */
  stop(delay?: Promise<boolean> | null, options?: { readonly spoolWanted?: Promise<void> }): Promise<boolean>
  /**
   * Sends what durable streams have on disk, and takes no requests: in place of {@link start}.
   * @returns whether Kafka has all of it within `limitMs`.
   */
  drain(limitMs: number): Promise<boolean>
  /** Connections that are made from now on, by clients and to Kafka, use these certificates. Those that there are go on. */
  renew(certificates: Certificates): void
  /** The reloads of the configuration. They are counted by whoever reads the files. */
  readonly reloads: Reloads
  /**
   * Gets ready for another configuration: `planReload` in config/reload.ts says what it can have in other ways.
   * @throws Error that says why the configuration cannot be put in force.
   */
  prepareReload(config: Config): Promise<PreparedReload>
  /** Puts a configuration in force, as {@link prepareReload} and a commit do. */
  reload(config: Config): Promise<void>
  /** Ends the producers at once. Then {@link stats} has the records that were lost by this. */
  abort(): void
}

/** The other processes of a gateway, as one of them sees them. */
export interface GatewayGroup {
  /** The number of this process. */
  readonly worker: number
  view(scope: ViewScope): Promise<GroupView>
  /** Counts for the limits of all processes. */
  readonly limits: RemoteLimitStore
  /** The events of all processes. */
  readonly events: LiveSource
  /** What the keys of TLS sessions are made of, so that a session of one process can be resumed at another. */
  readonly ticketSecret: string
  readonly port: SharedPort
}

/**
 * The names of the host under which events are shown; null: any. Where the address alone keeps strangers away, a page from elsewhere could
 * have the browser of this machine read them: its own name would only have to stand for the loopback address (DNS rebinding).
 */
function hostsOfEvents({
  host,
  adminPort,
  keys,
  trustProxyHops,
}: Config['http']): ((name: string) => boolean) | null {
  const hasKeys = keys.length > 0 && adminPort === null
  if (hasKeys || trustProxyHops > 0 || !isLoopback(host)) return null
  return (name) => isLoopback(name.replace(/^\[(.*)\]$/, '$1')) || name.endsWith('.localhost')
}

/**
 * So long a stop waits for the SDK to send the last spans, where there is an SDK. `overtimeMs` in workers/worker-group.ts has room for it, and
 * docs/tracing.md says it.
 */
const lastSpansMs = 1_000

/**
 * How many connections the kernel makes before the gateway takes them, as far as `net.core.somaxconn` lets it (4096 on Linux). Node's own
 * 511 are fewer than the devices that come back after an outage in one moment: the others would try again a second later.
 */
const listenBacklog = 4_096

/** So long a start waits for the Redis of the limits at most. Without it the gateway counts alone. */
const findRedisMs = 300
/** `chute drain` waits for so long until Redis knows the keys of the folder. */
const redisAnswersMs = 5_000

function uptimeSeconds(): number {
  return Math.round(process.uptime())
}

async function withinMs(limitMs: number, work: PromiseLike<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs)
  })
  await Promise.race([work, limit])
  clearTimeout(timer)
}

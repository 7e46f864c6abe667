import type { FastifyInstance } from 'fastify'
import type { Config } from './config/config.ts'
import type { Logger, ProducerStats } from './kafka/producer/producer.ts'
import { Producers } from './kafka/producer/producers.ts'
import { Metrics } from './metrics/metrics.ts'
import { readinessOf } from './readiness.ts'
import { registerApiDocs } from './routes/api-docs.ts'
import { registerLivePage } from './routes/live-page.ts'
import { registerMetrics } from './routes/metrics-route.ts'
import { buildAdminServer, buildServer, type ServerOptions } from './routes/server.ts'
import { version } from './version.ts'

/**
 * The composition root: builds a gateway from a configuration. The only file that sees every part; parts see each other
 * through the interfaces that they are given here.
 */
export function buildGateway(config: Config, logger: Logger): Gateway {
  const metrics = new Metrics(version)
  const producers = new Producers({
    kafka: config.kafka,
    streams: config.streams,
    logger,
    telemetry: (stream) => metrics.producerTelemetry(stream.name, stream.topic),
  })
  metrics.observe(() => producers.stats)
  let draining = false
  const readiness = () => readinessOf({ producers, draining })
  const options: ServerOptions = {
    http: config.http,
    producers: [...producers.byStream.values()],
    telemetry: metrics,
    readiness,
    logger,
    admin: (app) => {
      registerMetrics(app, metrics)
      registerLivePage(app, {
        version,
        streams: () => producers.stats,
        edge: () => metrics.edge.totals(),
        readiness,
      })
      registerApiDocs(app)
    },
  }
  const server = buildServer(options)
  const adminServer = buildAdminServer(options)
  const servers = adminServer === null ? [server] : [server, adminServer]

  return {
    server,
    adminServer,
    get stats() {
      return producers.stats
    },
    async start() {
      producers.start()
      await server.listen({ host: config.http.host, port: config.http.port })
      await adminServer?.listen({ host: config.http.host, port: config.http.adminPort ?? 0 })
    },
    async stop() {
      draining = true
      const deadlineMs = performance.now() + config.shutdownTimeoutMs
      // Who still sends a body gets half of the time; what is in the buffers then gets the rest.
      await withinMs(config.shutdownTimeoutMs / 2, server.close())
      const drained = await producers.close(Math.max(0, deadlineMs - performance.now()))
      // Scraped to the last moment, so that the account can be seen to close.
      await withinMs(1_000, Promise.all(servers.map(async (each) => await each.close())))
      return drained
    },
    abort() {
      producers.abort()
    },
  }
}

/** A gateway that was built and is not necessarily listening. */
export interface Gateway {
  /** Takes events. */
  readonly server: FastifyInstance
  /** Has the admin routes where `ADMIN_PORT` is set. */
  readonly adminServer: FastifyInstance | null
  /** Every stream's account, at this moment. */
  readonly stats: readonly ProducerStats[]
  /** Listens, and looks for Kafka in the background: that Kafka is away does not keep a gateway from starting. */
  start(): Promise<void>
  /**
   * Is not ready from now on, answers what is under way, and drains, all within `shutdownTimeoutMs`.
   * @returns whether every accepted record was sent and confirmed.
   */
  stop(): Promise<boolean>
  /** Ends the producers at once; the accounts say what that cost. */
  abort(): void
}

async function withinMs(limitMs: number, work: PromiseLike<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs)
  })
  await Promise.race([work, limit])
  clearTimeout(timer)
}

import { randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Deduplicator } from '../dedupe/deduplicator.ts'
import type { HttpConfig, TlsConfig } from '../config/config.ts'
import type { GatewayError } from '../errors.ts'
import type { LiveEvents } from '../live-events.ts'
import type { Logger } from '../logger.ts'
import type { Producer } from '../kafka/producer/producer.ts'
import { registerClientScript } from './client-script.ts'
import { registerBeacon } from './ingest/beacon.ts'
import { Bounds } from './http/bounds.ts'
import { Connections } from './http/connections.ts'
import { createTlsServer, Handshakes } from './http/handshakes.ts'
import { Cors, registerPreflight } from './policy/cors.ts'
import type { EdgeTelemetry } from '../metrics/edge-telemetry.ts'
import { registerHealth, type Health } from './admin/operations.ts'
import { registerIngest } from './ingest/ingest.ts'
import type { InvalidEvents } from './ingest/invalid-events.ts'
import { registerNoRoute } from './no-route.ts'
import { replyProblem, toGatewayError } from './http/problem.ts'
import { LimitCounts, type LimitStore } from '../limits/limit-counts.ts'
import { Keys } from './policy/keys.ts'
import { RateLimits } from './policy/rate-limit.ts'
import { ShownEvents } from './http/shown-events.ts'
import { beaconPrefix, Refusals, tellProblem, transportOf } from './http/refusals.ts'
import { traceRequests } from './ingest/request-span.ts'
import { StreamTargets } from './ingest/stream-target.ts'
import type { Tracing } from '../tracing/tracing.ts'

/**
 * The HTTP side, apart from listening. Read this file of the folder first.
 *
 * `routes/` translates between HTTP and events. Each file registers routes on a Fastify instance, and gets its parts as options. The folder
 * knows producers by their interface, and never talks to Kafka. A failure is thrown as a `GatewayError`, and `http/problem.ts` makes a reply
 * of it.
 *
 * This file puts the rooms together. Every route stands on `http/`: connections, replies, problems, refusals. `policy/` lets a request in or
 * not. `ingest/` takes events to producers. `admin/` shows operators what other parts know. The last three do not know each other.
 */
export interface ServerOptions extends Health {
  readonly http: HttpConfig
  /** One for each stream. */
  readonly producers: readonly Producer[]
  /** The deduplicators, by stream. A stream without one finds no duplicates. */
  readonly dedupe?: ReadonlyMap<string, Deduplicator>
  /** What takes the events that are refused for themselves, by stream. A stream without one only counts them. */
  readonly invalid?: ReadonlyMap<string, InvalidEvents>
  /** Names of streams whose routes answer 410. Left out: none. */
  readonly retiredStreams?: readonly string[]
  readonly telemetry: EdgeTelemetry
  /** Makes the spans of requests. Left out: there is no SDK of OpenTelemetry. */
  readonly tracing?: Tracing | null
  /** Takes the events that the live page shows. Left out: nobody can watch events. */
  readonly live?: LiveEvents | null
  /** What the keys of TLS sessions are made of, where several processes share a port. Left out: a secret of this process. */
  readonly ticketSecret?: string
  /** Counts for the limits. Left out: this process counts what comes to it. */
  readonly limitStore?: LimitStore
  /** Gets the faults of the gateway, and the refused requests: at most one line a second for each code. */
  readonly logger: Logger
  /** Registers further admin routes (`/metrics`, the live page), on the server that has the admin routes. */
  readonly admin?: (app: FastifyInstance) => void
}

/** A server that was built and is not necessarily listening. */
export interface HttpServer {
  readonly app: FastifyInstance
  readonly connections: Connections
  /** null: the server speaks plain HTTP. */
  readonly handshakes: Handshakes | null
}

/** The server that takes events. */
export interface EventServer extends HttpServer {
  /** The streams that it takes events for. */
  readonly targets: StreamTargets
  /** Requests that come from now on are judged by the keys, origins and limits of another configuration. */
  readonly reload: (http: HttpConfig) => void
  readonly rateLimits: RateLimits
  readonly bounds: Bounds
}

/**
 * Builds the server that takes events. It also has the admin routes, unless `adminPort` is set.
 * @throws Error if a stream's JSON Schema cannot be used.
 */
export function buildServer(options: ServerOptions): EventServer {
  const { http, logger, telemetry } = options
  const targets = new StreamTargets(
    options.producers,
    options.dedupe,
    options.invalid,
    options.retiredStreams,
  )
  const cors = new Cors(http)
  const keys = new Keys(http, (name) => telemetry.edge.ofKey(name))
  const rateLimits = new RateLimits(http, options.limitStore ?? new LimitCounts())
  const bounds = new Bounds({ bounds: http.bounds, lookUp: rateLimits.lookUp, logger })
  const shown = new ShownEvents(options.live ?? null)
  const refusals = new Refusals({
    edge: telemetry.edge,
    shown,
    logger,
    allowedOrigins: () => cors.allowed,
  })
  const { app, connections, handshakes } = createApp(options, {
    cors,
    targets,
    refusals,
    bounds,
    tls: http.tls,
  })
  app.register(async (events) => {
    traceRequests(events, options.tracing ?? null)
    cors.guard(events)
    keys.guard(events)
    rateLimits.guard(events)
    const routes = { targets, telemetry, refusals, shown, limits: http.limits, bounds, logger }
    registerIngest(events, routes)
    registerBeacon(events, routes)
    registerPreflight(events, '/v1/streams/:stream')
    registerPreflight(events, '/v1/beacon/:stream')
    // With this a page can read the 404 of a path that does not exist.
    registerPreflight(events, '/v1/*')
  })
  app.register(async (scripts) => registerClientScript(scripts))
  if (http.adminPort === null) registerAdmin(app, options, keys)
  const reload = (next: HttpConfig): void => {
    cors.reload(next)
    keys.reload(next)
    rateLimits.reload(next)
  }
  return { app, connections, handshakes, targets, reload, rateLimits, bounds }
}

/** Builds the server of `adminPort`, which has no TLS; null if the other server has the admin routes. */
export function buildAdminServer(options: ServerOptions): FastifyInstance | null {
  if (options.http.adminPort === null) return null
  const { app } = createApp(options, {
    cors: null,
    targets: null,
    bounds: null,
    tls: null,
    refusals: new Refusals({
      edge: options.telemetry.edge,
      shown: new ShownEvents(null),
      logger: options.logger,
      allowedOrigins: () => [],
    }),
  })
  registerAdmin(app, options, null)
  return app
}

/** @param keys null: whoever reaches the port may look. */
function registerAdmin(app: FastifyInstance, options: ServerOptions, keys: Keys | null): void {
  registerHealth(app, { ...options, mayKnow: (request) => keys?.isAdmin(request) ?? true })
  app.register(async (pages) => {
    keys?.guardAdmin(pages)
    options.admin?.(pages)
  })
}

/** The parts in which the two servers differ. Pages and events come only to one of them. */
interface ServerParts {
  readonly cors: Cors | null
  readonly targets: StreamTargets | null
  /** null: any number of connections may be open. */
  readonly bounds: Bounds | null
  readonly tls: TlsConfig | null
  readonly refusals: Refusals
}

function createApp(
  { http, logger, telemetry, producers, ticketSecret = randomBytes(32).toString('hex') }: ServerOptions,
  { cors, targets, refusals, bounds, tls }: ServerParts,
): HttpServer {
  const { bodyTimeoutMs, bodyTimeoutMaxMs, keepAliveTimeoutMs: keepAliveTimeout } = http.limits
  const refuse = (request: FastifyRequest, reply: FastifyReply, problem: GatewayError): void => {
    const transport = transportOf(request.raw.url ?? '')
    const { stream } = (request.params ?? {}) as { readonly stream?: string }
    const isKnown = stream !== undefined && targets?.has(stream) === true
    request.accessKey?.counter.refused()
    request.trace?.refused(problem.code)
    refusals.refused(problem, {
      transport,
      stream: isKnown ? stream : null,
      request,
      batch: null,
      body: null,
    })
    if (transport !== 'http') tellProblem(reply.raw, problem)
    replyProblem(reply, problem)
  }
  const ofNodeHttp = {
    requestTimeout: bodyTimeoutMaxMs,
    headersTimeout: bodyTimeoutMs,
    connectionsCheckingInterval: Math.min(1_000, Math.ceil(bodyTimeoutMs / 4)),
    // `Connections` checks the Host line instead, and says what is wrong with it.
    requireHostHeader: false,
  }
  const app = Fastify({
    logger: false,
    // Hop 0 is the address of the socket.
    trustProxy: http.trustProxyHops === 0 ? false : (_address, hop) => hop < http.trustProxyHops,
    // The longest time from the first byte of a request to its last. node:http checks all connections with one timer, and `Connections` makes
    // a 408 of what it finds. `Connections` itself checks for bodies that come too slowly.
    requestTimeout: bodyTimeoutMaxMs,
    http: ofNodeHttp,
    keepAliveTimeout,
    ...(tls !== null && {
      serverFactory: (handle: RequestListener) =>
        createTlsServer({ ...ofNodeHttp, keepAliveTimeout }, handle, {
          tls,
          ticketSecret,
          limits: http.limits,
        }),
      // Fastify makes no server of it: it only says https:// where it listens.
      https: {},
    }),
    // While the server closes, requests on open connections still reach their routes, which answer 503 shutting_down.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    clientErrorHandler: (error, socket) => connections.onClientError(error, socket),
    frameworkErrors: (error, request, reply) => {
      cors?.letRead(request, reply)
      refuse(request, reply, toGatewayError(error, logger, request))
    },
    exposeHeadRoutes: true,
    ...(http.beaconPath !== null && targets !== null && { rewriteUrl: beaconPathToUsual(http.beaconPath) }),
    routerOptions: { maxParamLength: 255 },
  })
  // A client that never reads its replies has nothing else that ends it. Longer than any request waits.
  app.server.timeout = longestSilenceMs(bodyTimeoutMaxMs, producers)
  // net.Server tells of a connection that could not be taken, for want of a descriptor, say. Fastify's listener is gone by then.
  app.server.once('listening', () => {
    let toldAtMs = -Infinity
    app.server.on('error', (err) => {
      if (performance.now() - toldAtMs < quietMs) return
      toldAtMs = performance.now()
      logger.error({ err }, 'a connection could not be taken')
    })
  })
  // The routes read bodies themselves, so that the bytes can be passed on as they came. Fastify must not read them.
  for (const method of app.supportedMethods) {
    app.addHttpMethod(method, { hasBody: false, overrideExisting: true })
  }
  const handshakes =
    tls === null
      ? null
      : new Handshakes(app.server, {
          asksForCertificate: tls.clientCa !== null,
          ticketSecret,
          refusals,
          logger,
        })
  const connections: Connections = new Connections(app.server, {
    limits: http.limits,
    bounds,
    handshakes,
    timer: telemetry.httpTimer('other', 'none'),
    refusals,
    logger,
  })
  // A connection that is busy now closes after its reply, and not at the end of its keep-alive time.
  app.addHook('preClose', (done) => {
    app.server.keepAliveTimeout = 1
    connections.setEnding(true)
    connections.closeSilent()
    done()
  })
  app.setErrorHandler((error, request, reply) => {
    const problem = toGatewayError(error, logger, request)
    // A request that is refused before the handler of its route counts in the route's durations, as taking no time.
    const { url } = request.routeOptions
    if (url?.startsWith('/v1/') === true && request.method !== 'OPTIONS') {
      telemetry.httpTimer(request.method, url).observe(problem.status, 0)
    }
    refuse(request, reply, problem)
  })
  registerNoRoute(app, cors)
  return { app, connections, handshakes }
}

/**
 * `BEACON_PATH`: the beacon routes stand under this path too. From here on such a request is one of the usual path, so no other part
 * has to know of it.
 */
function beaconPathToUsual(path: string): (request: { url?: string | undefined }) => string {
  const own = `${path}/`
  return ({ url = '' }) => (url.startsWith(own) ? beaconPrefix + url.slice(own.length) : url)
}

/**
 * For how long nothing may come or go over a connection on which a request is answered, in milliseconds. More than any request may take: its body, room on
 * the disk and in memory (`max.block.ms` each), and its outcome.
 */
function longestSilenceMs(bodyTimeoutMaxMs: number, producers: readonly Producer[]): number {
  const blockMs = Math.max(0, ...producers.map(({ stream }) => stream.producer.maxBlockMs))
  return Math.min(2 ** 31 - 1, bodyTimeoutMaxMs + 2 * blockMs + 480_000)
}

const quietMs = 10_000

import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Deduplicator } from '../dedupe/deduplicator.ts'
import type { HttpConfig } from '../config/config.ts'
import type { GatewayError } from '../errors.ts'
import type { Logger } from '../logger.ts'
import type { Producer } from '../kafka/producer/producer.ts'
import { registerBeacon } from './ingest/beacon.ts'
import { Connections } from './http/connections.ts'
import { Cors, registerPreflight } from './policy/cors.ts'
import type { EdgeTelemetry } from '../metrics/edge-telemetry.ts'
import { registerHealth, type Health } from './admin/operations.ts'
import { registerIngest } from './ingest/ingest.ts'
import { registerNoRoute } from './no-route.ts'
import { replyProblem, toGatewayError } from './http/problem.ts'
import type { CountRequest } from '../request-count.ts'
import { registerRateLimit } from './policy/rate-limit.ts'
import { Refusals, tellProblem, transportOf } from './http/refusals.ts'
import { StreamTargets } from './ingest/stream-target.ts'

/**
 * The HTTP side, apart from listening. Read this file of the folder first.
 *
 * `routes/` translates between HTTP and events: each file registers routes on a Fastify instance and takes what it needs
 * as options. It talks to producers by their interface, and never to Kafka. Whatever goes wrong is thrown as a
 * `GatewayError` and becomes a reply in `http/problem.ts`.
 *
 * This file puts the rooms together. `http/` is below every route: connections, replies, problems, refusals. `policy/` lets a
 * request in or not. `ingest/` takes events to producers. `admin/` shows operators what others know. None of the last three
 * knows another.
 */
export interface ServerOptions extends Health {
  readonly http: HttpConfig
  /** One for each stream. */
  readonly producers: readonly Producer[]
  /** By stream; those that are left out tell no duplicates. */
  readonly dedupe?: ReadonlyMap<string, Deduplicator>
  readonly telemetry: EdgeTelemetry
  /** Left out: requests are counted in this process. */
  readonly countRequest?: CountRequest
  /** Faults of the gateway are logged, and requests that are refused: at most a line a second and code. */
  readonly logger: Logger
  /** Registers what operators look at (`/metrics`, the live page), on whichever server has the admin routes. */
  readonly admin?: (app: FastifyInstance) => void
}

/** A server that was built and is not necessarily listening. */
export interface HttpServer {
  readonly app: FastifyInstance
  readonly connections: Connections
}

/**
 * Builds the server that takes events. It has the admin routes too unless `adminPort` is set.
 * @throws Error if a stream's JSON Schema cannot be used.
 */
export function buildServer(options: ServerOptions): HttpServer {
  const { http, logger, telemetry } = options
  const targets = new StreamTargets(options.producers, options.dedupe)
  const cors = new Cors(http.corsOrigins)
  const refusals = new Refusals({ edge: telemetry.edge, logger, allowedOrigins: http.corsOrigins })
  const { app, connections } = createApp(options, { cors, targets, refusals })
  app.register(async (events) => {
    cors.guard(events)
    if (http.rateLimit !== null) await registerRateLimit(events, http.rateLimit, options.countRequest ?? null)
    const routes = { targets, telemetry, refusals, limits: http.limits, logger }
    registerIngest(events, routes)
    registerBeacon(events, routes)
    registerPreflight(events, '/v1/streams/:stream')
    registerPreflight(events, '/v1/beacon/:stream')
    // So that a page can read the 404 of a path that is not there.
    registerPreflight(events, '/v1/*')
  })
  if (http.adminPort === null) registerAdmin(app, options)
  return { app, connections }
}

/** Builds the server of `adminPort`; null if the admin routes are on the other one. */
export function buildAdminServer(options: ServerOptions): FastifyInstance | null {
  if (options.http.adminPort === null) return null
  const { app } = createApp(options, {
    cors: null,
    targets: null,
    refusals: new Refusals({
      edge: options.telemetry.edge,
      logger: options.logger,
      allowedOrigins: [],
    }),
  })
  registerAdmin(app, options)
  return app
}

function registerAdmin(app: FastifyInstance, options: ServerOptions): void {
  registerHealth(app, options)
  options.admin?.(app)
}

/** What the two servers do not have in common: pages and events come to one of them only. */
interface ServerParts {
  readonly cors: Cors | null
  readonly targets: StreamTargets | null
  readonly refusals: Refusals
}

function createApp(
  { http, logger, telemetry }: ServerOptions,
  { cors, targets, refusals }: ServerParts,
): HttpServer {
  const { bodyTimeoutMs, bodyTimeoutMaxMs } = http.limits
  const refuse = (request: FastifyRequest, reply: FastifyReply, problem: GatewayError): void => {
    const transport = transportOf(request.raw.url ?? '')
    const { stream } = (request.params ?? {}) as { readonly stream?: string }
    const isKnown = stream !== undefined && targets?.has(stream) === true
    refusals.refused(problem, { transport, stream: isKnown ? stream : null, request })
    if (transport !== 'http') tellProblem(reply.raw, problem)
    replyProblem(reply, problem)
  }
  const app = Fastify({
    logger: false,
    // The address nearest to us has hop 0.
    trustProxy: http.trustProxyHops === 0 ? false : (_address, hop) => hop < http.trustProxyHops,
    // From the first byte of a request to its last. node:http looks after all connections with one timer; `Connections`
    // makes a 408 of what it finds, and looks after bodies that come too slowly itself.
    requestTimeout: bodyTimeoutMaxMs,
    http: {
      requestTimeout: bodyTimeoutMaxMs,
      headersTimeout: bodyTimeoutMs,
      connectionsCheckingInterval: Math.min(1_000, Math.ceil(bodyTimeoutMs / 4)),
      // `Connections` judges the whole of it, and tells what is wrong.
      requireHostHeader: false,
    },
    // Longer than the 60 s of most load balancers, so that it is not us who closes a connection that they reuse.
    keepAliveTimeout: 72_000,
    // While closing, what arrives on open connections is still answered: with 503 shutting_down, by the producers.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    clientErrorHandler: (error, socket) => connections.onClientError(error, socket),
    frameworkErrors: (error, request, reply) => {
      cors?.letRead(request, reply)
      refuse(request, reply, toGatewayError(error, logger))
    },
    exposeHeadRoutes: true,
    routerOptions: { maxParamLength: 255 },
  })
  // Bodies are read by the routes, so that the bytes can be passed on as they came: Fastify must leave them alone.
  for (const method of app.supportedMethods) {
    app.addHttpMethod(method, { hasBody: false, overrideExisting: true })
  }
  const connections: Connections = new Connections(app.server, {
    limits: http.limits,
    timer: telemetry.httpTimer('other', 'none'),
    refusals,
    logger,
  })
  // Connections that are busy now are to close once they are answered, and not when their keep-alive time is over.
  app.addHook('preClose', (done) => {
    app.server.keepAliveTimeout = 1
    connections.setEnding(true)
    connections.closeSilent()
    done()
  })
  app.setErrorHandler((error, request, reply) => {
    const problem = toGatewayError(error, logger)
    // What is refused before a route's handler shows in its durations, as taking no time.
    const { url } = request.routeOptions
    if (url?.startsWith('/v1/') === true && request.method !== 'OPTIONS') {
      telemetry.httpTimer(request.method, url).observe(problem.status, 0)
    }
    refuse(request, reply, problem)
  })
  registerNoRoute(app, cors)
  return { app, connections }
}

import type { FastifyInstance } from 'fastify'
import type { HttpConfig } from '../../src/config/config.ts'
import type { HttpLimits, RateLimit } from '../../src/config/limits.ts'
import type { EdgeTelemetry, EdgeTransport, KeyCounter } from '../../src/metrics/edge-telemetry.ts'
import { buildServer, type ServerOptions } from '../../src/routes/server.ts'
import type { Bounds } from '../../src/routes/http/bounds.ts'
import type { Connections } from '../../src/routes/http/connections.ts'
import type { RateLimits } from '../../src/routes/policy/rate-limit.ts'
import type { Handshakes } from '../../src/routes/http/handshakes.ts'
import { type Authority, makeAuthority, type Pair } from './certificates.ts'
import { FakeProducer } from './fake-producer.ts'
import { connectWith } from './socket-client.ts'

let tlsOfEdges: (Authority & { readonly pair: Pair }) | null = null

/** From now on gateways speak TLS, and so does {@link SocketClient}. @returns what ends that: the next file may be in this process. */
export function speakTls(): () => void {
  const authority = makeAuthority()
  tlsOfEdges = { ...authority, pair: authority.issue('gateway') }
  connectWith({ ca: authority.ca })
  return () => {
    tlsOfEdges = null
    connectWith(null)
  }
}

export const fakeLimits: HttpLimits = {
  bodyBytes: 1_048_576,
  eventBytes: 262_144,
  eventsPerRequest: 10_000,
  depth: 32,
  bodyTimeoutMs: 10_000,
  bodyTimeoutMaxMs: 300_000,
  bodyMinBytesPerSecond: 50,
  keepAliveTimeoutMs: 72_000,
}

/** A limit that holds for nothing but what a test says. */
export function limitOf(limit: Partial<RateLimit>): RateLimit {
  return { requests: null, events: null, bytes: null, windowMs: 60_000, burst: 1, ...limit }
}

/** The HTTP settings of a gateway on its own. */
export function fakeHttp(overrides: Partial<HttpConfig> = {}): HttpConfig {
  return {
    host: '127.0.0.1',
    port: 0,
    adminPort: null,
    tls: tlsOfEdges === null ? null : { ...tlsOfEdges.pair, clientCa: null },
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
    limits: fakeLimits,
    ...overrides,
  }
}

/** Counts what the routes tell. */
export class FakeTelemetry implements EdgeTelemetry {
  accepted = 0
  rejected = 0
  duplicates = 0
  readonly acceptedBy: Record<EdgeTransport, number> = { http: 0, beacon: 0, pixel: 0 }
  readonly rejectedBy: Record<string, number> = {}
  readonly replies: { readonly route: string; readonly statusCode: number }[] = []
  readonly refusals: { code: string; transport: EdgeTransport; stream: string }[] = []
  readonly keys: Record<string, { accepted: number; refused: number }> = {}
  readonly edge = {
    refused: (code: string, transport: EdgeTransport, stream: string): void => {
      this.refusals.push({ code, transport, stream })
    },
    accepted: (transport: EdgeTransport, events: number): void => {
      this.accepted += events
      this.acceptedBy[transport] += events
    },
    duplicates: (_transport: EdgeTransport, events: number): void => {
      this.duplicates += events
    },
    rejected: (_transport: EdgeTransport, code: string, events: number): void => {
      this.rejected += events
      this.rejectedBy[code] = (this.rejectedBy[code] ?? 0) + events
    },
    ofKey: (name: string): KeyCounter => {
      const counted = (this.keys[name] ??= { accepted: 0, refused: 0 })
      return {
        accepted: (events) => void (counted.accepted += events),
        refused: () => void counted.refused++,
      }
    },
  }

  httpTimer(method: string, route: string): { observe: (statusCode: number, durationMs: number) => void } {
    return { observe: (statusCode) => this.replies.push({ route: `${method} ${route}`, statusCode }) }
  }
}

/** A gateway's HTTP side over fake producers. Close `app` after the test. */
export interface Edge {
  readonly app: FastifyInstance
  readonly connections: Connections
  readonly handshakes: Handshakes | null
  readonly rateLimits: RateLimits
  readonly bounds: Bounds
  /** Puts other keys, origins and limits in force. */
  readonly reload: (http: Partial<HttpConfig>) => void
  readonly producer: FakeProducer
  readonly telemetry: FakeTelemetry
  /** What was logged as an error: nothing, unless the gateway has a fault. */
  readonly faults: object[]
}

function nothing(): void {}

/** Builds the HTTP side; the first of `producers` is the one that a test looks at. */
export function buildEdge(
  http: Partial<HttpConfig> = {},
  producers: FakeProducer[] = [new FakeProducer()],
  more: Partial<ServerOptions> = {},
): Edge {
  const telemetry = new FakeTelemetry()
  const faults: object[] = []
  const { app, connections, handshakes, rateLimits, bounds, reload } = buildServer({
    http: fakeHttp(http),
    producers,
    telemetry,
    readiness: () => ({ ready: true, checks: [{ name: 'kafka', ok: true, detail: 'connected' }] }),
    logger: { debug: nothing, info: nothing, warn: nothing, error: (fields) => faults.push(fields) },
    ...more,
  })
  const [producer] = producers
  if (producer === undefined) throw new Error('a gateway has a stream')
  return {
    app,
    connections,
    handshakes,
    rateLimits,
    bounds,
    reload: (next) => reload(fakeHttp(next)),
    producer,
    telemetry,
    faults,
  }
}

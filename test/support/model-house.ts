import { buildGateway, type Gateway } from '../../src/app.ts'
import type { StreamConfig } from '../../src/config/config.ts'
import type { BrokerConnection, Transport } from '../../src/kafka/network/transport.ts'
import { testConfig } from './gateway.ts'
import { ModelCluster } from './model-broker.ts'
import type { ModelDisk, ProcessDisk } from './model-disk.ts'
import { ModelRedis, type ModelRedisClient } from './model-redis.ts'
import { LogKeeper } from './producer-fixture.ts'

/**
 * Whole gateways in one process, under a virtual clock, with a model of everything outside of them: brokers and Redis, and a
 * disk that can fail. All of `buildGateway` is real. The modules that reach outside are replaced in the test's file
 * (`vi.mock`) by ones that ask here, by the name of a life: it is Kafka's client id, and the host in the URL of Redis.
 */
export class ModelHouse {
  readonly cluster: ModelCluster
  readonly redis = new ModelRedis()

  constructor(nodes: number, random: () => number) {
    const nodeIds = Array.from({ length: nodes }, (_, index) => index + 1)
    this.cluster = new ModelCluster(nodeIds, random)
  }

  /** Starts a process of a gateway. @param name unique among all lives of all houses. */
  startLife(name: string, options: LifeOptions): Life {
    const life = new Life(name, this, options)
    lives.set(name, life)
    life.start()
    return life
  }
}

/** See {@link ModelHouse}. */
export interface LifeOptions {
  readonly streams: readonly StreamConfig[]
  /** Of its machine. */
  readonly disk: ModelDisk
  readonly shutdownTimeoutMs: number
  readonly leaseMs: number
}

/** One process of a gateway, from its start to its end. */
export class Life implements Transport {
  readonly name: string
  readonly logs = new LogKeeper()
  /** It was killed, or has ended: nothing that it does has any effect. */
  isOver = false
  /** Requests that it has not answered. */
  underWay = 0
  readonly disk: ProcessDisk
  readonly #house: ModelHouse
  readonly #options: LifeOptions
  readonly #connections = new Set<BrokerConnection & { cut(noticedMs: number, isSudden: boolean): void }>()
  readonly #redisClients = new Set<ModelRedisClient>()
  #gateway: Gateway | null = null
  #isListening = true
  #onEnd: () => void = () => {}
  readonly #end = new Promise<void>((resolve) => (this.#onEnd = resolve))

  constructor(name: string, house: ModelHouse, options: LifeOptions) {
    this.name = name
    this.#house = house
    this.#options = options
    this.disk = options.disk.open()
  }

  get gateway(): Gateway {
    return this.#gateway!
  }

  /** @throws Error where the gateway does not start. */
  start(): void {
    const { streams, shutdownTimeoutMs, leaseMs } = this.#options
    const nodeIds = [...this.#house.cluster.nodes.keys()]
    const config = testConfig({
      brokers: nodeIds.map((nodeId) => `node-${nodeId}:9092`),
      streams,
      kafka: { clientId: this.name, topics: { create: false, partitions: null, replicationFactor: null } },
      shutdownTimeoutMs,
      dedupeStore: { url: `redis://${this.name}`, prefix: 'chute:', leaseMs, timeoutMs: 100 },
    })
    const gateway = buildGateway({ ...config, dataDir: `${dataRoot}/${this.name}` }, this.logs)
    // It is asked without a socket.
    const { server } = gateway
    const close = server.close.bind(server) as () => Promise<undefined>
    // As with sockets: no new requests come, and the present ones are answered first.
    server.close = (async () => {
      this.#isListening = false
      while (this.underWay > 0 && !this.isOver) await new Promise((resolve) => setTimeout(resolve, 1))
      await close()
    }) as typeof server.close
    gateway.server.listen = async () => await Promise.resolve('')
    void gateway.start()
    this.#gateway = gateway
  }

  /** @inheritdoc */
  async connect(host: string, port: number, requestTimeoutMs: number): Promise<BrokerConnection> {
    const connection = await this.#house.cluster.connect(host, port, requestTimeoutMs)
    if (this.isOver) throw new Error('the process is gone')
    this.#connections.add(connection as never)
    return connection
  }

  /** In the place of `createClient` of Redis's client. */
  connectRedis(): ModelRedisClient {
    const client = this.#house.redis.connect()
    this.#redisClients.add(client)
    if (this.isOver) client.destroy()
    return client
  }

  /** Asks it. @returns null where it does not answer: it is killed meanwhile, or the client's patience ends. */
  async ask(
    path: string,
    headers: Record<string, string>,
    payload: string,
    patienceMs: number,
  ): Promise<{ status: number; code: string; accepted: number } | null> {
    if (!this.#isListening) return { status: 0, code: 'ECONNREFUSED', accepted: 0 }
    this.underWay++
    const answer = this.#inject(path, headers, payload)
    const patience = new Promise<null>((resolve) => setTimeout(() => resolve(null), patienceMs))
    return await Promise.race([answer, patience, this.#end.then(() => null)])
  }

  async #inject(
    path: string,
    headers: Record<string, string>,
    payload: string,
  ): Promise<{ status: number; code: string; accepted: number } | null> {
    try {
      const reply = await this.gateway.server.inject({ method: 'POST', url: path, headers, payload })
      const { code = '', accepted = 0 } = JSON.parse(reply.payload) as { code?: string; accepted?: number }
      return this.isOver ? null : { status: reply.statusCode, code, accepted }
    } finally {
      this.underWay--
    }
  }

  /** SIGKILL. What the kernel has of its bytes still arrives, or a part of it. */
  kill(): void {
    if (this.isOver) return
    this.#leave()
    this.gateway.abort()
  }

  /** SIGTERM. @returns milliseconds until it had ended. */
  async stop(): Promise<number> {
    const startMs = performance.now()
    await this.gateway.stop()
    const tookMs = performance.now() - startMs
    this.#leave()
    this.gateway.abort()
    return tookMs
  }

  #leave(): void {
    this.isOver = true
    this.disk.isOver = true
    for (const connection of this.#connections) connection.destroy(new Error('the process is gone'))
    for (const client of this.#redisClients) client.destroy()
    this.#onEnd()
  }
}

/** By name. */
export const lives = new Map<string, Life>()

/** No such folder is ever made. */
const dataRoot = '/model'

/** In the place of the real disk: the one of the life that a path or a file descriptor belongs to. */
export function diskOf(pathOrFd: string | number): ProcessDisk {
  if (typeof pathOrFd === 'string') return lives.get(pathOrFd.split('/')[2]!)!.disk
  for (const life of lives.values()) if (life.disk.has(pathOrFd)) return life.disk
  throw new Error(`nobody has file descriptor ${pathOrFd}`)
}

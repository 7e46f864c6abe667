import { once } from 'node:events'
import net, { type AddressInfo, type Socket } from 'node:net'
import { startKafka, type LocalKafka, type StartKafkaOptions } from '../../../src/local-kafka/local-kafka.ts'
import { freePorts } from '../../support/free-ports.ts'

/**
 * Stands between clients and one broker, which tells them to connect here, and spoils their connections in ways that a
 * network can: request by request, response by response. Unless it is told to, it changes nothing.
 */
export class BrokerProxy {
  readonly port: number
  /** Responses are thrown away, whole. */
  losesResponses = false
  /** Responses come this much later. */
  delayMs = 0
  /** What each connection takes towards the broker; null: whatever comes. */
  bytesPerSecond: number | null = null
  /** Every so often a produce request is let through by half, and its connection ended; null: never. */
  cutsEveryMs: number | null = null
  readonly #server: net.Server
  readonly #brokerPort: number
  readonly #sockets = new Set<Socket>()
  #lastCutAtMs = -Infinity

  private constructor(server: net.Server, brokerPort: number) {
    this.#server = server
    this.#brokerPort = brokerPort
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (client) => this.#join(client))
  }

  /** Listens on a free port. */
  static async start(brokerPort: number): Promise<BrokerProxy> {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new BrokerProxy(server, brokerPort)
  }

  /** Ends everything. */
  stop(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #join(client: Socket): void {
    const broker = net.connect(this.#brokerPort, '127.0.0.1')
    for (const [socket, other] of [
      [client, broker],
      [broker, client],
    ] as const) {
      this.#sockets.add(socket)
      socket.setNoDelay(true)
      socket.once('error', () => other.resetAndDestroy())
      socket.once('end', () => other.end())
      socket.once('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
    const requests = new Frames((frame) => this.#request(frame, client, broker))
    const responses = new Frames((frame) => this.#response(frame, client))
    client.on('data', (chunk: Buffer) => {
      requests.add(chunk)
      this.#throttle(client, chunk.length)
    })
    broker.on('data', (chunk: Buffer) => responses.add(chunk))
  }

  #request(frame: Buffer, client: Socket, broker: Socket): void {
    const nowMs = performance.now()
    const isDue = this.cutsEveryMs !== null && nowMs - this.#lastCutAtMs >= this.cutsEveryMs
    if (!isDue || frame.readInt16BE(4) !== produceKey) {
      broker.write(frame)
      return
    }
    this.#lastCutAtMs = nowMs
    broker.write(frame.subarray(0, frame.length >> 1), () => {
      broker.destroy()
      client.resetAndDestroy()
    })
  }

  #response(frame: Buffer, client: Socket): void {
    if (this.losesResponses) return
    if (this.delayMs === 0) client.write(frame)
    else setTimeout(() => client.write(frame), this.delayMs)
  }

  #throttle(client: Socket, sizeBytes: number): void {
    if (this.bytesPerSecond === null) return
    client.pause()
    setTimeout(() => client.resume(), (sizeBytes / this.bytesPerSecond) * 1000)
  }
}

/** Cuts a stream of bytes into Kafka's frames, which begin with their length. */
class Frames {
  readonly #onFrame: (frame: Buffer) => void
  #chunks: Buffer[] = []
  #sizeBytes = 0
  #wantedBytes = 4

  constructor(onFrame: (frame: Buffer) => void) {
    this.#onFrame = onFrame
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#sizeBytes += chunk.length
    while (this.#sizeBytes >= this.#wantedBytes) {
      const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks)
      const frameBytes = 4 + all.readInt32BE(0)
      this.#wantedBytes = frameBytes
      this.#chunks = [all]
      if (all.length < frameBytes) return
      this.#onFrame(all.subarray(0, frameBytes))
      this.#chunks = [all.subarray(frameBytes)]
      this.#sizeBytes = all.length - frameBytes
      this.#wantedBytes = 4
    }
  }
}

/** A broker that can be reached through a proxy alone. */
export async function startKafkaBehindProxy(
  options: StartKafkaOptions = {},
): Promise<{ kafka: LocalKafka; proxy: BrokerProxy }> {
  const [port] = await freePorts(1)
  const proxy = await BrokerProxy.start(port!)
  const kafka = await startKafka({ ...options, port: port!, advertisedPorts: [proxy.port] })
  return { kafka, proxy }
}

/** `Produce` in Kafka's protocol. */
const produceKey = 0

import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net'

/** A produce request as it was on the wire. */
export interface TappedProduce {
  readonly acks: number
  readonly topic: string
  /** The record batches, a partition each. */
  readonly batches: readonly { readonly partition: number; readonly bytes: Buffer }[]
  readonly atMs: number
}

/**
 * Sits between a gateway and a broker: it sees what is written, can hold back what is answered, and can refuse requests in
 * the broker's name. To be the gateway's only broker, it puts its own port into the metadata that pass.
 *
 * It reads the requests that Chute makes (Produce 7, Metadata up to 10), from Kafka's protocol guide.
 */
export class WireTap {
  readonly produces: TappedProduce[] = []
  readonly #server: Server
  readonly #broker: { host: string; port: number }
  readonly #sockets = new Set<Socket>()
  /** Answers that are held back, or null if none are. */
  #held: (() => void)[] | null = null
  #refusals: number[] = []

  private constructor(broker: string) {
    const [host = '', port = ''] = broker.split(':')
    this.#broker = { host, port: Number(port) }
    this.#server = createServer((client) => this.#join(client))
  }

  /** Listens on a free port. */
  static async start(broker: string): Promise<WireTap> {
    const tap = new WireTap(broker)
    await new Promise<void>((resolve) => tap.#server.listen(0, '127.0.0.1', resolve))
    return tap
  }

  /** `host:port` for the gateway. */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** From now on holds back the answers of the broker. */
  hold(): void {
    this.#held ??= []
  }

  /** Passes on the answers that were held back, in order, and all later ones. */
  release(): void {
    const held = this.#held ?? []
    this.#held = null
    for (const pass of held) pass()
  }

  /** Answers the next produce requests with these errors; the broker does not see them. */
  refuse(...errorCodes: readonly number[]): void {
    this.#refusals.push(...errorCodes)
  }

  /** Ends all connections. */
  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #join(client: Socket): void {
    const broker = connect(this.#broker.port, this.#broker.host)
    /** Versions of the requests for metadata that are not answered, by correlation id. */
    const metadataVersions = new Map<number, number>()
    for (const socket of [client, broker]) {
      this.#sockets.add(socket.setNoDelay(true))
      socket.on('error', () => {})
    }
    client.on('close', () => broker.destroy())
    broker.on('close', () => client.destroy())
    const answer = (frame: Buffer): void => {
      if (this.#held === null) client.write(frame)
      else this.#held.push(() => void client.write(frame))
    }
    const { port } = this.#server.address() as AddressInfo
    onFrames(client, (frame) => {
      const apiKey = frame.readInt16BE(4)
      if (apiKey === apiKeys.metadata) metadataVersions.set(frame.readInt32BE(8), frame.readInt16BE(6))
      const produce = apiKey === apiKeys.produce ? readProduce(frame) : null
      if (produce !== null) this.produces.push(produce)
      const refusal = produce === null ? undefined : this.#refusals.shift()
      if (produce === null || refusal === undefined) broker.write(frame)
      else answer(refusalOf(frame.readInt32BE(8), produce, refusal))
    })
    onFrames(broker, (frame) => {
      const correlationId = frame.readInt32BE(4)
      const version = metadataVersions.get(correlationId)
      metadataVersions.delete(correlationId)
      answer(version === undefined ? frame : withPort(frame, version, port))
    })
  }
}

const apiKeys = { produce: 0, metadata: 3 } as const

function onFrames(socket: Socket, onFrame: (frame: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 4 && rest.length >= 4 + rest.readInt32BE(0)) {
      const size = 4 + rest.readInt32BE(0)
      onFrame(rest.subarray(0, size))
      rest = rest.subarray(size)
    }
  })
}

function readProduce(frame: Buffer): TappedProduce {
  const atMs = performance.now()
  let at = 12
  const text = (): string => {
    const length = Math.max(0, frame.readInt16BE(at))
    at += 2 + length
    return frame.toString('utf8', at - length, at)
  }
  text() // client id
  text() // transactional id
  const acks = frame.readInt16BE(at)
  at += 2 + 4 + 4 // acks, time-out, number of topics: one
  const topic = text()
  const count = frame.readInt32BE(at)
  at += 4
  const batches = Array.from({ length: count }, () => {
    const [partition, size] = [frame.readInt32BE(at), frame.readInt32BE(at + 4)]
    at += 8 + size
    return { partition, bytes: Buffer.from(frame.subarray(at - size, at)) }
  })
  return { acks, topic, batches, atMs }
}

function refusalOf(correlationId: number, { topic, batches }: TappedProduce, errorCode: number): Buffer {
  const name = Buffer.from(topic)
  const head = Buffer.alloc(14)
  head.writeInt32BE(correlationId, 4)
  head.writeInt32BE(1, 8)
  head.writeInt16BE(name.length, 12)
  const count = Buffer.alloc(4)
  count.writeInt32BE(batches.length)
  const results = batches.map(({ partition }) => {
    const result = Buffer.alloc(30, 0xff) // base offset, time and start offset are -1
    result.writeInt32BE(partition, 0)
    result.writeInt16BE(errorCode, 4)
    return result
  })
  const frame = Buffer.concat([head, name, count, ...results, Buffer.alloc(4)])
  frame.writeInt32BE(frame.length - 4, 0)
  return frame
}

/** From this version on, lengths are of variable size, and tagged fields follow (KIP-482). */
const flexibleMetadata = 9

/** The same metadata with `port` as the port of every broker. */
function withPort(frame: Buffer, version: number, port: number): Buffer {
  const patched = Buffer.from(frame)
  const isFlexible = version >= flexibleMetadata
  // Size, correlation id, throttle time; the header of a flexible answer ends in tagged fields, of which there are none.
  let at = isFlexible ? 13 : 12
  const compact = (): number => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = patched[at++]!
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value - 1
    }
  }
  const fixed = (bytes: 2 | 4): number => {
    at += bytes
    return patched.readIntBE(at - bytes, bytes)
  }
  const skipText = (): void => {
    const length = isFlexible ? compact() : fixed(2)
    at += Math.max(0, length)
  }
  const count = isFlexible ? compact() : fixed(4)
  for (let i = 0; i < count; i++) {
    at += 4
    skipText() // host
    patched.writeInt32BE(port, at)
    at += 4
    skipText() // rack
    if (isFlexible) at += 1 // tagged fields: none
  }
  return patched
}

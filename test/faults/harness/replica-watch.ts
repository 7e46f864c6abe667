import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

/**
 * Asks the leader of some partitions, many times a second, where each log ends and how far all in-sync replicas have it, and shares no code
 * with the gateway. So a test knows for how long Kafka itself kept records back, whoever had written them.
 */
export class ReplicaWatch {
  readonly #socket: Socket
  readonly #topic: string
  readonly #stays: ReadonlyMap<number, Stay>
  readonly #answers: ((answer: Buffer) => void)[] = []
  #received = Buffer.alloc(0)
  #stopped = false
  #ended: Promise<void> = Promise.resolve()

  private constructor(socket: Socket, topic: string, partitions: readonly number[]) {
    this.#socket = socket
    this.#topic = topic
    this.#stays = new Map(partitions.map((partition) => [partition, new Stay()]))
    socket.on('data', (chunk: Buffer) => this.#take(chunk))
    // A look that gets no answer is not counted: then the partition shows no stay, and the bar gets stricter.
    socket.on('error', () => {})
  }

  /** Begins to look. @param address `host:port` of the node that leads all of these partitions. */
  static async start(address: string, topic: string, partitions: readonly number[]): Promise<ReplicaWatch> {
    const [host, port] = address.split(':')
    const socket = connect(Number(port), host)
    await once(socket, 'connect')
    const watch = new ReplicaWatch(socket, topic, partitions)
    watch.#ended = watch.#run()
    return watch
  }

  /** Ends looking. @returns by partition, the longest time in milliseconds that the high watermark stood still while the log went on beyond it. */
  async stop(): Promise<Map<number, number>> {
    this.#stopped = true
    this.#socket.destroy()
    for (const answer of this.#answers.splice(0)) answer(Buffer.alloc(0))
    await this.#ended
    return new Map([...this.#stays].map(([partition, stay]) => [partition, Math.round(stay.longestMs)]))
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const askedAtMs = performance.now()
      // The log end is asked for first, so a high watermark below it is below what was written before both answers.
      const [ends, highWatermarks] = await Promise.all([
        this.#offsets(debuggingReplica),
        this.#offsets(consumer),
      ])
      for (const [partition, stay] of this.#stays) {
        const [end, highWatermark] = [ends.get(partition), highWatermarks.get(partition)]
        if (end !== undefined && highWatermark !== undefined) stay.look(askedAtMs, end, highWatermark)
      }
      await pause(lookEveryMs)
    }
  }

  /** ListOffsets, version 1, for the latest offset. Partitions that got an error are left out. */
  async #offsets(replica: number): Promise<Map<number, bigint>> {
    const name = Buffer.from(this.#topic)
    const asked = [...this.#stays.keys()]
    const body = Buffer.concat([
      int32(replica),
      int32(1),
      int16(name.length),
      name,
      int32(asked.length),
      ...asked.flatMap((partition) => [int32(partition), latest]),
    ])
    // API key, version, correlation id, no client id.
    const request = Buffer.concat([int16(2), int16(1), int32(0), int16(-1), body])
    const answered = new Promise<Buffer>((resolve) => this.#answers.push(resolve))
    if (this.#stopped) return new Map()
    this.#socket.write(Buffer.concat([int32(request.length), request]))
    return offsetsOf(await answered, name.length)
  }

  #take(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk])
    while (this.#received.length >= 4) {
      const end = 4 + this.#received.readInt32BE(0)
      if (this.#received.length < end) return
      this.#answers.shift()!(this.#received.subarray(4, end))
      this.#received = this.#received.subarray(end)
    }
  }
}

/** For how long a high watermark stays in one place while records wait for it. */
class Stay {
  longestMs = 0
  #highWatermark = -1n
  #sinceMs: number | null = null

  look(atMs: number, end: bigint, highWatermark: bigint): void {
    if (this.#sinceMs !== null) this.longestMs = Math.max(this.longestMs, atMs - this.#sinceMs)
    if (highWatermark !== this.#highWatermark) this.#sinceMs = null
    this.#highWatermark = highWatermark
    if (end <= highWatermark) this.#sinceMs = null
    else this.#sinceMs ??= atMs
  }
}

/** Behind the correlation id: one topic, its name, and of each partition its number, an error, a time and an offset. */
function offsetsOf(answer: Buffer, nameLength: number): Map<number, bigint> {
  const offsets = new Map<number, bigint>()
  for (let at = 4 + 4 + 2 + nameLength + 4; at + 22 <= answer.length; at += 22)
    if (answer.readInt16BE(at + 4) === 0) offsets.set(answer.readInt32BE(at), answer.readBigInt64BE(at + 14))
  return offsets
}

function int16(number: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(number)
  return bytes
}

function int32(number: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(number)
  return bytes
}

/** `ListOffsetsRequest.LATEST_TIMESTAMP`, -1. */
const latest = Buffer.alloc(8, 0xff)
/** A consumer gets the high watermark. */
const consumer = -1
/** `ListOffsetsRequest.DEBUGGING_REPLICA_ID`: it gets the log end. */
const debuggingReplica = -2
const lookEveryMs = 20

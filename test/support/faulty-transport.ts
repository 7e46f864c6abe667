import type { BrokerConnection, Transport } from '../../src/kafka/network/transport.ts'
import type { WireRequest } from '../../src/kafka/protocol/wire.ts'
import { crc32c } from './record-batch-reader.ts'

/** What is done to one produce request. It has its request and its answer in hand. */
export type ProduceFault =
  /** The broker has appended, and its answer is lost with the connection. */
  | 'lose-answer'
  /** The broker never sees it, and the client is told that it was appended: the next sequence has a gap before it. */
  | 'swallow'
  /** A byte is changed on the way. */
  | 'corrupt'
  /** {@link FaultyTransport.stopBroker} is done before the request goes: its connection is established, and the broker does not answer. */
  | 'stop-broker'
  /** The broker gets it twice, and the second answer counts. */
  | 'repeat'

/** A real transport that spoils the next produce requests, one fault each, in turn. Everything else passes as it is. */
export class FaultyTransport implements Transport {
  readonly #inner: Transport
  /** For the produce requests to come; empty: all is well. */
  readonly faults: ProduceFault[] = []
  /** A debugging replica asks as everybody does, so that it is told the high watermark and not the end of the log. */
  hidesLogEnd = false
  /** What `stop-broker` does. */
  stopBroker: () => Promise<void> = async () => {}
  /** Of the produce requests so far, as the client made them: the same bytes have the same one. */
  readonly checksums: number[] = []
  /** Why produce requests ended without an answer. */
  readonly failures: string[] = []
  /** Answers to InitProducerId. */
  readonly identities: { readonly producerId: bigint; readonly epoch: number }[] = []

  constructor(inner: Transport) {
    this.#inner = inner
  }

  /** @inheritdoc */
  async connect(host: string, port: number, requestTimeoutMs: number): Promise<BrokerConnection> {
    const connection = await this.#inner.connect(host, port, requestTimeoutMs)
    const call = connection.call.bind(connection)
    connection.call = (request, onResponse, onError) => {
      if (request.apiName === 'InitProducerId') {
        call(request, (payload) => this.#identity(payload, onResponse), onError)
      } else if (request.apiName === 'ListOffsets' && this.hidesLogEnd) {
        const body = Buffer.concat(request.chunks)
        body.writeInt32BE(-1, 0)
        call({ ...request, chunks: [body] }, onResponse, onError)
      } else if (request.apiName === 'Produce') {
        this.checksums.push(crc32c(Buffer.concat(request.chunks)))
        const failed = (error: Error): void => {
          this.failures.push(error.message)
          onError(error)
        }
        this.#produce(this.faults.shift() ?? null, connection, call, { request, onResponse, onError: failed })
      } else call(request, onResponse, onError)
    }
    return connection
  }

  #identity(payload: Buffer, onResponse: (payload: Buffer) => void): void {
    this.identities.push({ producerId: payload.readBigInt64BE(6), epoch: payload.readInt16BE(14) })
    onResponse(payload)
  }

  #produce(
    fault: ProduceFault | null,
    connection: BrokerConnection,
    call: BrokerConnection['call'],
    { request, onResponse, onError }: Call,
  ): void {
    switch (fault) {
      case null:
        return call(request, onResponse, onError)
      case 'lose-answer': {
        const lost = new Error('the answer was lost')
        return call(
          request,
          () => {
            connection.destroy(lost)
            onError(lost)
          },
          onError,
        )
      }
      case 'stop-broker':
        return void this.stopBroker().then(() => call(request, onResponse, onError), onError)
      case 'swallow':
        return void setImmediate(() => onResponse(appended(request)))
      case 'corrupt': {
        const chunks = request.chunks.map((chunk) => Buffer.from(chunk))
        const batch = chunks.at(-1)!
        batch[batch.length - 2]! ^= 0xff
        return call({ ...request, chunks }, onResponse, onError)
      }
      case 'repeat':
        return call(request, () => call(request, onResponse, onError), onError)
    }
  }
}

interface Call {
  readonly request: WireRequest
  readonly onResponse: (payload: Buffer) => void
  readonly onError: (error: Error) => void
}

/** The answer of a broker that has appended all batches of a produce request of one topic, version 7. */
function appended({ chunks }: WireRequest): Buffer {
  const head = Buffer.concat(chunks)
  // transactional id, acks, timeout, one topic; then the topic's name
  const nameBytes = head.readInt16BE(12)
  const name = head.subarray(12, 14 + nameBytes)
  const partitions: number[] = []
  let at = 14 + nameBytes
  const count = head.readInt32BE(at)
  at += 4
  for (let i = 0; i < count; i++) {
    partitions.push(head.readInt32BE(at))
    at += 8 + head.readInt32BE(at + 4)
  }
  const answers = partitions.map((partition) => {
    const answer = Buffer.alloc(30)
    answer.writeInt32BE(partition, 0)
    return answer
  })
  const one = Buffer.from([0, 0, 0, 1])
  const length = Buffer.alloc(4)
  length.writeInt32BE(count)
  return Buffer.concat([one, name, length, ...answers, Buffer.alloc(4)])
}

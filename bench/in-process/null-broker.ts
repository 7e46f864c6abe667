import type { BrokerConnection, Transport } from '../../src/kafka/network/transport.ts'
import type { WireRequest } from '../../src/kafka/protocol/wire.ts'
import { ModelCluster } from '../../test/support/model-broker.ts'
import { serve } from '../../test/support/model-requests.ts'
import type { ModelPartition } from '../../test/support/model-topic.ts'

/**
 * A broker that takes acks=0 writes without looking at them, and answers everything else as the tests' model does, in the
 * next turn of the event loop: what is left is the cost of the gateway.
 */
export class NullBroker implements Transport {
  readonly #cluster = new ModelCluster([nodeId])
  readonly #partitions: readonly ModelPartition[]

  /** @param topic its one topic. */
  constructor(topic: string, partitionCount: number) {
    this.#partitions = this.#cluster.createTopic(topic, partitionCount).partitions
  }

  /** @inheritdoc */
  async connect(): Promise<BrokerConnection> {
    return await Promise.resolve({
      isOpen: true,
      pendingBytes: 0,
      askForRoom: () => true,
      isShared: false,
      renewAtMs: Infinity,
      lacks: () => null,
      send: (_request: WireRequest, onFlushed: () => void) => process.nextTick(onFlushed),
      call: (request: WireRequest, onResponse: (payload: Buffer) => void) => {
        setImmediate(() => onResponse(this.#answer(request)))
      },
      throttle: () => {},
      onClose: () => {},
      onDrain: () => {},
      destroy: () => {},
    })
  }

  #answer({ apiKey, apiVersion, chunks }: WireRequest): Buffer {
    // What was written is not looked at: its log ends further on at each look than that could be.
    if (apiKey === listOffsets) for (const partition of this.#partitions) partition.skip(100_000)
    const { response } = serve(this.#cluster, nodeId, { apiKey, apiVersion, body: Buffer.concat(chunks) })
    if (response === null) throw new Error('a request that is not answered was made with call')
    return response
  }
}

const nodeId = 1
/** Its number in Kafka's protocol. */
const listOffsets = 2

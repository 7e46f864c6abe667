/**
 * Types of the internal parts of kafkajs 2.2.4 that Chute uses. Only `kafkajs-transport.ts`, `kafkajs-idle-timer.ts`, `kafkajs-out-of-range.ts`,
 * `kafkajs-beginning.ts` and `kafkajs-empty-batches.ts` import these parts. They are not kafkajs's public interface. So the version is pinned exactly, and
 * the contract tests of the transport, `consume-out-of-range.test.ts`, `consume-new-partitions.test.ts` and `read-compacted.test.ts` check these parts.
 */
declare module 'kafkajs/src/network/connectionPool.js' {
  import type { Socket } from 'node:net'

  export interface InternalLogger {
    namespace(name: string): InternalLogger
    debug(message: string, extra?: object): void
    info(message: string, extra?: object): void
    warn(message: string, extra?: object): void
    error(message: string, extra?: object): void
  }

  export interface RequestQueue {
    readonly pending: readonly unknown[]
    /** By `Date.now()`. */
    readonly throttledUntil: number
    scheduleCheckPendingRequests(): void
    destroy(): void
  }

  export interface Connection {
    readonly clientId: string
    readonly socket: Socket
    readonly sasl: object | null
    readonly requestQueue: RequestQueue
    connectionStatus: 'connected' | 'disconnecting' | 'disconnected'
    /** Takes what the socket has read. */
    processData(data: Buffer): void
    nextCorrelationId(): number
    /** Milliseconds (a Long), as the broker told them (KIP-368); 0: the session has no end. */
    readonly sessionLifetime: { toString(): string }
  }

  export default class ConnectionPool {
    constructor(options: {
      host: string
      port: number
      ssl: object | null
      sasl: object | null
      clientId: string
      logger: InternalLogger
      socketFactory: (options: {
        host: string
        port: number
        ssl: object | null
        onConnect: () => void
      }) => Socket
      connectionTimeout: number
      requestTimeout: number
      enforceRequestTimeout: boolean
      maxInFlightRequests: number | null
      reauthenticationThreshold: number
    })
    readonly pool: readonly Connection[]
  }
}

declare module 'kafkajs/src/broker/index.js' {
  import type ConnectionPool from 'kafkajs/src/network/connectionPool.js'
  import type { InternalLogger } from 'kafkajs/src/network/connectionPool.js'

  export default class Broker {
    constructor(options: {
      connectionPool: ConnectionPool
      logger: InternalLogger
      authenticationTimeout: number
      allowAutoTopicCreation: boolean
    })
    connect(): Promise<void>
    /** By API key; null before {@link connect}. */
    readonly versions: Readonly<
      Record<string, { readonly minVersion: number; readonly maxVersion: number }>
    > | null
  }
}

declare module 'kafkajs/src/network/requestQueue/index.js' {
  import type { RequestQueue as Queue } from 'kafkajs/src/network/connectionPool.js'

  const RequestQueue: { readonly prototype: { scheduleCheckPendingRequests: (this: Queue) => void } }
  export default RequestQueue
}

declare module 'kafkajs/src/consumer/offsetManager/index.js' {
  interface TopicPartition {
    readonly topic: string
    readonly partition: number
  }

  interface TopicOffsets {
    readonly partitions: readonly { readonly partition: number; readonly offset: string }[]
  }

  /** The offsets of a member of a group, from one rebalance to the next. */
  interface Manager {
    readonly groupId: string
    readonly memberId: string
    /** By topic. */
    readonly memberAssignment: Readonly<Record<string, readonly number[]>>
    readonly cluster: {
      findTopicPartitionMetadata(topic: string): readonly { readonly partitionId: number }[]
      fetchTopicsOffset(
        topics: { topic: string; partitions: { partition: number }[]; fromBeginning: boolean }[],
      ): Promise<TopicOffsets[]>
    }
    getCoordinator(): Promise<{
      offsetFetch(of: {
        groupId: string
        topics: { topic: string; partitions: { partition: number }[] }[]
      }): Promise<{ readonly responses: readonly TopicOffsets[] }>
    }>
    /** By topic and partition: what the group has committed, as the coordinator told it in this assignment. */
    committedOffsets(): Readonly<Record<string, Readonly<Record<number, string>>>>
    /** From where the member fetches next (a Long). */
    nextOffset(topic: string, partition: number): { toString(): string }
    commitOffsets(offsets: {
      topics: { topic: string; partitions: { partition: number; offset: string }[] }[]
    }): Promise<void>
    /** The member asks the group's coordinator from where to fetch. */
    clearOffsets(of: TopicPartition): void
  }

  const OffsetManager: {
    readonly prototype: {
      setDefaultOffset: (this: Manager, of: TopicPartition) => Promise<void>
      /** Runs before each fetch. Asks the coordinator for the offsets of the member's partitions that it does not know. */
      resolveOffsets: (this: Manager) => Promise<void>
    }
  }
  export default OffsetManager
}

declare module 'kafkajs/src/protocol/requests/fetch/v11/response.js' {
  export interface FetchedPartition {
    readonly messages: {
      readonly offset: string
      readonly isControlRecord: boolean
      readonly key: Buffer | null
      readonly batchContext: { readonly inTransaction: boolean; readonly producerId: string }
    }[]
  }

  const response: {
    decode: (
      payload: Buffer,
    ) => Promise<{ readonly responses: readonly { readonly partitions: readonly FetchedPartition[] }[] }>
  }
  export default response
}

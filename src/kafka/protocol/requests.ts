import { copiedBelowBytes, WireReader, WireWriter, type Joinable, type WireRequest } from './wire.ts'

/**
 * The requests that Chute makes itself, each an `encode…` and its `decode…` (https://kafka.apache.org/protocol#protocol_messages).
 * The versions are the newest non-flexible ones that Kafka 2.3 to 4.4 serve (KIP-896 removed older ones).
 */

/** The requests that Chute makes itself, and the version of each. A request is not sent to a broker that does not serve its version. */
export const requestVersions = {
  Produce: { apiKey: 0, apiVersion: 7 },
  ListOffsets: { apiKey: 2, apiVersion: 4 },
  Metadata: { apiKey: 3, apiVersion: 8 },
  /** Metadata with the topics' ids (KIP-516). It is used instead of `Metadata` if a broker serves it. Kafka does since 2.8. */
  TopicIds: { apiKey: 3, apiVersion: 10 },
  InitProducerId: { apiKey: 22, apiVersion: 1 },
  /** OffsetForLeaderEpoch. Asked by consumers alone. */
  EpochEnd: { apiKey: 23, apiVersion: 3 },
  DescribeConfigs: { apiKey: 32, apiVersion: 1 },
  /** Asked by `chute doctor` alone. */
  DescribeQuorum: { apiKey: 55, apiVersion: 1 },
} as const

/** See {@link requestVersions}. */
export type RequestName = keyof typeof requestVersions

/** The versions of each request that a broker serves, by API key, as its answer to ApiVersions has them (KIP-35). */
export type ServedVersions = ReadonlyMap<number, { readonly min: number; readonly max: number }>

/**
 * The needed requests that a broker does not serve, in words for an operator, such as `host:9093 serves ListOffsets 0 to 2, Chute needs 4`.
 * null: the broker serves all of them.
 */
export function lackingOf(
  address: string,
  served: ServedVersions,
  needed: readonly RequestName[],
): string | null {
  const lacking: string[] = []
  for (const name of needed) {
    const { apiKey, apiVersion } = requestVersions[name]
    const range = served.get(apiKey)
    if (range === undefined) lacking.push(`${address} does not serve ${name}, Chute needs ${apiVersion}`)
    else if (apiVersion < range.min || apiVersion > range.max)
      lacking.push(`${address} serves ${name} ${range.min} to ${range.max}, Chute needs ${apiVersion}`)
  }
  return lacking.length === 0 ? null : lacking.join('; ')
}

/** A broker was reached, and does not serve all needed requests. */
export class UnservedError extends Error {}

function requestOf(apiName: RequestName, chunks: readonly Buffer[], joinable?: Joinable): WireRequest {
  const { apiKey, apiVersion } = requestVersions[apiName]
  return { apiKey, apiVersion, apiName, chunks, joinable }
}

/**
 * Makes one request of requests that are joinable, of one API and with the same head. No two of them may have the same topic: a broker takes
 * only the last batch of a partition that is in a produce request twice.
 */
export function joinTopics(requests: readonly WireRequest[]): WireRequest {
  const first = requests[0]!
  if (requests.length === 1) return first
  const { headBytes } = first.joinable!
  const head = Buffer.from(first.chunks[0]!.subarray(0, headBytes))
  head.writeInt32BE(requests.length, headBytes - 4)
  const chunks: Buffer[] = [head]
  for (const { chunks: own } of requests) {
    chunks.push(own[0]!.subarray(headBytes))
    for (let i = 1; i < own.length; i++) chunks.push(own[i]!)
  }
  const { apiKey, apiVersion, apiName } = first
  return { apiKey, apiVersion, apiName, chunks }
}

/**
 * The parts of an answer to {@link joinTopics}, by topic: each as the broker would have answered the request about that topic alone.
 * @throws RangeError if the bytes end too early.
 */
export function splitTopics(apiName: string, payload: Buffer): Map<string, Buffer> {
  const { headBytes, partitionBytes, tailBytes } = apiName === 'Produce' ? produceAnswer : listOffsetsAnswer
  const start = headBytes + 4
  const end = payload.length - tailBytes
  const parts = new Map<string, Buffer>()
  let at = start
  for (let left = payload.readInt32BE(headBytes); left > 0; left--) {
    const nameAt = at + 2
    const nameEnd = nameAt + payload.readInt16BE(at)
    const partEnd = nameEnd + 4 + payload.readInt32BE(nameEnd) * partitionBytes
    // A negative length or number would lead back, and the loop would go on for minutes.
    if (nameEnd < nameAt || partEnd < nameEnd + 4 || partEnd > end)
      throw new RangeError('the response ends too early')
    const part = Buffer.allocUnsafe(start + (partEnd - at) + tailBytes)
    if (headBytes > 0) part.writeInt32BE(payload.readInt32BE(0), 0)
    part.writeInt32BE(1, headBytes)
    payload.copy(part, start, at, partEnd)
    if (tailBytes > 0) part.writeInt32BE(payload.readInt32BE(end), start + (partEnd - at))
    parts.set(payload.toString('utf8', nameAt, nameEnd), part)
    at = partEnd
  }
  return parts
}

/** The parts of fixed size. The pause that the broker asks for, 4 bytes, comes last in the answer to a produce request. */
const produceAnswer = { headBytes: 0, partitionBytes: 30, tailBytes: 4 }
/** The pause comes first in the answer to ListOffsets. */
const listOffsetsAnswer = { headBytes: 4, partitionBytes: 26, tailBytes: 0 }

/**
 * A produce request without a record. It stores nothing. A broker answers with TOPIC_AUTHORIZATION_FAILED if the credentials may not write
 * to the topic, and with another error (INVALID_RECORD) if they may (`KafkaApis.handleProduceRequest`).
 */
export function encodeEmptyProduce(topic: string, partition: number): WireRequest {
  const writer = new WireWriter()
  writer.string(null).int16(1).int32(emptyProduceTimeoutMs).int32(1).string(topic).int32(1)
  writer.int32(partition).int32(0)
  return requestOf('Produce', [writer.take()])
}

/** The answer of a broker for one partition of a produce request. */
export interface ProduceResult {
  readonly partition: number
  readonly errorCode: number
  /** -1 with an error. */
  readonly baseOffset: bigint
}

/** The batch of one partition in a produce request. */
export interface PartitionBatch {
  readonly partition: number
  /** Size of the bytes that {@link seal} returns. */
  readonly sizeBytes: number
  /** Writes length and checksum into the batch. @returns the bytes of the batch. */
  seal(): Buffer
}

/**
 * Produce, version 7. It has at most one batch a partition, as record format 2 demands. This seals the batches. Small batches are copied, so
 * that many of them are one chunk.
 */
export function encodeProduce(
  topic: string,
  acks: 0 | 1 | -1,
  timeoutMs: number,
  batches: readonly PartitionBatch[],
): WireRequest {
  let writtenBytes = 2 + 2 + 4 + 4 + 2 + Buffer.byteLength(topic) + 4
  for (const { sizeBytes } of batches) writtenBytes += 8 + (sizeBytes < copiedBelowBytes ? sizeBytes : 0)
  const writer = new WireWriter(writtenBytes)
  writer.string(null).int16(acks).int32(timeoutMs).int32(1).string(topic).int32(batches.length)
  const chunks: Buffer[] = []
  for (const batch of batches) {
    const bytes = batch.seal()
    writer.int32(batch.partition).int32(bytes.length)
    if (bytes.length < copiedBelowBytes) writer.bytes(bytes)
    else chunks.push(writer.take(), bytes)
  }
  const rest = writer.take()
  if (rest.length > 0) chunks.push(rest)
  return requestOf('Produce', chunks, { topic, headBytes: 12, headKey: timeoutMs * 4 + acks })
}

/** The answer to a produce request of one topic, and the pause that the broker asks for (KIP-219). */
export function decodeProduce(payload: Buffer): { results: ProduceResult[]; throttleTimeMs: number } {
  const reader = new WireReader(payload)
  const results: ProduceResult[] = []
  for (let topics = reader.int32(); topics > 0; topics--) {
    reader.skipString()
    for (let partitions = reader.int32(); partitions > 0; partitions--) {
      results.push({ partition: reader.int32(), errorCode: reader.int16(), baseOffset: reader.int64() })
      reader.skip(8 + 8) // log append time, log start offset
    }
  }
  return { results, throttleTimeMs: reader.int32() }
}

/** How far a partition's log goes, or an error. */
export interface PartitionOffset {
  readonly partition: number
  readonly errorCode: number
  /** -1 with an error. */
  readonly offset: bigint
  /** Grows with each change of the leader. -1 with an error, or if the broker does not tell it. */
  readonly leaderEpoch: number
}

/**
 * ListOffsets, version 4.
 * @param end `high_watermark`: how far all in-sync replicas have the log. Consumers see the log up to there. Only the leader answers it
 * without an error, and only if the partition is online. `log_end`: how far this broker itself has the log. A broker tells it to a client
 * that asks as a debugging replica (`ListOffsetsRequest.DEBUGGING_REPLICA_ID`), even if the broker is a follower.
 */
export function encodeListOffsets(
  topic: string,
  partitions: readonly number[],
  end: 'high_watermark' | 'log_end',
): WireRequest {
  const writer = new WireWriter(4 + 1 + 4 + 2 + Buffer.byteLength(topic) + 4 + 16 * partitions.length)
  writer.int32(end === 'log_end' ? -2 : -1)
  writer.int8(0).int32(1).string(topic).int32(partitions.length)
  // The first -1 allows any leader epoch. The second -1 asks for the end of the log, and not for a time.
  for (const partition of partitions) writer.int32(partition).int32(-1).int64(-1n)
  const headKey = end === 'log_end' ? -2 : -1
  return requestOf('ListOffsets', [writer.take()], { topic, headBytes: 9, headKey })
}

/** The answer to {@link encodeListOffsets}. */
export function decodeListOffsets(payload: Buffer): PartitionOffset[] {
  const reader = new WireReader(payload)
  reader.skip(4) // throttle time
  const offsets: PartitionOffset[] = []
  for (let topics = reader.int32(); topics > 0; topics--) {
    reader.skipString()
    for (let partitions = reader.int32(); partitions > 0; partitions--) {
      const partition = reader.int32()
      const errorCode = reader.int16()
      reader.skip(8) // timestamp
      offsets.push({ partition, errorCode, offset: reader.int64(), leaderEpoch: reader.int32() })
    }
  }
  return offsets
}

/** Asks the leader of a partition where the records of an older leader, or of the present one, end in the log (KIP-320). */
export function encodeEpochEnd(of: { topic: string; partition: number; leaderEpoch: number }): WireRequest {
  const { topic, partition, leaderEpoch } = of
  // The first -1 is a consumer's. The second -1 allows any epoch of the present leader.
  const writer = new WireWriter().int32(-1).int32(1).string(topic).int32(1)
  return requestOf('EpochEnd', [writer.int32(partition).int32(-1).int32(leaderEpoch).take()])
}

/** The answer to {@link encodeEpochEnd}. `endOffset`: -1 with an error, or if the leader does not know it. */
export function decodeEpochEnd(payload: Buffer): { errorCode: number; endOffset: bigint } {
  const reader = new WireReader(payload)
  reader.skip(4 + 4) // throttle time, number of topics
  reader.skipString()
  reader.skip(4) // number of partitions
  const errorCode = reader.int16()
  reader.skip(4 + 4) // partition, the epoch that ends there
  return { errorCode, endOffset: reader.int64() }
}

/** The cluster as one broker sees it. */
export interface ClusterView {
  /** The cluster's id, which it got when its storage was formatted; empty if the broker does not tell it. */
  readonly clusterId: string
  readonly brokers: readonly { readonly nodeId: number; readonly host: string; readonly port: number }[]
  readonly topics: readonly {
    readonly name: string
    /** The topic's id. Another topic of the same name has another id. null: the broker does not tell it. */
    readonly id: string | null
    readonly errorCode: number
    /** The credentials may WRITE to the topic (KIP-430); null: the broker does not tell. */
    readonly mayWrite: boolean | null
    /** `leader` is -1 while there is none. `replicas` is their number. */
    readonly partitions: readonly {
      readonly partition: number
      readonly leader: number
      readonly replicas: number
    }[]
  }[]
}

/** Metadata, version 8, of the given topics, with the rights of the credentials (KIP-430). It never creates a topic. */
export function encodeMetadata(topics: readonly string[]): WireRequest {
  const writer = new WireWriter()
  writer.int32(topics.length)
  for (const topic of topics) writer.string(topic)
  // Creates no topic, does not ask for rights on the cluster, and asks for rights on the topics.
  writer.int8(0).int8(0).int8(1)
  return requestOf('Metadata', [writer.take()])
}

/** The answer to {@link encodeMetadata}. */
export function decodeMetadata(payload: Buffer): ClusterView {
  const reader = new WireReader(payload)
  reader.int32() // throttle time
  const brokers = reader.array(() => {
    const broker = { nodeId: reader.int32(), host: reader.string() ?? '', port: reader.int32() }
    reader.string() // rack
    return broker
  })
  const clusterId = reader.string() ?? ''
  reader.int32() // controller id
  const topics = reader.array(() => {
    const errorCode = reader.int16()
    const name = reader.string() ?? ''
    reader.int8() // is internal
    const partitions = reader.array(() => {
      reader.int16() // error code; if there is one, the leader is -1
      const partition = reader.int32()
      const leader = reader.int32()
      reader.int32() // leader epoch
      const replicas = reader.array(() => reader.int32()).length
      for (let i = 0; i < 2; i++) reader.array(() => reader.int32()) // in sync, offline
      return { partition, leader, replicas }
    })
    return { name, id: null, errorCode, partitions, mayWrite: mayWrite(reader.int32()) }
  })
  reader.int32() // rights on the cluster, which were not asked for
  return { clusterId, brokers, topics }
}

/** Metadata, version 10, of the given topics, as {@link encodeMetadata}. */
export function encodeTopicIds(topics: readonly string[]): WireRequest {
  const writer = new WireWriter()
  // The empty tagged fields of the request's header, which has no other field that is new in flexible versions.
  writer.int8(0).uvarint(topics.length + 1)
  for (const topic of topics) writer.int64(0n).int64(0n).compactString(topic).int8(0)
  // Creates no topic, does not ask for rights on the cluster, and asks for rights on the topics. Then there are no tagged fields.
  writer.int8(0).int8(0).int8(1).int8(0)
  return requestOf('TopicIds', [writer.take()])
}

/** The answer to {@link encodeTopicIds}. */
export function decodeTopicIds(payload: Buffer): ClusterView {
  const reader = new WireReader(payload)
  reader.tags() // of the header
  reader.int32() // throttle time
  const brokers = reader.compactArray(() => {
    const broker = { nodeId: reader.int32(), host: reader.compactString() ?? '', port: reader.int32() }
    reader.compactString() // rack
    reader.tags()
    return broker
  })
  const clusterId = reader.compactString() ?? ''
  reader.int32() // controller id
  const topics = reader.compactArray(() => {
    const errorCode = reader.int16()
    const name = reader.compactString() ?? ''
    const id = reader.uuid()
    reader.int8() // is internal
    const partitions = reader.compactArray(() => {
      reader.int16() // error code; if there is one, the leader is -1
      const partition = reader.int32()
      const leader = reader.int32()
      reader.int32() // leader epoch
      const replicas = reader.compactArray(() => reader.int32()).length
      for (let i = 0; i < 2; i++) reader.compactArray(() => reader.int32()) // in sync, offline
      reader.tags()
      return { partition, leader, replicas }
    })
    const isPermitted = mayWrite(reader.int32())
    reader.tags()
    return { name, id: /^0+$/.test(id) ? null : id, errorCode, partitions, mayWrite: isPermitted }
  })
  reader.int32() // rights on the cluster, which were not asked for
  return { clusterId, brokers, topics }
}

/** The settings of a topic that decide which records it takes. */
export interface TopicSettings {
  /** `max.message.bytes`; null: the broker did not tell it. */
  readonly maxMessageBytes: number | null
  /** `cleanup.policy` has `compact` in it, so that a record needs a key; null: the broker did not tell it. */
  readonly isCompacted: boolean | null
}

/** DescribeConfigs, version 1: {@link TopicSettings} of the given topics. */
export function encodeDescribeTopics(topics: readonly string[]): WireRequest {
  const writer = new WireWriter()
  writer.int32(topics.length)
  for (const topic of topics)
    writer.int8(2).string(topic).int32(2).string('max.message.bytes').string('cleanup.policy')
  writer.int8(0)
  return requestOf('DescribeConfigs', [writer.take()])
}

/** The answer to {@link encodeDescribeTopics}, by topic. A topic whose settings may not be read is missing. */
export function decodeDescribeTopics(payload: Buffer): Map<string, TopicSettings> {
  const reader = new WireReader(payload)
  const settings = new Map<string, TopicSettings>()
  reader.int32() // throttle time
  reader.array(() => {
    const errorCode = reader.int16()
    reader.string() // error message
    reader.int8() // resource type
    const topic = reader.string() ?? ''
    const values = new Map<string, string | null>()
    reader.array(() => {
      values.set(reader.string() ?? '', reader.string())
      reader.int8() // read only
      reader.int8() // source
      reader.int8() // sensitive
      reader.array(() => {
        reader.string()
        reader.string()
        reader.int8()
      })
    })
    if (errorCode !== 0) return
    const maxMessageBytes = wholeNumber(values.get('max.message.bytes'))
    settings.set(topic, { maxMessageBytes, isCompacted: hasCompaction(values.get('cleanup.policy')) })
  })
  return settings
}

/** Reads a setting that is a number of bytes. null, and not 0, if the setting is missing, empty or not a number. */
function wholeNumber(value: string | null | undefined): number | null {
  if (value === null || value === undefined || !/^\d+$/.test(value.trim())) return null
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : null
}

/** Whether `cleanup.policy`, which is a list (`compact`, `delete`, or both), has `compact`. null: the list is missing or empty. */
function hasCompaction(value: string | null | undefined): boolean | null {
  const policies = value?.split(',').map((policy) => policy.trim().toLowerCase()) ?? []
  return policies.every((policy) => policy === '') ? null : policies.includes('compact')
}

/** The identity of an idempotent producer (KIP-98). */
export interface ProducerIdentity {
  readonly errorCode: number
  readonly producerId: bigint
  readonly epoch: number
}

/** InitProducerId, version 1, without a transaction. Any broker answers it. */
export function encodeInitProducerId(): WireRequest {
  const body = new WireWriter().string(null).int32(60_000).take()
  return requestOf('InitProducerId', [body])
}

/** The answer to {@link encodeInitProducerId}. */
export function decodeInitProducerId(payload: Buffer): ProducerIdentity {
  const reader = new WireReader(payload)
  reader.int32() // throttle time
  return { errorCode: reader.int16(), producerId: reader.int64(), epoch: reader.int16() }
}

/** DescribeQuorum, version 1, of the cluster's own metadata (KIP-595, KIP-836). Brokers that keep their metadata in ZooKeeper do not serve it. */
export function encodeDescribeQuorum(): WireRequest {
  const writer = new WireWriter()
  // The empty tagged fields of the request's header. Then one topic, with its partition 0, and empty tagged fields behind each part.
  writer.int8(0).uvarint(2).compactString('__cluster_metadata').uvarint(2).int32(0).int8(0).int8(0).int8(0)
  return requestOf('DescribeQuorum', [writer.take()])
}

/** The answer to {@link encodeDescribeQuorum}: the clock of the active controller. `LastCaughtUpTimestamp` of the leader is its current time. */
export interface ControllerClock {
  readonly errorCode: number
  /** The node id of the controller. */
  readonly nodeId: number
  /** Milliseconds since 1970; null with an error, and if the controller does not tell it. */
  readonly nowMs: number | null
}

/** See {@link ControllerClock}. */
export function decodeDescribeQuorum(payload: Buffer): ControllerClock {
  const reader = new WireReader(payload)
  reader.tags() // of the header
  const errorCode = reader.int16()
  const [partition] = reader
    .compactArray(() => {
      reader.compactString()
      const partitions = reader.compactArray(() => {
        reader.int32() // partition
        const partitionError = reader.int16()
        const leader = reader.int32()
        reader.int32() // leader epoch
        reader.int64() // high watermark
        const voters = readReplicas(reader)
        readReplicas(reader) // observers
        reader.tags()
        const nowMs = voters.find(({ nodeId }) => nodeId === leader)?.caughtUpMs ?? -1
        return { errorCode: partitionError, nodeId: leader, nowMs: nowMs > 0 ? nowMs : null }
      })
      reader.tags()
      return partitions
    })
    .flat()
  if (errorCode !== 0 || partition === undefined) return { errorCode, nodeId: -1, nowMs: null }
  return partition
}

/** Voters or observers of {@link decodeDescribeQuorum}. */
function readReplicas(reader: WireReader): { nodeId: number; caughtUpMs: number }[] {
  return reader.compactArray(() => {
    const nodeId = reader.int32()
    reader.int64() // log end offset
    reader.int64() // last fetch
    const caughtUpMs = Number(reader.int64())
    reader.tags()
    return { nodeId, caughtUpMs }
  })
}

/** Whether authorized operations have WRITE; null: the broker did not tell them. Each has one bit, by its code (`AclOperation`). */
function mayWrite(operations: number): boolean | null {
  return operations === operationsNotTold ? null : (operations & (1 << writeOperation)) !== 0
}

/** `AclOperation.WRITE`. */
const writeOperation = 4
/** `MetadataResponse.AUTHORIZED_OPERATIONS_OMITTED`. */
const operationsNotTold = -(2 ** 31)
const emptyProduceTimeoutMs = 1_000

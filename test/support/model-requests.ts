import type { ReceivedRequest, Served } from './model-connection.ts'
import type { ModelPartition, ModelTopic } from './model-topic.ts'
import { ModelReader, ModelWriter } from './model-wire.ts'
import { readBatch } from './record-batch-reader.ts'

/** A request as the model cluster remembers it: one for each of its topics. */
export interface ServedRequest {
  readonly api: 'Produce' | 'EmptyProduce' | 'ListOffsets' | 'Metadata' | 'DescribeConfigs' | 'InitProducerId'
  /** The same for all topics of one request. */
  readonly request: number
  readonly nodeId: number
  readonly atMs: number
  readonly topic: string | null
  readonly partitions: readonly number[]
  /** Of a produce, else null. */
  readonly acks: number | null
  /** Error codes by partition, as in {@link partitions}. */
  readonly errorCodes: readonly number[]
  /** Of a produce: how many records each batch has. */
  readonly recordCounts: readonly number[]
  /** Of a ListOffsets: which end of the log was asked for, else null. */
  readonly end: 'log_end' | 'high_watermark' | null
}

/** The cluster whose state the answers come from: `ModelCluster` in `model-broker.ts`. */
export interface ServingCluster {
  readonly clusterId: string
  readonly nodes: ReadonlyMap<
    number,
    { readonly nodeId: number; readonly host: string; readonly isRegistered: boolean }
  >
  readonly topics: ReadonlyMap<string, ModelTopic>
  readonly requests: ServedRequest[]
  readonly replicationMs: number
  readonly tellsLogEnd: boolean
  readonly tellsRights: boolean
  readonly throttleTimeMs: number
  readonly givesProducerIds: boolean
  newProducerId(): bigint
}

/** Serves one request of those that Chute makes. Throws for any other request, and if the request's bytes are wrong. */
export function serve(cluster: ServingCluster, nodeId: number, request: ReceivedRequest): Served {
  const reader = new ModelReader(request.body)
  switch (`${request.apiKey}/${request.apiVersion}`) {
    case '0/7':
      return produce(cluster, nodeId, reader)
    case '2/4':
      return answer(listOffsets(cluster, nodeId, reader))
    case '3/8':
      return answer(metadata(cluster, nodeId, reader))
    case '3/10':
      return answer(topicIds(cluster, nodeId, reader))
    case '32/1':
      return answer(describeConfigs(cluster, nodeId, reader))
    case '22/1':
      return answer(initProducerId(cluster, nodeId, reader))
    default:
      throw new Error(`the model knows no request ${request.apiKey} at version ${request.apiVersion}`)
  }
}

function answer(response: Buffer): Served {
  return { response, closes: false }
}

function produce(cluster: ServingCluster, nodeId: number, reader: ModelReader): Served {
  if (reader.string() !== null) throw new Error('a transaction')
  const acks = reader.int16()
  const timeoutMs = reader.int32()
  const topics = reader.array(() => ({
    name: reader.string()!,
    batches: reader.array(() => ({ partition: reader.int32(), bytes: reader.bytes() })),
  }))
  reader.end()
  const { name: firstName, batches: first } = topics[0]!
  if (first.some(({ bytes }) => bytes.length === 0))
    return emptyProduce(cluster, nodeId, firstName, first[0]!.partition)
  refuseRepeated(topics.map(({ name }) => name))
  const request = cluster.requests.length
  let afterMs = 0
  const answers = topics.map(({ name, batches: sent }) => {
    const replicasMs = acks === -1 ? (cluster.topics.get(name)?.replicasMs ?? 0) : 0
    const isTooSlow = replicasMs > timeoutMs
    afterMs = Math.max(afterMs, Math.min(replicasMs, timeoutMs))
    const batches = sent.map(({ partition, bytes }) => ({ partition, batch: readBatch(bytes) }))
    const results = batches.map(({ partition, batch }) => {
      const found = writableHere(cluster, nodeId, name, partition)
      const result = found.partition?.append(batch, found.topic!.maxMessageBytes, acks)
      // The leader has the batch all the same.
      if (isTooSlow && result?.errorCode === 0) return { partition, errorCode: 7, baseOffset: -1 }
      return { partition, ...(result ?? { errorCode: found.errorCode, baseOffset: -1 }) }
    })
    remember(cluster, nodeId, 'Produce', {
      request,
      topic: name,
      partitions: batches.map(({ partition }) => partition),
      acks,
      errorCodes: results.map(({ errorCode }) => errorCode),
      recordCounts: batches.map(({ batch }) => batch.recordCount),
    })
    return { name, results }
  })
  // There is no other way to tell the client of an error.
  if (acks === 0) {
    const closes = answers.some(({ results }) => results.some(({ errorCode }) => errorCode !== 0))
    return { response: null, closes }
  }
  const writer = new ModelWriter()
  writer.array(answers, ({ name, results }) => {
    writer.string(name)
    writer.array(results, ({ partition, errorCode, baseOffset }) => {
      writer.int32(partition).int16(errorCode).int64(baseOffset).int64(-1).int64(0)
    })
  })
  return { ...answer(writer.int32(cluster.throttleTimeMs).done()), afterMs }
}

/** A broker takes only one of them, in silence, and loses the records of the others. */
function refuseRepeated(names: readonly string[]): void {
  if (new Set(names).size < names.length) throw new Error(`a topic is there twice: ${names.join(', ')}`)
}

/** Whether it is permitted is looked at first; then that there is nothing in it (`ProduceRequest.validateRecords`). */
function emptyProduce(cluster: ServingCluster, nodeId: number, name: string, partition: number): Served {
  const { errorCode } = writableHere(cluster, nodeId, name, partition)
  const told = errorCode === 29 || errorCode === 3 ? errorCode : 87
  remember(cluster, nodeId, 'EmptyProduce', { topic: name, partitions: [partition], errorCodes: [told] })
  const writer = new ModelWriter().int32(1).string(name).int32(1)
  writer.int32(partition).int16(told).int64(-1).int64(-1).int64(-1)
  return answer(writer.int32(0).done())
}

function listOffsets(cluster: ServingCluster, nodeId: number, reader: ModelReader): Buffer {
  const replicaId = reader.int32()
  if (replicaId !== -1 && replicaId !== -2) throw new Error('a replica')
  const end = replicaId === -2 ? 'log_end' : 'high_watermark'
  reader.int8() // isolation level
  const topics = reader.array(() => ({
    name: reader.string()!,
    partitions: reader.array(() => {
      const partition = reader.int32()
      if (reader.int32() !== -1) throw new Error('an epoch')
      if (reader.int64() !== -1n) throw new Error('not the end')
      return partition
    }),
  }))
  reader.end()
  refuseRepeated(topics.map(({ name }) => name))
  const request = cluster.requests.length
  const writer = new ModelWriter().int32(0)
  writer.array(topics, ({ name, partitions }) => {
    writer.string(name)
    const errorCodes: number[] = []
    writer.array(partitions, (partition) => {
      const found = logEnd(cluster, nodeId, name, partition, end)
      errorCodes.push(found.errorCode)
      writer.int32(partition).int16(found.errorCode).int64(-1).int64(found.offset).int32(found.leaderEpoch)
    })
    remember(cluster, nodeId, 'ListOffsets', { request, topic: name, partitions, errorCodes, end })
  })
  return writer.done()
}

/** `Partition.fetchOffsetForTimestamp`: followers, too, tell a debugging replica where their log ends. */
function logEnd(
  cluster: ServingCluster,
  nodeId: number,
  name: string,
  index: number,
  end: 'log_end' | 'high_watermark',
): { errorCode: number; offset: number; leaderEpoch: number } {
  const { errorCode, partition } = leaderHere(cluster, nodeId, name, index)
  const follows = end === 'log_end' && errorCode === 6 && cluster.tellsLogEnd
  const replica = follows ? cluster.topics.get(name)!.partitions[index]! : partition
  if (replica === null) return { errorCode, offset: -1, leaderEpoch: -1 }
  const { leaderEpoch, log } = replica
  const tellsLogEnd = end === 'log_end' && cluster.tellsLogEnd
  const offset = tellsLogEnd ? log.length : replica.highWatermark(cluster.replicationMs)
  if (offset === null) return { errorCode: 5, offset: -1, leaderEpoch: -1 }
  return { errorCode: 0, offset, leaderEpoch }
}

function metadata(cluster: ServingCluster, nodeId: number, reader: ModelReader): Buffer {
  const names = reader.array(() => reader.string()!)
  if (reader.int8() !== 0) throw new Error('topics would be created')
  reader.int8() // what may be done to the cluster
  const tellsRights = reader.int8() === 1 && cluster.tellsRights
  reader.end()
  const nodes = [...cluster.nodes.values()].filter(({ isRegistered }) => isRegistered)
  const writer = new ModelWriter().int32(0)
  writer.array(nodes, (node) => {
    writer.int32(node.nodeId).string(node.host).int32(9092).string(null)
  })
  writer.string(cluster.clusterId).int32(nodeId)
  writer.array(names, (name) => {
    const topic = cluster.topics.get(name)
    const errorCode = topic === undefined ? 3 : topic.isForbidden ? 29 : 0
    writer.int16(errorCode).string(name).int8(0)
    const partitions = errorCode === 0 ? [...topic!.partitions.entries()] : []
    writer.array(partitions, ([index, { publishedLeader }]) => {
      const isThere = cluster.nodes.get(publishedLeader)?.isRegistered === true
      writer.int16(isThere ? 0 : 5).int32(index)
      writer.int32(isThere ? publishedLeader : -1).int32(0)
      writer.array([...cluster.nodes.keys()], (node) => writer.int32(node))
      for (let i = 0; i < 2; i++) writer.array([publishedLeader], (node) => writer.int32(node))
    })
    writer.int32(tellsRights && errorCode === 0 ? operationsOn(topic!) : -(2 ** 31))
  })
  writer.int32(-(2 ** 31))
  remember(cluster, nodeId, 'Metadata', {})
  return writer.done()
}

/** READ and DESCRIBE, and WRITE, one bit each. */
function operationsOn({ isReadOnly }: ModelTopic): number {
  return (1 << 3) | (1 << 8) | (isReadOnly ? 0 : 1 << 4)
}

/** Metadata at version 10, which is a flexible one, and tells the topics' ids. */
function topicIds(cluster: ServingCluster, nodeId: number, reader: ModelReader): Buffer {
  const noTags = (): void => {
    if (reader.int8() !== 0) throw new Error('a tagged field')
  }
  noTags() // of the header
  const names = reader.compactArray(() => {
    if (reader.int64() !== 0n || reader.int64() !== 0n) throw new Error('a topic by its id')
    const name = reader.compactString()
    noTags()
    return name
  })
  if (reader.int8() !== 0) throw new Error('topics would be created')
  reader.int8() // what may be done to the cluster
  const tellsRights = reader.int8() === 1 && cluster.tellsRights
  noTags()
  reader.end()
  const nodes = [...cluster.nodes.values()].filter(({ isRegistered }) => isRegistered)
  const writer = new ModelWriter().int8(0).int32(0)
  writer.compactArray(nodes, (node) => {
    writer.int32(node.nodeId).compactString(node.host).int32(9092).compactString(null).int8(0)
  })
  writer.compactString(cluster.clusterId).int32(nodeId)
  writer.compactArray(names, (name) => {
    const topic = cluster.topics.get(name)
    const errorCode = topic === undefined ? 3 : topic.isForbidden ? 29 : 0
    const id = errorCode === 0 ? topic!.id : '0'.repeat(32)
    writer.int16(errorCode).compactString(name).hex(id).int8(0)
    const partitions = errorCode === 0 ? [...topic!.partitions.entries()] : []
    writer.compactArray(partitions, ([index, { publishedLeader, leaderEpoch }]) => {
      const isThere = cluster.nodes.get(publishedLeader)?.isRegistered === true
      writer.int16(isThere ? 0 : 5).int32(index)
      writer.int32(isThere ? publishedLeader : -1).int32(leaderEpoch)
      writer.compactArray([...cluster.nodes.keys()], (node) => writer.int32(node))
      for (let i = 0; i < 2; i++) writer.compactArray([publishedLeader], (node) => writer.int32(node))
      // A tagged field: a client that does not know it skips it.
      writer.int8(1).int8(9).int8(2).int16(7)
    })
    writer.int32(tellsRights && errorCode === 0 ? operationsOn(topic!) : -(2 ** 31)).int8(0)
  })
  remember(cluster, nodeId, 'Metadata', {})
  return writer
    .int32(-(2 ** 31))
    .int8(0)
    .done()
}

function describeConfigs(cluster: ServingCluster, nodeId: number, reader: ModelReader): Buffer {
  const names = reader.array(() => {
    if (reader.int8() !== 2) throw new Error('not a topic')
    const name = reader.string()!
    reader.array(() => reader.string())
    return name
  })
  reader.int8() // with synonyms
  reader.end()
  const writer = new ModelWriter().int32(0)
  writer.array(names, (name) => {
    const topic = cluster.topics.get(name)
    const isTold = topic?.isDescribable === true
    writer.int16(topic === undefined ? 3 : isTold ? 0 : 29).string(null)
    writer.int8(2).string(name)
    const settings = isTold
      ? [
          ['max.message.bytes', String(topic.maxMessageBytes)],
          ['cleanup.policy', topic.cleanupPolicy],
        ]
      : []
    writer.array(settings, ([setting, value]) => {
      writer.string(setting!).string(value!).int8(0).int8(5).int8(0).int32(0)
    })
  })
  remember(cluster, nodeId, 'DescribeConfigs', {})
  return writer.done()
}

function initProducerId(cluster: ServingCluster, nodeId: number, reader: ModelReader): Buffer {
  if (reader.string() !== null) throw new Error('a transaction')
  reader.int32() // transaction timeout
  reader.end()
  remember(cluster, nodeId, 'InitProducerId', {})
  if (!cluster.givesProducerIds) return new ModelWriter().int32(0).int16(31).int64(-1).int16(-1).done()
  return new ModelWriter().int32(0).int16(0).int64(cluster.newProducerId()).int16(0).done()
}

/** The partition if this node leads it now, or the error that Kafka has for the case. */
function leaderHere(
  cluster: ServingCluster,
  nodeId: number,
  name: string,
  index: number,
): { errorCode: number; topic: ModelTopic | null; partition: ModelPartition | null } {
  const topic = cluster.topics.get(name) ?? null
  const partition = topic?.partitions[index] ?? null
  const refused = (errorCode: number): ReturnType<typeof leaderHere> => ({
    errorCode,
    topic,
    partition: null,
  })
  if (topic === null || partition === null) return refused(3)
  if (topic.isForbidden) return refused(29)
  if (partition.leader !== nodeId) return refused(6)
  if (performance.now() < partition.onlineAtMs) return refused(5)
  return { errorCode: 0, topic, partition }
}

function writableHere(...where: Parameters<typeof leaderHere>): ReturnType<typeof leaderHere> {
  const found = leaderHere(...where)
  return found.topic?.isReadOnly === true ? { ...found, errorCode: 29, partition: null } : found
}

function remember(
  cluster: ServingCluster,
  nodeId: number,
  api: ServedRequest['api'],
  rest: Partial<ServedRequest>,
): void {
  cluster.requests.push({
    api,
    request: cluster.requests.length,
    nodeId,
    atMs: performance.now(),
    topic: null,
    partitions: [],
    acks: null,
    errorCodes: [],
    recordCounts: [],
    end: null,
    ...rest,
  })
}

import type { BrokerConnection, Transport } from '../../src/kafka/network/transport.ts'
import { ModelConnection, type ModelServer, type ReceivedRequest, type Served } from './model-connection.ts'
import { serve, type ServedRequest } from './model-requests.ts'
import { ModelPartition, ModelTopic, type StoredRecord } from './model-topic.ts'

/**
 * A Kafka cluster in memory, for producers under a virtual clock: it understands the bytes of the requests that Chute
 * makes, keeps logs, and fails in the ways that a test asks for. Every node is an in-sync replica of every partition, and may
 * lag behind its leader.
 */
export class ModelCluster implements Transport {
  readonly nodes = new Map<number, ModelNode>()
  readonly topics = new Map<string, ModelTopic>()
  /** Another one is another cluster behind the same addresses. */
  clusterId = 'model'
  /** Of topics that were deleted. */
  readonly #formerTopics: ModelTopic[] = []
  /** Every request that was served, in order. */
  readonly requests: ServedRequest[] = []
  /** All tries to connect: to which node, and when. */
  readonly connects: { readonly nodeId: number; readonly atMs: number }[] = []
  readonly connections = new Set<ModelConnection>()
  /** Of the connection attempts: the answer of a stopped broker is waited for this long. */
  connectionTimeoutMs = 1_000
  serviceMs = 1
  responseMs = 1
  kernelBytes = 65_536
  /** `socket.request.max.bytes`. */
  maxRequestBytes = Infinity
  /** How far the replicas are behind the leader. What they do not have is lost when another becomes the leader. */
  replicationMs = 0
  /** False: a debugging replica is answered the high watermark, as everybody is (Redpanda's `list_offsets.cc`). */
  tellsLogEnd = true
  /** After a leader has moved, until metadata says so. */
  metadataLagMs = 0
  /** After a node went down, until metadata leaves it out (`broker.session.timeout.ms`). */
  fenceAfterMs = 1_000
  /** KIP-219, in the answers to produce requests. */
  throttleTimeMs = 0
  /** Responses that get lost on their way, from now on. */
  responsesToLose = 0
  /** How long a session lasts (`connections.max.reauth.ms`). A request that is read later ends the connection. */
  sessionMs = Infinity
  /** Metadata tells what the credentials may do (KIP-430). */
  tellsRights = true
  /** Gives out producer ids (IDEMPOTENT_WRITE on the cluster, before Kafka 2.8). */
  givesProducerIds = true
  #nextProducerId = 1000n
  readonly random: () => number

  /** @param random decides where the model has a choice; seed it to repeat a run. */
  constructor(nodeIds: readonly number[], random: () => number = Math.random) {
    this.random = random
    for (const nodeId of nodeIds) this.nodes.set(nodeId, new ModelNode(nodeId, this))
  }

  /** @inheritdoc */
  async connect(host: string, _port: number, requestTimeoutMs: number): Promise<BrokerConnection> {
    const node = [...this.nodes.values()].find((each) => each.host === host)
    this.connects.push({ nodeId: node?.nodeId ?? -1, atMs: performance.now() })
    await delay(2 * this.responseMs)
    const giveUpAtMs = performance.now() + this.connectionTimeoutMs
    if (node === undefined) throw new Error(`there is no ${host}`)
    while (node.isStopped && performance.now() < giveUpAtMs) await delay(10)
    if (node.state !== 'up') throw new Error(`no connection to ${host}`)
    const connection = new ModelConnection(node, requestTimeoutMs)
    connection.renewAtMs = performance.now() + this.sessionMs / 2
    connection.sessionEndMs = performance.now() + this.sessionMs
    this.connections.add(connection)
    node.connections.add(connection)
    return connection
  }

  /** Creates a topic, its partitions spread over the nodes. */
  createTopic(name: string, partitionCount: number): ModelTopic {
    const topic = new ModelTopic(name)
    this.topics.set(name, topic)
    this.addPartitions(name, partitionCount)
    return topic
  }

  /** Deletes a topic; what was stored in it is kept for {@link stored}. */
  deleteTopic(name: string): void {
    const topic = this.topics.get(name)
    if (topic !== undefined) this.#formerTopics.push(topic)
    this.topics.delete(name)
  }

  /** Adds partitions at the end. */
  addPartitions(name: string, count: number): void {
    const { partitions } = this.topics.get(name)!
    const nodeIds = [...this.nodes.keys()]
    for (let i = 0; i < count; i++)
      partitions.push(new ModelPartition(nodeIds[partitions.length % nodeIds.length]!))
  }

  /** Makes another node the leader, at once; metadata follows later. */
  moveLeader(name: string, partition: number, nodeId: number): void {
    const found = this.topics.get(name)?.partitions[partition]
    if (found === undefined) return
    found.elect(nodeId, this.replicationMs, this.random())
    setTimeout(() => (found.publishedLeader = nodeId), this.metadataLagMs)
  }

  /** kill -9: what was not served is lost. @param isNoticed the kernel tells the clients, which it can't when the power fails. */
  kill(nodeId: number, isNoticed = true): void {
    const node = this.nodes.get(nodeId)!
    if (node.state === 'down') return
    node.state = 'down'
    node.downSinceMs = performance.now()
    for (const connection of node.connections) connection.cut(isNoticed ? 2 : null, this.random() < 0.5)
  }

  /** Comes back. @param onlineAfterMs its partitions are refused before. */
  restart(nodeId: number, onlineAfterMs = 0): void {
    const node = this.nodes.get(nodeId)!
    if (node.state !== 'down') return
    node.state = 'up'
    for (const connection of node.connections) connection.notice(5)
    node.connections.clear()
    for (const { partitions } of this.topics.values())
      for (const partition of partitions)
        if (partition.leader === nodeId)
          partition.onlineAtMs = performance.now() + onlineAfterMs * this.random()
  }

  /** SIGSTOP: connections stay, nothing is answered. */
  stop(nodeId: number): void {
    const node = this.nodes.get(nodeId)!
    if (node.state === 'up') node.state = 'stopped'
  }

  /** SIGCONT: what came in the meantime is served, also where the client has gone. */
  resume(nodeId: number): void {
    const node = this.nodes.get(nodeId)!
    if (node.state !== 'stopped') return
    node.state = 'up'
    for (const connection of node.connections) if (!connection.isOpen) connection.resume()
    for (const connection of node.connections) connection.resume()
  }

  /** Ends every connection to a node, in the middle of whatever it carries. */
  cutConnections(nodeId: number): void {
    for (const connection of this.nodes.get(nodeId)!.connections) connection.cut(2, this.random() < 0.5)
  }

  /** All sessions near their end (KIP-368). */
  expireSessions(): void {
    for (const connection of this.connections) connection.renewAtMs = performance.now()
  }

  /** Everything that was ever stored in a topic of this name, a list a partition log, former topics first. */
  stored(name: string): StoredRecord[][] {
    const former = this.#formerTopics.filter((topic) => topic.name === name)
    const topics = [...former, this.topics.get(name)]
    return topics.flatMap((topic) => topic?.partitions.map(({ log }) => log) ?? [])
  }

  /** A new producer id. */
  newProducerId(): bigint {
    return this.#nextProducerId++
  }
}

/** One node of a {@link ModelCluster}. */
export class ModelNode implements ModelServer {
  readonly nodeId: number
  state: 'up' | 'stopped' | 'down' = 'up'
  downSinceMs = 0
  /** On top of the cluster's {@link ModelCluster.responseMs}. */
  extraResponseMs = 0
  readonly connections = new Set<ModelConnection>()
  /** What Kafka 4.1 serves of what Chute sends. A request of another version is an error of the test. */
  readonly served = new Map([
    [0, { min: 3, max: 13 }],
    [2, { min: 1, max: 11 }],
    [3, { min: 0, max: 13 }],
    [22, { min: 0, max: 6 }],
    [32, { min: 1, max: 4 }],
  ])
  /** Another name is another machine. */
  host: string
  readonly #cluster: ModelCluster

  constructor(nodeId: number, cluster: ModelCluster) {
    this.nodeId = nodeId
    this.host = `node-${nodeId}`
    this.#cluster = cluster
  }

  /** Metadata knows of it: it is there, or was a moment ago. */
  get isRegistered(): boolean {
    return this.state !== 'down' || performance.now() - this.downSinceMs < this.#cluster.fenceAfterMs
  }

  get isStopped(): boolean {
    return this.state === 'stopped'
  }

  get address(): string {
    return `${this.host}:9092`
  }

  get serviceMs(): number {
    return this.#cluster.serviceMs
  }

  get responseMs(): number {
    return this.#cluster.responseMs + this.extraResponseMs
  }

  get kernelBytes(): number {
    return this.#cluster.kernelBytes
  }

  get maxRequestBytes(): number {
    return this.#cluster.maxRequestBytes
  }

  /** @inheritdoc */
  losesResponse(): boolean {
    return this.#cluster.responsesToLose > 0 && this.#cluster.responsesToLose-- > 0
  }

  /** @inheritdoc */
  random(): number {
    return this.#cluster.random()
  }

  /** @inheritdoc */
  serve(request: ReceivedRequest): Served {
    const range = this.served.get(request.apiKey)
    if (range === undefined || request.apiVersion < range.min || request.apiVersion > range.max)
      throw new Error(`node ${this.nodeId} serves no request ${request.apiKey} at ${request.apiVersion}`)
    return serve(this.#cluster, this.nodeId, request)
  }
}

async function delay(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}

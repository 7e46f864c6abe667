import type { ModelCluster } from './model-broker.ts'

/** What goes wrong at one moment. `a` and `b` are turned into a node, a partition, a time, as the kind needs them. */
export interface Fault {
  readonly atMs: number
  readonly kind: FaultKind
  readonly a: number
  readonly b: number
}

/** Everything that the model cluster can be made to do. */
export const faultKinds = [
  'kill',
  'power-loss',
  'restart',
  'stop',
  'resume',
  'cut',
  'move-leader',
  'delete-topic',
  'create-topic',
  'forbid',
  'permit',
  'add-partition',
  'slow-responses',
  'fast-responses',
  'lag-replicas',
  'catch-up-replicas',
  'lose-responses',
  'refuse-produce',
  'expire-sessions',
  'shrink-message-limit',
] as const

/** See {@link faultKinds}. */
export type FaultKind = (typeof faultKinds)[number]

/** Makes it happen to a cluster and to one topic of it, which is made anew with `partitionCount` partitions. */
export function inflict(
  { kind, a, b }: Fault,
  cluster: ModelCluster,
  topic: string,
  partitionCount: number,
): void {
  const nodeId = 1 + (a % cluster.nodes.size)
  const found = cluster.topics.get(topic)
  switch (kind) {
    case 'kill':
      return cluster.kill(nodeId)
    case 'power-loss':
      return cluster.kill(nodeId, false)
    case 'restart':
      return cluster.restart(nodeId, b * 10)
    case 'stop':
      return cluster.stop(nodeId)
    case 'resume':
      return cluster.resume(nodeId)
    case 'cut':
      return cluster.cutConnections(nodeId)
    case 'move-leader':
      if (cluster.nodes.get(nodeId)!.state === 'up')
        cluster.moveLeader(topic, b % (found?.partitions.length ?? 1), nodeId)
      return
    case 'delete-topic':
      return cluster.deleteTopic(topic)
    case 'create-topic':
      if (found === undefined) cluster.createTopic(topic, partitionCount)
      return
    case 'forbid':
    case 'permit':
      if (found !== undefined) found.isForbidden = kind === 'forbid'
      return
    case 'add-partition':
      if (found !== undefined && found.partitions.length < 6) cluster.addPartitions(topic, 1)
      return
    case 'slow-responses':
      cluster.responseMs = 20 + b * 10
      return
    case 'fast-responses':
      cluster.responseMs = 1
      return
    case 'lag-replicas':
      cluster.replicationMs = 1 + b * 10
      return
    case 'catch-up-replicas':
      cluster.replicationMs = 0
      return
    case 'lose-responses':
      cluster.responsesToLose = 1 + (b % 4)
      return
    case 'refuse-produce':
      found?.partitions[a % found.partitions.length]!.refusals.push(refusals[b % refusals.length]!)
      return
    case 'expire-sessions':
      return cluster.expireSessions()
    case 'shrink-message-limit':
      if (found !== undefined) found.maxMessageBytes = 300 + b * 20
  }
}

/** Errors that brokers give: retriable, after the append, and final. */
const refusals = [19, 7, 20, 6, 5, 87, 56, 2]

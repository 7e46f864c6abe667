import { setTimeout as pause } from 'node:timers/promises'
import type { Admin } from 'kafkajs'
import type { LocalKafka } from '../../../src/local-kafka/local-kafka.ts'
import { testClient } from '../../support/independent-reader.ts'
import type { Subject } from './subject.ts'

/** Topics of gateways under test. */
export function topicsOf(gateways: readonly Subject[]): string[] {
  return gateways.flatMap(({ streams }) => streams.map(({ topic }) => topic))
}

/** Who leads, and who has everything, in one topic, by partition. */
export type Layout = readonly {
  readonly partition: number
  readonly leader: number
  readonly isr: number[]
}[]

/** Asks a node of a cluster for the layout of topics. */
export async function layoutOf(
  kafka: LocalKafka,
  nodeId: number,
  topics: readonly string[],
): Promise<Layout> {
  return await asAdmin(kafka, nodeId, async (admin) => {
    const { topics: found } = await admin.fetchTopicMetadata({ topics: [...topics] })
    return found.flatMap(({ partitions }) =>
      partitions.map(({ partitionId, leader, isr }) => ({ partition: partitionId, leader, isr })),
    )
  })
}

/** Waits until the layout of topics is as wanted, as this node sees it. */
export async function untilLayout(
  kafka: LocalKafka,
  nodeId: number,
  topics: readonly string[],
  isWanted: (layout: Layout) => boolean,
): Promise<void> {
  const deadlineMs = performance.now() + 60_000
  while (performance.now() < deadlineMs) {
    const layout = await layoutOf(kafka, nodeId, topics).catch(() => null)
    if (layout !== null && isWanted(layout)) return
    await pause(50)
  }
  throw new Error('the partitions did not get where they should be')
}

/** Moves each partition away from its leader, cleanly: the leader leaves the replicas, and the next in line takes over. */
export async function moveLeaders(kafka: LocalKafka, topics: readonly string[]): Promise<void> {
  await asAdmin(kafka, 1, async (admin) => {
    const { topics: found } = await admin.fetchTopicMetadata({ topics: [...topics] })
    await admin.alterPartitionReassignments({
      topics: found.map(({ name, partitions }) => ({
        topic: name,
        partitionAssignment: partitions.map(({ partitionId, leader, replicas }) => ({
          partition: partitionId,
          replicas: replicas.filter((id) => id !== leader),
        })),
      })),
    })
  })
}

async function asAdmin<T>(kafka: LocalKafka, nodeId: number, ask: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = testClient(kafka.brokers[nodeId - 1]!).admin()
  await admin.connect()
  try {
    return await ask(admin)
  } finally {
    await admin.disconnect()
  }
}

import { append, type ProducerFixture } from './producer-fixture.ts'
import type { ModelCluster } from './model-broker.ts'
import type { ServedRequest } from './model-requests.ts'
import { pass } from './virtual-clock.ts'
import type { StreamProducer } from '../../src/kafka/producer/stream-producer.ts'

/** What tests of streams that share a connection to a model broker have in common, whatever their delivery. */

let nextId = 0

/** A value that no other record has. */
export function valueOf(text: string): string {
  return `${text} ${nextId++}`
}

/** The time between two records of {@link flow}, in milliseconds. */
export const everyMs = 5

/** A record every five milliseconds for each of the streams. `value` is what those of the first stream begin with. */
export async function flow(
  producers: readonly StreamProducer[],
  forMs: number,
  value = (_ms: number): string => 'good',
): Promise<void> {
  for (let ms = 0; ms < forMs; ms += everyMs) {
    for (const producer of producers)
      append(producer, valueOf(producer === producers[0] ? value(ms) : 'good'))
    await pass(everyMs)
  }
}

/** The topics of each request of a kind, in order. */
export function topicsOf(
  cluster: ModelCluster,
  api: ServedRequest['api'],
  end: ServedRequest['end'] = null,
): string[] {
  const byRequest = new Map<number, string[]>()
  for (const each of cluster.requests) {
    if (each.api !== api || each.end !== end) continue
    const names = byRequest.get(each.request) ?? []
    byRequest.set(each.request, [...names, each.topic!])
  }
  return Array.from(byRequest.values(), (names) => names.toSorted().join(' '))
}

/** Connections that carry records. One more is for metadata. */
export function openConnections(cluster: ModelCluster): number {
  return [...cluster.connections].filter(({ isOpen }) => isOpen).length - 1
}

/** Lines of the log that say that topics are set apart. */
export function apartLines({ logs }: ProducerFixture): ProducerFixture['logs']['lines'] {
  return logs.lines.filter(({ message }) => message.includes('of its own for a while'))
}

import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { createTopic } from '../test/support/independent-reader.ts'
import { benchProducers, type ProducerRow } from './delivery-at-producer.ts'
import { singleEvent } from './events.ts'
import { failuresOf, openLoop, type OpenLoopResult } from './open-loop.ts'
import { inTurn, median } from './rounds.ts'
import { startBaseline, startChute } from './server-process.ts'

/** One way through the HTTP front door; medians. */
export interface FrontDoorRow {
  readonly delivery: 'at most once' | 'at least once' | 'exactly once'
  /** What the reply says. */
  readonly until: string
  readonly p50Ms: number
  readonly p99Ms: number
  readonly failed: number
}

/** The source document's comparison of the three semantics, at the front door and at the producer. */
export async function benchDelivery(
  kafka: LocalKafka,
  options: { rounds: number; seconds: number },
): Promise<{ frontDoor: FrontDoorRow[]; producer: ProducerRow[] }> {
  const broker = kafka.brokers[0]!
  await createTopic(broker, 'bench-transactions')
  const chute = await startChute(broker)
  const transactions = await startBaseline('kafkajs-transaction', {
    KAFKA_BROKERS: broker,
    BENCH_TOPIC: 'bench-transactions',
  })
  try {
    const wait = { Prefer: 'wait=5' }
    const ways = [
      {
        delivery: 'at most once',
        until: 'taken (202)',
        url: `${chute.url}/v1/streams/metrics-realtime`,
        headers: {},
      },
      {
        delivery: 'at most once',
        until: 'confirmed by the barrier (`Prefer: wait`)',
        url: `${chute.url}/v1/streams/metrics-realtime`,
        headers: wait,
      },
      {
        delivery: 'at least once',
        until: 'acknowledged (`Prefer: wait`)',
        url: `${chute.url}/v1/streams/metrics-critical`,
        headers: wait,
      },
      {
        delivery: 'exactly once',
        until: 'committed (kafkajs, a transaction a request)',
        url: `${transactions.url}/v1/streams/metrics-realtime`,
        headers: {},
      },
    ] as const
    const rounds = await inTurn(
      ways.map(({ delivery, until, url, headers }) => ({
        name: `${delivery}, until ${until}`,
        // Few enough that one transaction after the other keeps up.
        measure: async () =>
          await openLoop({
            ...singleEvent,
            url,
            headers,
            ratePerSecond: 10,
            seconds: options.seconds,
            connections: 16,
          }),
      })),
      options.rounds,
      ({ p50Ms }) => `p50 ${p50Ms.toFixed(2)} ms`,
    )
    const measured = [...rounds.values()]
    const frontDoor = ways.map(({ delivery, until }, way) => ({
      delivery,
      until,
      ...medians(measured[way]!),
    }))
    return { frontDoor, producer: await benchProducers(broker, options.rounds) }
  } finally {
    await Promise.all([chute.stop(), transactions.stop()])
  }
}

function medians(rounds: readonly OpenLoopResult[]): Pick<FrontDoorRow, 'p50Ms' | 'p99Ms' | 'failed'> {
  return {
    p50Ms: median(rounds.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(rounds.map(({ p99Ms }) => p99Ms)),
    failed: rounds.reduce((sum, round) => sum + failuresOf(round), 0),
  }
}

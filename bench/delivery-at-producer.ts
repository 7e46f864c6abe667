import { Kafka, logLevel, type Producer as KafkajsProducer } from 'kafkajs'
import { loadConfig } from '../src/config/load-config.ts'
import type { Logger } from '../src/logger.ts'
import { Producers } from '../src/kafka/producers.ts'
import { outcomeTraits } from '../src/kafka/producer/outcome.ts'
import { recordSizeUpperBound, type Settlement } from '../src/kafka/producer/producer.ts'
import type { StreamProducer } from '../src/kafka/producer/stream-producer.ts'
import { createTopic } from '../test/support/independent-reader.ts'
import { sampleEvent } from './events.ts'
import { recordsIn } from './landed.ts'
import { inTurn, median } from './rounds.ts'
import { RecordBytes } from '../src/kafka/protocol/record-bytes.ts'

/** One semantics without HTTP and without linger; medians. */
export interface ProducerRow {
  readonly delivery: 'at most once' | 'at least once' | 'exactly once'
  readonly until: string
  /** Of one record alone. */
  readonly p50Ms: number
  /** In lots of 100 records, as many lots under way as the semantics allows. */
  readonly eventsPerSecond: number
  readonly cpuMicrosPerEvent: number
  /** Answers of a broker that a record alone waits for. */
  readonly roundTrips: number
  /** Records in the topic ÷ records that were said to be delivered. */
  readonly landed: number
}

interface Way {
  readonly delivery: ProducerRow['delivery']
  readonly until: string
  readonly topic: string
  /** Answers that one record alone waits for, by the protocol; transactions are counted as they are made. */
  readonly roundTrips: () => number
  /** Delivers one lot and says when its promise is kept. */
  readonly deliver: (count: number) => Promise<void>
  readonly lotsUnderWay: number
}

const eventsPerLot = 100
const body = Buffer.from(sampleEvent)

/** The three in turn, in this process. */
export async function benchProducers(broker: string, rounds: number): Promise<ProducerRow[]> {
  const producers = startProducers(broker)
  const transactions = await Transactions.connect(broker)
  const [atMostOnce, atLeastOnce] = [...producers.byStream.values()] as [StreamProducer, StreamProducer]
  while ([atMostOnce, atLeastOnce].some(({ admission }) => admission !== 'open')) await sleep(20)
  const ways: Way[] = [
    {
      delivery: 'at most once',
      until: 'the kernel has it (acks=0)',
      topic: atMostOnce.stream.topic,
      roundTrips: () => 0,
      deliver: async (count) => await append(atMostOnce, count),
      lotsUnderWay: 32,
    },
    {
      delivery: 'at least once',
      until: 'acknowledged (acks=all, idempotent)',
      topic: atLeastOnce.stream.topic,
      roundTrips: () => 1,
      deliver: async (count) => await append(atLeastOnce, count),
      lotsUnderWay: 32,
    },
    {
      delivery: 'exactly once',
      until: 'committed (kafkajs, a transaction)',
      topic: transactions.topic,
      roundTrips: () => transactions.requestsPerCommit,
      deliver: async (count) => await transactions.commit(count),
      lotsUnderWay: 1,
    },
  ]
  // Of all rounds, the one that is not counted as well: its records are in the topics too.
  const delivered = new Map<Way, number>(ways.map((way) => [way, 0]))
  try {
    const measured = await inTurn(
      ways.map((way) => ({
        name: `${way.delivery}, at the producer`,
        async measure() {
          const round = await measure(way)
          delivered.set(way, delivered.get(way)! + round.delivered)
          return round
        },
      })),
      rounds,
      ({ p50Ms, eventsPerSecond }) => `p50 ${p50Ms.toFixed(2)} ms, ${Math.round(eventsPerSecond)} events/s`,
    )
    const rows: ProducerRow[] = []
    for (const [index, way] of ways.entries()) {
      const of = [...measured.values()][index]!
      rows.push({
        delivery: way.delivery,
        until: way.until,
        p50Ms: median(of.map(({ p50Ms }) => p50Ms)),
        eventsPerSecond: median(of.map(({ eventsPerSecond }) => eventsPerSecond)),
        cpuMicrosPerEvent: median(of.map(({ cpuMicrosPerEvent }) => cpuMicrosPerEvent)),
        roundTrips: way.roundTrips(),
        landed:
          ((await recordsIn(broker, way.topic)) - transactions.markersIn(way.topic)) / delivered.get(way)!,
      })
    }
    return rows
  } finally {
    await producers.close(5_000)
    await transactions.disconnect()
  }
}

interface Round {
  readonly p50Ms: number
  readonly eventsPerSecond: number
  readonly cpuMicrosPerEvent: number
  readonly delivered: number
}

async function measure({ deliver, lotsUnderWay }: Way): Promise<Round> {
  const latenciesMs: number[] = []
  for (let single = 0; single < 60; single++) {
    const startedAtMs = performance.now()
    await deliver(1)
    latenciesMs.push(performance.now() - startedAtMs)
    await sleep(2)
  }
  let lots = 0
  const cpuBefore = process.cpuUsage()
  const startedAtMs = performance.now()
  await Promise.all(
    Array.from({ length: lotsUnderWay }, async () => {
      while (performance.now() - startedAtMs < 1_500) {
        await deliver(eventsPerLot)
        lots++
      }
    }),
  )
  const seconds = (performance.now() - startedAtMs) / 1_000
  const { user, system } = process.cpuUsage(cpuBefore)
  const events = lots * eventsPerLot
  return {
    p50Ms: median(latenciesMs),
    eventsPerSecond: events / seconds,
    cpuMicrosPerEvent: (user + system) / events,
    delivered: events + 60,
  }
}

/** Appends a lot and waits for the outcome of the batches that it came into. */
async function append(producer: StreamProducer, count: number): Promise<void> {
  const charged = count * recordSizeUpperBound(0, body.length)
  if (!(await producer.reserveOrWait(charged))) throw new Error('there was no room')
  const batches = new Set<ReturnType<StreamProducer['append']>>()
  const nowMs = Date.now()
  for (let n = 0; n < count; n++) batches.add(producer.append(RecordBytes.of(body, null, nowMs)))
  await Promise.all(
    Array.from(batches, async (batch) => {
      const { outcome } = await new Promise<Settlement>((resolve) => batch.onSettled(resolve))
      if (outcome === 'pending' || !outcomeTraits[outcome].isDelivered)
        throw new Error(`a batch ended as ${outcome}`)
    }),
  )
}

function startProducers(broker: string): Producers {
  const file = {
    streams: {
      'bench-at-most-once': { delivery: 'at-most-once', confirm: 'off', producer: { 'linger.ms': 0 } },
      'bench-at-least-once': { delivery: 'at-least-once', producer: { 'linger.ms': 0 } },
    },
  }
  const { kafka, streams, dataDir } = loadConfig(
    { KAFKA_BROKERS: broker, CHUTE_CONFIG: 'streams.json' },
    () => JSON.stringify(file),
  )
  const ignore = (): void => {}
  const logger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore }
  const telemetry = { batchWritten: ignore, requestCompleted: ignore }
  const producers = new Producers({ kafka, streams, dataDir, logger, telemetry: () => telemetry })
  producers.start()
  return producers
}

/**
 * The broker refuses a transaction that follows the last too closely (CONCURRENT_TRANSACTIONS); kafkajs would wait 300 ms.
 */
const soon = { initialRetryTime: 5, maxRetryTime: 50, retries: 100 }

/** kafkajs's transactional producer: the third column of the document, for the comparison only. */
class Transactions {
  readonly topic = 'bench-exactly-once'
  readonly #producer: KafkajsProducer
  #commits = 0
  #requests = 0

  private constructor(producer: KafkajsProducer) {
    this.#producer = producer
    producer.on(producer.events.REQUEST, () => this.#requests++)
  }

  static async connect(broker: string): Promise<Transactions> {
    const kafka = new Kafka({ clientId: 'bench', brokers: [broker], logLevel: logLevel.NOTHING, retry: soon })
    const options = { transactionalId: 'bench-at-producer', idempotent: true, maxInFlightRequests: 1 }
    const transactions = new Transactions(kafka.producer(options))
    // One partition, so that a commit leaves one marker in it.
    await createTopic(broker, transactions.topic, { partitions: 1 })
    await transactions.#producer.connect()
    await transactions.commit(1)
    transactions.#requests = 0
    transactions.#commits = 0
    return transactions
  }

  get requestsPerCommit(): number {
    return Math.round(this.#requests / this.#commits)
  }

  /** Records of a topic that are commit markers, or the first record of {@link connect}. */
  markersIn(topic: string): number {
    return topic === this.topic ? this.#commits + 2 : 0
  }

  async commit(count: number): Promise<void> {
    const messages = Array.from({ length: count }, () => ({ value: sampleEvent }))
    const transaction = await this.#producer.transaction()
    await transaction.send({ topic: this.topic, acks: -1, messages })
    await transaction.commit()
    this.#commits++
  }

  async disconnect(): Promise<void> {
    await this.#producer.disconnect()
  }
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}

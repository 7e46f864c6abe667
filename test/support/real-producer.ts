import { onTestFinished } from 'vitest'
import type { ProducerConfig, StreamConfig } from '../../src/config/config.ts'
import { BufferPool } from '../../src/buffer-pool.ts'
import { ClusterMetadata } from '../../src/kafka/network/cluster-metadata.ts'
import type { StreamProducer } from '../../src/kafka/producer/stream-producer.ts'
import { openProducer, shareParts } from '../../src/kafka/open-producer.ts'
import { KafkajsTransport } from '../../src/kafka/network/kafkajs-transport.ts'
import { FaultyTransport } from './faulty-transport.ts'
import { testConfig } from './gateway.ts'
import { LogKeeper, noTelemetry, streamConfig } from './producer-fixture.ts'

/** The producer of one stream on a real broker, through a transport that a test can spoil. */
export interface RealProducer extends Omit<RealProducers, 'producers'> {
  readonly producer: StreamProducer
}

/** As {@link RealProducer}, of several streams. */
export interface RealProducers {
  readonly producers: readonly StreamProducer[]
  readonly transport: FaultyTransport
  readonly logs: LogKeeper
  /** Waits until every record has its outcome. */
  readonly settled: () => Promise<void>
}

/** Starts the producer of one stream and waits until it takes records; it ends with the test. */
export async function startProducer(
  brokers: readonly string[],
  topic: string,
  overrides: Partial<ProducerConfig> = {},
  delivery: StreamConfig['delivery'] = 'at-least-once',
): Promise<RealProducer> {
  const { producers, ...rest } = await startProducers(brokers, [streamConfig(topic, delivery, overrides)])
  return { producer: producers[0]!, ...rest }
}

/** As {@link startProducer}, for streams of one process. */
export async function startProducers(
  brokers: readonly string[],
  streams: readonly StreamConfig[],
): Promise<RealProducers> {
  const logs = new LogKeeper()
  const { kafka } = testConfig({ brokers, streams: [] })
  const transport = new FaultyTransport(new KafkajsTransport(kafka, logs))
  const bootstrap = brokers.map((broker) => {
    const [host = '', port = ''] = broker.split(':')
    return { host, port: Number(port) }
  })
  const metadata = new ClusterMetadata({
    transport,
    bootstrap,
    topics: streams.map(({ topic }) => topic),
    maxAgeMs: 1_000,
    logger: logs,
  })
  const shared = shareParts({ metadata, transport, buffers: new BufferPool(1 << 20), logger: logs })
  const producers = streams.map(
    (stream) => openProducer(stream, { telemetry: noTelemetry, letterFile: null }, shared).producer,
  )
  onTestFinished(() => {
    for (const producer of producers) producer.abort()
    metadata.stop()
  })
  metadata.start()
  await until(() => producers.every(({ admission, stats }) => admission === 'open' && stats.connected))
  return {
    producers,
    transport,
    logs,
    settled: async () =>
      await until(() => producers.every(({ stats }) => stats.buffered + stats.inFlight === 0)),
  }
}

/** Looks again and again until something is the case; fails after a minute. */
export async function until(condition: () => boolean, limitMs = 60_000): Promise<void> {
  const giveUpAtMs = performance.now() + limitMs
  while (!condition()) {
    if (performance.now() > giveUpAtMs) throw new Error(`not so after ${limitMs} ms: ${condition.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

import type { ProducerStats, ProducerTelemetry } from '../kafka/producer/producer.ts'
import { collectDedupeMetrics, noDedupe, type DedupeStats } from './dedupe-metrics.ts'
import { EdgeCounters } from './edge-counters.ts'
import { HttpDurations } from './http-durations.ts'
import type { HttpTimer } from './http-durations.ts'
import { writeSnapshot, type LinesOfText, type MetricsSnapshot } from './metrics-snapshot.ts'
import { collectProcessMetrics, watchProcess } from './process-metrics.ts'
import { ProducerHistograms } from './producer-histograms.ts'

/**
 * Every metric of one gateway. Read this file of the folder first.
 *
 * Metrics are pulled: a scrape takes a snapshot of the plain numbers that the producers and the edge keep anyway, all of
 * them in one turn of the event loop, so that received = accepted + rejected and accepted = pending + outcomes hold in
 * every scrape. It becomes text in `metrics-snapshot.ts`, line by line; with workers, theirs are added up before that. Only
 * durations and sizes are pushed, a call a batch or a request, into series that were resolved beforehand. Nothing here is
 * called once a record. Each metric's name, help and buckets are in one place: the file of its kind.
 *
 * The folder knows the producer's and the edge's numbers; it knows neither routes nor Kafka's client.
 */
export class Metrics {
  /** Counts events at the edge; the routes are given it. */
  readonly edge = new EdgeCounters()
  readonly #producerHistograms = new ProducerHistograms()
  readonly #httpDurations = new HttpDurations()
  readonly #version: string
  #streams: () => readonly ProducerStats[] = () => []
  #dedupe: () => DedupeStats = () => noDedupe

  /** @param version of Chute, for `chute_build_info`. */
  constructor(version: string) {
    this.#version = version
    watchProcess()
  }

  /** Names where the producers' accounts are read from, at each scrape. To be called once, when the producers exist. */
  observe(streams: () => readonly ProducerStats[]): void {
    this.#streams = streams
  }

  /** As {@link observe}, for what tells duplicates. */
  observeDedupe(dedupe: () => DedupeStats): void {
    this.#dedupe = dedupe
  }

  /** What the producer of a stream is given to tell its batches and requests to. To be called once a stream. */
  producerTelemetry(stream: string, topic: string): ProducerTelemetry {
    return this.#producerHistograms.addStream(stream, topic)
  }

  /** The timer of a route, for the route to keep. `route` is its pattern, `method` in capitals. */
  httpTimer(method: string, route: string): HttpTimer {
    return this.#httpDurations.timer(method, route)
  }

  /**
   * One scrape, in the format that `accept` asks for: {@link account} and the metrics of the process. The account is read
   * when the first line is.
   */
  async text(accept: string | undefined): Promise<LinesOfText> {
    const ofProcess = await collectProcessMetrics()
    return writeSnapshot(() => {
      const account = this.account()
      return { ...account, families: [...account.families, ...ofProcess] }
    }, accept)
  }

  /** Every number of ours. Nothing is awaited between the first that is read and the last. */
  account(): MetricsSnapshot {
    return {
      edge: this.edge.totals(),
      streams: this.#streams(),
      histograms: [...this.#producerHistograms.read(), this.#httpDurations.read()],
      families: [
        ...collectDedupeMetrics(this.#dedupe()),
        {
          name: 'chute_build_info',
          help: 'Always 1; the version of Chute and of Node.',
          type: 'gauge',
          merge: 'max',
          samples: [
            { suffix: '', labels: { version: this.#version, node_version: process.version }, value: 1 },
          ],
        },
      ],
    }
  }
}

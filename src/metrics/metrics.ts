import type { DedupeStats } from '../dedupe/deduplicators.ts'
import { mergeStats, retireStats } from '../kafka/producer/producer-stats.ts'
import type { ProducerStats, ProducerTelemetry } from '../kafka/producer/producer.ts'
import { collectDedupeMetrics } from './dedupe-metrics.ts'
import {
  collectEdgeMetrics,
  EdgeCounters,
  HttpDurations,
  mergeEdge,
  type EdgeTotals,
  collectLimitMetrics,
  type LimitStats,
} from './edge-metrics.ts'
import type { EdgeTelemetry, HttpTimer, InvalidStats } from './edge-telemetry.ts'
import { writeText, type ExpositionText, type Scrape } from './exposition.ts'
import { collectInvalidMetrics, retireInvalid } from './invalid-metrics.ts'
import { mergeFamilies, type CollectedFamily, type MergeableFamily } from './family.ts'
import { mergeHistograms, toFamily, type HistogramReading } from './histogram.ts'
import { collectProcessMetrics, watchProcess } from './process-metrics.ts'
import type { Reloads } from './reload-metrics.ts'
import { collectTlsMetrics, type TlsStats } from './tls-metrics.ts'
import { collectProducerMetrics, ProducerHistograms } from './producer-metrics.ts'

/**
 * Every metric of one gateway. Read this file of the folder first.
 *
 * Metrics are pulled. The producers and the edge keep plain numbers for purposes of their own. A scrape takes a snapshot of
 * all of them in one turn of the event loop, so received = accepted + rejected and accepted = pending + outcomes hold in every
 * scrape. With workers, the snapshots of all workers are added up. Then the snapshot becomes text, line by line
 * (`exposition.ts`). Only durations and sizes are pushed: one call a batch or a request, into a series that was looked up at
 * start. Nothing in this folder is called once a record. The name, help and buckets of a metric stand in one place, the file
 * of its kind.
 *
 * The folder knows the numbers of producers, consumers, audits, de-duplication and the edge. It knows neither routes nor
 * Kafka's client.
 */
export class Metrics implements EdgeTelemetry, Scrape {
  /** Counts events at the edge. The routes are given it. */
  readonly edge = new EdgeCounters()
  readonly #producerHistograms = new ProducerHistograms()
  /** By stream and topic. */
  readonly #telemetry = new Map<string, ProducerTelemetry>()
  readonly #httpDurations = new HttpDurations()
  readonly #version: string
  #streams: () => readonly ProducerStats[] = () => []
  #dedupe: () => DedupeStats = () => ({ isStoreUp: null, streams: [] })
  #invalid: () => readonly InvalidStats[] = () => []
  #tls: () => TlsStats = () => ({ failed: null, certificates: [] })
  #reloads: () => readonly MergeableFamily[] = () => []

  #limits: () => LimitStats | null = () => null
  /** Nobody needs a key. A reload of the configuration can change it. */
  isOpen: boolean

  /** @param version of Chute, for `chute_build_info`. */
  constructor(version: string, isOpen = true) {
    this.#version = version
    this.isOpen = isOpen
    watchProcess()
  }

  /** Sets the function that each scrape reads the accounts of the producers from. To be called once, when the producers exist. */
  observe(streams: () => readonly ProducerStats[]): void {
    this.#streams = streams
  }

  /** As {@link observe}, for the numbers of de-duplication. */
  observeDedupe(dedupe: () => DedupeStats): void {
    this.#dedupe = dedupe
  }

  /** As {@link observe}, for the events that were refused for themselves. */
  observeInvalid(invalid: () => readonly InvalidStats[]): void {
    this.#invalid = invalid
  }

  /** As {@link observe}, for TLS. */
  observeTls(tls: () => TlsStats): void {
    this.#tls = tls
  }

  /** As {@link observe}, for the reloads of the configuration. With workers, the primary counts them. */
  observeReloads(reloads: Reloads): void {
    this.#reloads = () => reloads.collect()
  }

  /** As {@link observe}, for the limits of clients. */
  observeLimits(limits: () => LimitStats): void {
    this.#limits = limits
  }

  /** Takes the batches and requests of one stream. The stream's producer is given it. A stream that comes again goes on with its numbers. */
  producerTelemetry(stream: string, topic: string): ProducerTelemetry {
    const key = `${stream} ${topic}`
    const known = this.#telemetry.get(key) ?? this.#producerHistograms.addStream(stream, topic)
    this.#telemetry.set(key, known)
    return known
  }

  /** @inheritdoc `method` is in capitals. */
  httpTimer(method: string, route: string): HttpTimer {
    return this.#httpDurations.timer(method, route)
  }

  /** @inheritdoc It has the {@link account} and the metrics of the process. */
  async text(accept: string | undefined): Promise<ExpositionText> {
    const ofProcess = await collectProcessMetrics()
    return writeSnapshot(() => {
      const account = this.account()
      return { ...account, families: [...account.families, ...ofProcess] }
    }, accept)
  }

  /** All numbers but those of the process. All are read in one turn of the event loop. */
  account(): MetricsSnapshot {
    const limits = this.#limits()
    return {
      edge: this.edge.totals(),
      streams: this.#streams(),
      histograms: [...this.#producerHistograms.read(), this.#httpDurations.read()],
      families: [
        ...collectDedupeMetrics(this.#dedupe()),
        ...collectInvalidMetrics(this.#invalid()),
        ...collectTlsMetrics(this.#tls()),
        ...this.#reloads(),
        ...(limits === null ? [] : collectLimitMetrics(limits)),
        {
          name: 'chute_open',
          help: '1 where nobody needs a key to write, 0 where there are keys.',
          type: 'gauge',
          merge: 'max',
          samples: [{ suffix: '', labels: {}, value: this.isOpen ? 1 : 0 }],
        },
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

/**
 * All numbers of a gateway at one instant. They are plain data, so that they can be sent from one process to another and added
 * up. They become text last, so one process and many have the same label sets.
 */
export interface MetricsSnapshot {
  readonly edge: EdgeTotals
  readonly streams: readonly ProducerStats[]
  readonly histograms: readonly HistogramReading[]
  /** All other metrics: of de-duplication, of the build, and of the process where they were asked for. */
  readonly families: readonly MergeableFamily[]
}

/**
 * A snapshot as text, in the format that an `Accept` header asks for.
 * @param snapshot is called when the first line is read.
 */
export function writeSnapshot(snapshot: () => MetricsSnapshot, accept: string | undefined): ExpositionText {
  return writeText(familiesOf(snapshot), accept)
}

function* familiesOf(snapshot: () => MetricsSnapshot): Generator<CollectedFamily> {
  const { edge, streams, histograms, families } = snapshot()
  yield* collectEdgeMetrics(edge)
  yield* collectProducerMetrics(streams)
  yield* histograms.map(toFamily)
  yield* families
}

/** Adds up the snapshots of several processes, one at least. The sum is what one process would say that had seen everything. */
export function mergeSnapshots(snapshots: readonly MetricsSnapshot[]): MetricsSnapshot {
  return {
    edge: snapshots.map(({ edge }) => edge).reduce(mergeEdge),
    streams: mergeStats(snapshots.map(({ streams }) => streams)),
    histograms: mergeHistograms(snapshots.map(({ histograms }) => histograms)),
    families: mergeFamilies(snapshots.map(({ families }) => families)),
  }
}

/** What stays of a process that has ended: its counters, so that no sum ever goes back. See {@link retireStats}. */
export function retireSnapshot({ edge, streams, histograms, families }: MetricsSnapshot): MetricsSnapshot {
  return {
    edge,
    streams: streams.map(retireStats),
    histograms,
    families: retireInvalid(families),
  }
}

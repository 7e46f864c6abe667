import type { ProducerTelemetry } from '../kafka/producer/producer.ts'
import { Histogram, type HistogramReading } from './histogram.ts'

/** What producers tell batch by batch and request by request, as histograms with the labels `stream` and `topic`. */
export class ProducerHistograms {
  readonly #batchSize = new Histogram({
    name: 'kafka_producer_batch_size_bytes',
    help: 'Bytes of a batch as written. Mostly small batches: raise linger.ms.',
    type: 'histogram',
    buckets: [256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576],
  })
  readonly #queueTime = new Histogram({
    name: 'kafka_producer_record_queue_time_seconds',
    help: 'Time from the first append to a batch until the batch was written.',
    type: 'histogram',
    // From linger.ms up to delivery.timeout.ms.
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
  })
  readonly #requestLatency = new Histogram({
    name: 'kafka_producer_request_latency_seconds',
    help: 'Time of a produce request until its response, or, with acks=0, until the kernel had it.',
    type: 'histogram',
    buckets: [
      0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
    ],
  })

  /** Adds a stream, once, with its series at zero. */
  addStream(stream: string, topic: string): ProducerTelemetry {
    const batchSize = this.#batchSize.addSeries({ stream, topic })
    const queueTime = this.#queueTime.addSeries({ stream, topic })
    const requestLatency = this.#requestLatency.addSeries({ stream, topic })
    return {
      batchWritten(sizeBytes, _recordCount, queueTimeMs) {
        batchSize.observe(sizeBytes)
        queueTime.observe(queueTimeMs / 1000)
      },
      requestCompleted(latencyMs) {
        requestLatency.observe(latencyMs / 1000)
      },
    }
  }

  read(): HistogramReading[] {
    return [this.#batchSize.read(), this.#queueTime.read(), this.#requestLatency.read()]
  }
}

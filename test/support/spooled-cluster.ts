import { openSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { ProducerConfig, StreamConfig } from '../../src/config/config.ts'
import { recordSizeUpperBound } from '../../src/kafka/producer/producer.ts'
import { realDisk, type Disk } from '../../src/spool/disk.ts'
import { DurableProducer } from '../../src/spool/durable-producer.ts'
import { findSegments } from '../../src/spool/find-segments.ts'
import type { ModelCluster } from './model-broker.ts'
import { ProducerFixture, streamConfig } from './producer-fixture.ts'
import { copyOfFolder, temporaryFolder, type TestRecord } from './spool-fixture.ts'
import { RecordBytes } from '../../src/kafka/protocol/record-bytes.ts'

/** One life of a gateway: a durable stream on a folder, with the real producer behind it and a model cluster behind that. */
export class DurableLife {
  readonly fixture: ProducerFixture
  readonly producer: DurableProducer
  readonly folder: string

  constructor(
    cluster: ModelCluster,
    options: {
      folder?: string
      topic?: string
      disk?: Partial<Disk>
      stream?: Partial<StreamConfig>
      producer?: Partial<ProducerConfig>
    } = {},
  ) {
    this.folder = options.folder ?? temporaryFolder()
    const stream = {
      ...streamConfig(options.topic ?? 'events', 'at-least-once', {
        requestTimeoutMs: 200,
        retryBackoffMs: 5,
        ...options.producer,
      }),
      ...options.stream,
      name: 'critical',
    }
    this.fixture = new ProducerFixture(cluster, [stream])
    const fd = openSync(this.folder, 'r')
    this.producer = new DurableProducer({
      producer: this.fixture.producer,
      folder: { path: this.folder, fd, segments: findSegments(this.folder, 'critical', this.fixture.logs) },
      spool: { fsync: false, maxBytes: 1 << 30 },
      logger: this.fixture.logs,
      disk: { ...realDisk, ...options.disk },
    })
    this.fixture.metadata.start()
  }

  /** One request, as a route makes it. @param onDisk is called when it is on disk. */
  request(records: readonly TestRecord[], onDisk: () => void = () => {}): void {
    const { producer } = this
    const bodies = records.map(({ key, value }) => ({
      key: key === null ? null : Buffer.from(key),
      value: Buffer.from(value),
    }))
    const sizeBytes = bodies.reduce(
      (sum, { key, value }) =>
        sum + recordSizeUpperBound(key?.length ?? 0, value.length, producer.headerBytes),
      0,
    )
    if (!producer.reserve(sizeBytes)) throw new Error('the buffer is full')
    for (const { key, value } of bodies) producer.append(RecordBytes.of(value, key, Date.now()))
    producer.commit({
      committed(failure) {
        if (failure === null) onDisk()
      },
    })
  }

  /** kill -9 at this moment. @returns a folder as it was left. */
  kill(): string {
    const copy = copyOfFolder(this.folder)
    this.end()
    return copy
  }

  end(): void {
    this.producer.abort()
    this.fixture.stop()
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await pause(1)
  }

  /** Waits until Kafka has all that is on disk. */
  async drained(): Promise<void> {
    await this.until(() => this.producer.stats.spool!.records === 0)
  }
}

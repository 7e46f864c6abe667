import { cpSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { recordSizeUpperBound, type PendingBatch } from '../../src/kafka/producer/producer.ts'
import { realDisk, type Disk } from '../../src/spool/disk.ts'
import { DurableProducer } from '../../src/spool/durable-producer.ts'
import { findSegments } from '../../src/spool/find-segments.ts'
import { FaultyDisk, faultyFolder } from './faulty-disk.ts'
import { FakeInnerProducer } from './fake-inner-producer.ts'
import { LogKeeper } from './producer-fixture.ts'
import { sumOfOutcomes } from './producer-stats.ts'
import { RecordBytes } from '../../src/kafka/protocol/record-bytes.ts'

/** A folder that goes with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-spool-'))
  // A call to the disk that was under way at the end of the test can still make a file.
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 }))
  return folder
}

/**
 * Copies a folder that threads of the disk work on. A file that goes meanwhile is an error of the copy, which Node 20 calls ENOENT, and Node 24 EIO.
 * Then the folder is copied again.
 */
export function copyOfFolder(folder: string): string {
  for (let tries = 0; ; tries++) {
    const copy = temporaryFolder()
    try {
      cpSync(folder, copy, { recursive: true })
      return copy
    } catch (error) {
      if (tries === 9) throw error
    }
  }
}

/** A record of a request. */
export interface TestRecord {
  readonly key: string | null
  readonly value: string
}

/** A durable producer on a folder, in front of a fake one. */
export class SpoolFixture {
  readonly inner: FakeInnerProducer
  readonly producer: DurableProducer
  readonly folder: string
  readonly logs = new LogKeeper()

  constructor(
    options: {
      folder?: string
      inner?: FakeInnerProducer
      disk?: Partial<Disk>
      maxBytes?: number
      fsync?: boolean
    } = {},
  ) {
    const isInMemory = options.disk instanceof FaultyDisk
    this.folder = isInMemory ? faultyFolder : (options.folder ?? temporaryFolder())
    this.inner = options.inner ?? new FakeInnerProducer()
    const disk = options.disk instanceof FaultyDisk ? options.disk : { ...realDisk, ...options.disk }
    const fd =
      options.disk instanceof FaultyDisk ? disk.openNow(this.folder, 'r') : openSync(this.folder, 'r')
    const segments = findSegments(this.folder, 'critical', this.logs, disk)
    this.producer = new DurableProducer({
      producer: this.inner,
      folder: { path: this.folder, fd, segments },
      spool: { fsync: options.fsync ?? true, maxBytes: options.maxBytes ?? 1 << 30 },
      logger: this.logs,
      disk,
    })
    onTestFinished(() => this.producer.abort())
  }

  /** One request, as a route makes it. @returns null when it is on disk, or why it is not. */
  async request(records: readonly TestRecord[]): Promise<string | null> {
    return await new Promise((resolve) => this.submit(records, resolve))
  }

  /**
   * As {@link request}, in this turn.
   * @param between what others do while the records are appended as those of a large request are.
   */
  submit(
    records: readonly TestRecord[],
    committed: (failure: string | null, isUndecided?: boolean) => void,
    noteKey: string | null = null,
    between: (() => void) | null = null,
  ): PendingBatch[] {
    const { producer } = this
    if (producer.admission !== 'open') {
      committed(producer.admission)
      return []
    }
    const sizeBytes = records.reduce(
      (sum, { key, value }) =>
        sum + recordSizeUpperBound(Buffer.byteLength(key ?? ''), Buffer.byteLength(value)),
      0,
    )
    if (!producer.reserve(sizeBytes)) {
      committed('full')
      return []
    }
    const commit = between === null ? null : producer.begin()
    const pending = records.map(({ key, value }, nth) => {
      if (nth === records.length - 1) between?.()
      const body = Buffer.from(value)
      const keyBuffer = key === null ? null : Buffer.from(key)
      return (commit ?? producer).append(RecordBytes.of(body, keyBuffer, Date.now()))
    })
    const target = commit ?? producer
    if (noteKey !== null && records.length > 0) target.note(noteKey, Buffer.alloc(0), Date.now() + 1e9)
    target.commit({ committed })
    return pending
  }

  /** The folder as it is at this moment, with what is being written in it. */
  copy(): string {
    return copyOfFolder(this.folder)
  }

  /** Lets the loop turn until something holds. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await pause(1)
  }

  /** The sum that has to hold at every moment: accepted + recovered - spooled - in memory - outcomes. */
  get imbalance(): number {
    const { stats } = this.producer
    const { accepted, recovered, spooled, buffered, inFlight } = stats
    return accepted + recovered - spooled - buffered - inFlight - sumOfOutcomes(stats)
  }
}

/** Records of which the test needs no more than their number. */
export function numbered(count: number, from = 0, key: string | null = null): TestRecord[] {
  return Array.from({ length: count }, (_, nth) => ({ key, value: String(from + nth) }))
}

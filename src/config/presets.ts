import type { BuiltInSchema, Delivery, Preset, ProducerConfig } from './config.ts'
import type { RecordKeySource } from './record-sources.ts'

/** The settings of a producer that a preset decides. Each other setting of a producer has one default for all presets. */
export type PresetRow = Pick<
  ProducerConfig,
  | 'acks'
  | 'retries'
  | 'retryBackoffMs'
  | 'lingerMs'
  | 'batchSizeBytes'
  | 'bufferMemoryBytes'
  | 'maxInFlight'
  | 'compressionType'
>

const telemetry: PresetRow = {
  acks: 0,
  retries: 0,
  retryBackoffMs: 100,
  lingerMs: 5,
  batchSizeBytes: 32_768,
  bufferMemoryBytes: 67_108_864,
  maxInFlight: 1_000,
  compressionType: 'none',
}

/**
 * The producer configurations of docs/delivery-model.md: fire and forget, log streaming, and critical data. `device` and `reports`
 * are fire and forget for certain clients: they differ in {@link presetTraits}.
 */
export const presets: Readonly<Record<Preset, PresetRow>> = {
  telemetry,
  device: telemetry,
  reports: telemetry,
  logs: {
    acks: 0,
    retries: 0,
    retryBackoffMs: 100,
    lingerMs: 100,
    batchSizeBytes: 1_048_576,
    bufferMemoryBytes: 67_108_864,
    maxInFlight: 1_000,
    compressionType: 'lz4',
  },
  critical: {
    acks: -1,
    retries: 2_147_483_647,
    retryBackoffMs: 100,
    lingerMs: 5,
    batchSizeBytes: 32_768,
    bufferMemoryBytes: 67_108_864,
    // One batch of a partition at a time, so that the order stays when a batch is sent again.
    maxInFlight: 1,
    compressionType: 'none',
  },
}

/** What a preset decides beside the producer, unless the stream says otherwise. */
export interface PresetTraits {
  /** `dedupe` is on, whatever the delivery. */
  readonly tellsDuplicates: boolean
  readonly schema: BuiltInSchema
}

/** See {@link PresetTraits}. `device` is for clients that send again, and `reports` for the reports that browsers send by themselves. */
export const presetTraits: Readonly<Record<Preset, PresetTraits>> = {
  telemetry: { tellsDuplicates: false, schema: 'telemetry' },
  device: { tellsDuplicates: true, schema: 'telemetry' },
  reports: { tellsDuplicates: false, schema: 'reports' },
  logs: { tellsDuplicates: false, schema: 'telemetry' },
  critical: { tellsDuplicates: false, schema: 'telemetry' },
}

/** The `key` of a stream with each built-in schema, unless the stream says otherwise. A report has nothing that keeps an order. */
export const defaultKey: Readonly<Record<BuiltInSchema, RecordKeySource>> = {
  telemetry: 'source',
  page: '/session',
  reports: 'none',
  any: 'source',
}

/** The preset of a stream that names none. */
export const defaultPreset: Readonly<Record<Delivery, Preset>> = {
  'at-most-once': 'telemetry',
  'at-least-once': 'critical',
}

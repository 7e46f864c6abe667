import type { Delivery, Preset, ProducerConfig } from './config.ts'

/** The settings that a preset decides. Each other setting has one default for all presets. */
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
 * The producer configurations of docs/delivery-model.md: fire and forget, log streaming, and critical data. `device` is fire and
 * forget for clients that send again: such a stream tells duplicates ({@link tellsDuplicates}).
 */
export const presets: Readonly<Record<Preset, PresetRow>> = {
  telemetry,
  device: telemetry,
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

/** Whether `dedupe` is on with a preset, whatever the delivery. */
export const tellsDuplicates: Readonly<Record<Preset, boolean>> = {
  telemetry: false,
  device: true,
  logs: false,
  critical: false,
}

/** The preset of a stream that names none. */
export const defaultPreset: Readonly<Record<Delivery, Preset>> = {
  'at-most-once': 'telemetry',
  'at-least-once': 'critical',
}

import zlib from 'node:zlib'
import type { z } from 'zod'
import {
  compressionTypes,
  resends,
  type CompressionType,
  type Delivery,
  type Preset,
  type ProducerConfig,
} from './config.ts'
import { presets } from './presets.ts'
import type { FieldValues } from './read-fields.ts'
import { Refusal, oneOf, quote, setting, trueOrFalse, wholeNumber } from './setting.ts'

/** A `delivery.timeout.ms` that never runs out. The file writes it as `unlimited`. */
export const unlimitedMs = Number.MAX_SAFE_INTEGER

/** The settings of `producer:` of a stream, with Kafka's own names, units and bounds (`ProducerConfig.java`). */
export const producerShape = {
  acks: acks().optional(),
  retries: wholeNumber(null, 0).optional(),
  'retry.backoff.ms': wholeNumber('milliseconds', 0).optional(),
  'linger.ms': wholeNumber('milliseconds', 0).optional(),
  'batch.size': wholeNumber('bytes', 1).optional(),
  'buffer.memory': wholeNumber('bytes', 1, Number.MAX_SAFE_INTEGER).optional(),
  'max.block.ms': wholeNumber('milliseconds', 0).optional(),
  'max.in.flight.requests.per.connection': wholeNumber(null, 1).optional(),
  'delivery.timeout.ms': deliveryTimeout().optional(),
  'request.timeout.ms': wholeNumber('milliseconds', 1).optional(),
  'max.request.size': wholeNumber('bytes', 1).optional(),
  'compression.type': compressionType().optional(),
  'enable.idempotence': trueOrFalse().optional(),
  'confirm.interval.ms': wholeNumber('milliseconds', 1).optional(),
} satisfies z.ZodRawShape

/** The settings of `producer:` that could be read. */
export type ProducerValues = FieldValues<typeof producerShape>

/** The room that the default of `max.request.size` leaves for a produce request around its largest batch, in bytes. */
const requestOverheadBytes = 1_024

/** Kafka's default of `max.request.size`, in bytes. */
const defaultMaxRequestSizeBytes = 1_048_576

/** The defaults of a producer depend on this. */
export interface ProducerContext {
  readonly delivery: Delivery
  readonly preset: Preset
  /** `confirm: on`. It has no effect with acks=all, where the answer of the broker confirms. */
  readonly confirm: boolean
}

/** Fills in the preset and the defaults. stream-contradictions.ts judges the result. */
export function resolveProducer(values: ProducerValues, context: ProducerContext): ProducerConfig {
  const preset = presets[context.preset]
  const atLeastOnce = resends[context.delivery]
  const sent = values.acks ?? preset.acks
  const batchSizeBytes = values['batch.size'] ?? preset.batchSizeBytes
  return {
    acks: sent,
    retries: values.retries ?? preset.retries,
    retryBackoffMs: values['retry.backoff.ms'] ?? preset.retryBackoffMs,
    lingerMs: values['linger.ms'] ?? preset.lingerMs,
    batchSizeBytes,
    bufferMemoryBytes: values['buffer.memory'] ?? preset.bufferMemoryBytes,
    maxBlockMs: values['max.block.ms'] ?? 60_000,
    maxInFlight:
      values['max.in.flight.requests.per.connection'] ??
      (atLeastOnce ? presets.critical.maxInFlight : preset.maxInFlight),
    deliveryTimeoutMs: values['delivery.timeout.ms'] ?? (atLeastOnce ? unlimitedMs : 120_000),
    requestTimeoutMs: values['request.timeout.ms'] ?? 30_000,
    maxRequestSizeBytes:
      values['max.request.size'] ??
      Math.max(defaultMaxRequestSizeBytes, batchSizeBytes + requestOverheadBytes),
    compressionType: values['compression.type'] ?? preset.compressionType,
    enableIdempotence: values['enable.idempotence'] ?? (atLeastOnce && sent === -1),
    confirmIntervalMs:
      context.confirm && sent !== -1 && !atLeastOnce ? (values['confirm.interval.ms'] ?? 20) : null,
  }
}

function acks() {
  return setting<ProducerConfig['acks']>((value) => {
    const given = String(value).trim().toLowerCase()
    if (given === 'all' || given === '-1') return -1
    if (given === '0') return 0
    if (given === '1') return 1
    return new Refusal(`is ${quote(value)}`, 'Give 0, 1 or all.')
  })
}

function deliveryTimeout() {
  const milliseconds = wholeNumber('milliseconds', 1)
  return setting<number>((value) => {
    if (value === 'unlimited') return unlimitedMs
    const result = milliseconds.safeParse(value)
    if (result.success) return result.data
    const issue = result.error.issues[0]
    const { remedy } = (issue?.code === 'custom' ? issue.params : {}) as { readonly remedy: string }
    return new Refusal(issue?.message ?? 'is wrong', `${remedy} Or: unlimited.`)
  })
}

function compressionType() {
  const known = oneOf(compressionTypes)
  return known.transform((type, context): CompressionType => {
    if (type !== 'zstd' || 'zstdCompress' in zlib) return type
    context.addIssue({
      code: 'custom',
      message: `is "zstd", which Node ${process.versions.node} does not have`,
      params: { remedy: 'Use Node 22.15 or newer, or lz4.' },
    })
    return type
  })
}

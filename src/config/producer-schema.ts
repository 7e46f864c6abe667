import { z } from 'zod'
import {
  compressionTraits,
  compressionTypes,
  resends,
  type CompressionType,
  type Delivery,
  type Preset,
  type ProducerConfig,
} from './config.ts'
import { presets } from './presets.ts'
import { defaultsOf, type FieldValues } from './read-fields.ts'
import { type Flaw, maxInt32, oneOf, reference, refuseIf, trueOrFalse, wholeNumber } from './setting.ts'

/** A `delivery.timeout.ms` that never runs out. The file writes it as `unlimited`. */
export const unlimitedMs = Number.MAX_SAFE_INTEGER

/** The settings of `producer:` of a stream, with Kafka's own names, units and bounds (`ProducerConfig.java`). */
export const producerShape = {
  acks: acks().optional().register(reference, {
    what: 'who has to have a batch before it counts: nobody, the leader, all in-sync replicas',
    byDefault: '*',
  }),
  retries: wholeNumber(null, 0).optional().register(reference, {
    what: 'how often a failed batch is sent again; 0 on every at-most-once stream',
    byDefault: '*',
  }),
  'retry.backoff.ms': wholeNumber('milliseconds', 0)
    .optional()
    .register(reference, { what: 'pause before a batch is sent again', byDefault: '* ({})' }),
  'linger.ms': wholeNumber('milliseconds', 0).optional().register(reference, {
    what: 'longest wait for a batch to fill; one that a client waits for (`Prefer: wait`) goes sooner',
    byDefault: '*',
  }),
  'batch.size': wholeNumber('bytes', 1).optional().register(reference, {
    what: 'a batch is closed when the next record would pass it; a larger record goes alone',
    byDefault: '*',
  }),
  'buffer.memory': wholeNumber('bytes', 1, Number.MAX_SAFE_INTEGER).optional().register(reference, {
    what: 'ceiling of what is queued, in the socket and unconfirmed; then `onBufferFull` decides',
    byDefault: '*',
  }),
  'max.block.ms': wholeNumber('milliseconds', 0)
    .default(60_000)
    .register(reference, { what: 'longest wait for room with `onBufferFull: block`' }),
  'max.in.flight.requests.per.connection': wholeNumber(null, 1).optional().register(reference, {
    what: 'produce requests that are written and not confirmed; at-least-once has one batch a partition, and takes no other value',
    byDefault: '*',
  }),
  'delivery.timeout.ms': deliveryTimeout().optional().register(reference, {
    what: "from acceptance to outcome; a record that was not written by then is dropped as `expired`. What is under way is waited for, `request.timeout.ms` at most. Kafka's default is 120000 for both; a stream that promises not to lose does not give up by itself",
    byDefault: 'at-most-once: 120000; at-least-once: `unlimited`',
  }),
  'request.timeout.ms': wholeNumber('milliseconds', 1)
    .default(30_000)
    .register(reference, { what: "longest wait for a broker's reply" }),
  'max.request.size': wholeNumber('bytes', 1).optional().register(reference, {
    what: "ceiling of a produce request, and so of a record. With `preset: logs` it is 1049600, since a full batch of 1 MiB and the request around it would not fit Kafka's default",
    byDefault: '{}, or `batch.size` + 1024 if that is more',
  }),
  'compression.type': compressionType()
    .optional()
    .register(reference, { what: ['the batches', ...nodesOfCodecs()].join('; '), byDefault: '*' }),
  'enable.idempotence': trueOrFalse.optional().register(reference, {
    what: 'sequence numbers, so that a batch that is sent again is stored once',
    byDefault: '`true` for at-least-once with acks=all',
  }),
  'confirm.interval.ms': wholeNumber('milliseconds', 1).optional().register(reference, {
    what: 'how often, and with a write twice as often, the brokers are asked how far all in-sync replicas have what was written (two small ListOffsets requests, which nothing waits for; where a client waits, they go right behind the write). What was written since is what the death of a broker makes doubtful, so a small interval loses and flags less',
  }),
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
  const set = { ...defaultsOf(producerShape), ...values }
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
    maxBlockMs: set['max.block.ms'],
    maxInFlight:
      values['max.in.flight.requests.per.connection'] ??
      (atLeastOnce ? presets.critical.maxInFlight : preset.maxInFlight),
    deliveryTimeoutMs: values['delivery.timeout.ms'] ?? (atLeastOnce ? unlimitedMs : 120_000),
    requestTimeoutMs: set['request.timeout.ms'],
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
  const word = oneOf(['all', '-1', '0', '1']).transform((each) => sentAcks[each])
  return z
    .union([z.literal([0, 1, -1]), word])
    .register(reference, { give: '0, 1 or all', takes: '`0`, `1`, `all` (or `-1`)' })
}

/** The words of `acks`, and the number that stands for each in a produce request. */
const sentAcks = { all: -1, '-1': -1, '0': 0, '1': 1 } as const

function deliveryTimeout() {
  const bounds = { unit: 'milliseconds', least: 1, most: maxInt32, or: 'unlimited' } as const
  const unlimited = z.literal(bounds.or).transform(() => unlimitedMs)
  const milliseconds = wholeNumber(bounds.unit, bounds.least, bounds.most)
  return z.union([unlimited, milliseconds]).register(reference, { bounds })
}

function compressionType() {
  return oneOf(compressionTypes).check(refuseIf(flawOfCodec))
}

function flawOfCodec(type: CompressionType): Flaw | null {
  const { isHere, sinceNode } = compressionTraits[type]
  if (isHere) return null
  return {
    problem: `is "${type}", which Node ${process.versions.node} does not have`,
    remedy: `Use Node ${sinceNode} or newer, or lz4.`,
  }
}

function nodesOfCodecs(): string[] {
  return compressionTypes.flatMap((type) => {
    const { sinceNode } = compressionTraits[type]
    return sinceNode === null ? [] : [`\`${type}\` needs Node ${sinceNode}`]
  })
}

import { type FailedHandshake, failedHandshakes } from './edge-telemetry.ts'
import type { MergeableFamily } from './family.ts'

/** TLS of a gateway at one instant. */
export interface TlsStats {
  /** null: the event port speaks plain HTTP. */
  readonly failed: Readonly<Record<FailedHandshake, number>> | null
  /** The own certificates, and the Unix time in milliseconds at which the first of each chain ends. */
  readonly certificates: readonly { readonly certificate: string; readonly notAfterMs: number }[]
}

/** TLS as metrics. A gateway without TLS has none. */
export function collectTlsMetrics({ failed, certificates }: TlsStats): MergeableFamily[] {
  const families: MergeableFamily[] = []
  if (failed !== null)
    families.push({
      name: 'chute_tls_handshakes_failed_total',
      help: 'Connections to the event port that ended before TLS was agreed on, by the reason.',
      type: 'counter',
      samples: failedHandshakes.map((reason) => ({ suffix: '', labels: { reason }, value: failed[reason] })),
    })
  if (certificates.length > 0)
    families.push({
      name: 'chute_tls_certificate_not_after_timestamp_seconds',
      help: 'Unix time at which a certificate of the gateway ends: of the event port (server), or of its connections to Kafka (kafka_client). With a chain, the first end.',
      type: 'gauge',
      merge: 'min',
      samples: certificates.map(({ certificate, notAfterMs }) => ({
        suffix: '',
        labels: { certificate },
        value: notAfterMs / 1_000,
      })),
    })
  return families
}

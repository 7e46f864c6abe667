import { totalsOf } from '../kafka/audit/audit-report.ts'
import { lossRatioOf, type ClientFigures, type ClientFindings } from '../kafka/audit/session-book.ts'
import type { AuditFindings, WriterFindings } from '../kafka/audit/topic-audit.ts'
import { writeText, type ExpositionText, type Scrape } from './exposition.ts'
import type { CollectedFamily, Labels } from './family.ts'
import { collectProcessMetrics, watchProcess } from './process-metrics.ts'

/**
 * The metrics of `chute audit --follow`, with the labels `topic` and `partition`. A writer is one run of a gateway, so writers
 * are no label: their numbers are added up here, and the report lists them one by one.
 */
export class AuditMetrics implements Scrape {
  readonly #collect: () => CollectedFamily[]

  private constructor(collect: () => CollectedFamily[]) {
    this.#collect = collect
    watchProcess()
  }

  /** Those of `chute audit`. */
  static ofTopic(findings: () => AuditFindings): AuditMetrics {
    return new AuditMetrics(() => collectAudit(findings()))
  }

  /** Those of `chute audit --clients`. Their labels are `topic` and `browser`: a closed set. The report has keys and days. */
  static ofClients(findings: () => ClientFindings): AuditMetrics {
    return new AuditMetrics(() => collectClients(findings()))
  }

  /** @inheritdoc */
  async text(accept: string | undefined): Promise<ExpositionText> {
    const ofProcess = await collectProcessMetrics()
    return writeText([...this.#collect(), ...ofProcess], accept)
  }
}

function collectAudit(findings: AuditFindings): CollectedFamily[] {
  const { topic, partitions, writers } = findings
  const sample = (labels: Labels, value: number) => ({ suffix: '', labels: { topic, ...labels }, value })
  const byPartition = (read: (partition: number) => number) =>
    partitions.map(({ partition }) => sample({ partition: String(partition) }, read(partition)))
  const sumOf = (key: keyof WriterFindings & ('lost' | 'duplicated' | 'reordered')) =>
    byPartition((partition) =>
      writers
        .filter((writer) => writer.partition === partition)
        .reduce((sum, writer) => sum + writer[key], 0),
    )
  return [
    {
      name: 'chute_audit_records_total',
      help: 'Records read, by whether they have a mark.',
      type: 'counter',
      samples: partitions.flatMap(({ partition, records, unmarked }) => [
        sample({ partition: String(partition), marked: 'true' }, records - unmarked),
        sample({ partition: String(partition), marked: 'false' }, unmarked),
      ]),
    },
    {
      name: 'chute_audit_lost_records',
      help: 'Numbered records that are not in the topic, though later ones of their writer are. It falls when one comes late.',
      type: 'gauge',
      samples: sumOf('lost'),
    },
    {
      name: 'chute_audit_duplicated_total',
      help: 'Records whose number had been there before.',
      type: 'counter',
      samples: sumOf('duplicated'),
    },
    {
      name: 'chute_audit_reordered_total',
      help: 'Records behind one with a higher number of the same writer and partition.',
      type: 'counter',
      samples: sumOf('reordered'),
    },
    {
      name: 'chute_audit_loss_ratio',
      help: 'Lost as a part of lost and found, 0 to 1; NaN while no record has a mark.',
      type: 'gauge',
      samples: [sample({}, totalsOf(findings).lossRatio ?? Number.NaN)],
    },
  ]
}

const clientFamilies = [
  ['chute_audit_client_sessions', 'sessions', 'Sessions of browsers that are known of.'],
  ['chute_audit_client_open_sessions', 'open', 'Sessions that had an event within the gap of sessions.'],
  ['chute_audit_client_told_sessions', 'endsTold', 'Sessions whose end a later session has told.'],
  [
    'chute_audit_client_seen_events',
    'seen',
    'Events of the browser client that are in the topic, each counted once.',
  ],
  [
    'chute_audit_client_missing_events',
    'missing',
    'Events of closed sessions that are not in the topic, though later ones are. It falls when one comes late.',
  ],
  [
    'chute_audit_client_missing_at_end_events',
    'missingAtEnd',
    'Events of closed sessions that are not in the topic, by the word of a later session. It falls when one comes late.',
  ],
  ['chute_audit_client_duplicated_events', 'duplicated', 'Events whose number had been there before.'],
  [
    'chute_audit_client_reordered_events',
    'reordered',
    'Events behind one with a higher number of their session in the same partition.',
  ],
  [
    'chute_audit_client_late_events',
    'late',
    'Events of a session that had been silent for longer than the gap of sessions.',
  ],
] as const satisfies readonly (readonly [string, keyof ClientFigures, string])[]

function collectClients({ topic, totals, byBrowser }: ClientFindings): CollectedFamily[] {
  const families = clientFamilies.map(([name, figure, help]) => ({
    name,
    help,
    type: 'gauge' as const,
    samples: byBrowser.map((each) => ({
      suffix: '',
      labels: { topic, browser: each.name },
      value: each[figure],
    })),
  }))
  const ratio = {
    name: 'chute_audit_client_loss_ratio',
    help: 'Missing events, inside and at the end, as a part of all that are known of, 0 to 1; NaN while none is.',
    type: 'gauge' as const,
    samples: [{ suffix: '', labels: { topic }, value: lossRatioOf(totals) ?? Number.NaN }],
  }
  return [...families, ratio]
}

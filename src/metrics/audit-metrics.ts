import { totalsOf } from '../kafka/audit/audit-report.ts'
import type { AuditFindings, WriterFindings } from '../kafka/audit/topic-audit.ts'
import { writeText, type ExpositionText, type Scrape } from './exposition.ts'
import type { CollectedFamily, Labels } from './family.ts'
import { collectProcessMetrics, watchProcess } from './process-metrics.ts'

/**
 * The metrics of `chute audit --follow`, with the labels `topic` and `partition`. A writer is one run of a gateway, so writers
 * are no label: their numbers are added up here, and the report lists them one by one.
 */
export class AuditMetrics implements Scrape {
  readonly #findings: () => AuditFindings

  constructor(findings: () => AuditFindings) {
    this.#findings = findings
    watchProcess()
  }

  /** @inheritdoc */
  async text(accept: string | undefined): Promise<ExpositionText> {
    const ofProcess = await collectProcessMetrics()
    return writeText([...collectAudit(this.#findings()), ...ofProcess], accept)
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

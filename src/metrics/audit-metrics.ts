import { totalsOf } from '../kafka/audit/audit-report.ts'
import type { AuditFindings, WriterFindings } from '../kafka/audit/topic-audit.ts'
import { contentTypes, writeExposition, type CollectedFamily, type Labels } from './exposition.ts'
import type { LinesOfText } from './metrics-snapshot.ts'
import { negotiateFormat } from './negotiate-format.ts'
import { collectProcessMetrics, watchProcess } from './process-metrics.ts'

/**
 * What `chute audit --follow` knows, with the labels `topic` and `partition`. Writers come and go with every start of a
 * gateway, so they are added up here and listed in the report.
 */
export class AuditMetrics {
  readonly #findings: () => AuditFindings

  constructor(findings: () => AuditFindings) {
    this.#findings = findings
    watchProcess()
  }

  /** One scrape, in the format that `accept` asks for. */
  async text(accept: string | undefined): Promise<LinesOfText> {
    const format = negotiateFormat(accept)
    const ofProcess = await collectProcessMetrics()
    const lines = writeExposition([...collectAudit(this.#findings()), ...ofProcess], format)
    return { contentType: contentTypes[format], lines }
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

import { expect, test } from 'vitest'
import { ConsumerMetrics } from '../../../src/metrics/consumer-metrics.ts'
import { consumerStats } from '../../support/consumer-stats.ts'
import { parseExposition } from '../../support/parse-exposition.ts'

const owner = { group: 'g', topic: 't' }

async function scrape(metrics: ConsumerMetrics, accept?: string) {
  const format = accept === undefined ? 'prometheus' : 'openmetrics'
  return parseExposition([...(await metrics.text(accept)).lines].join(''), format)
}

test('a scrape shows the account, the lag of each partition and the time of commits', async () => {
  const metrics = new ConsumerMetrics(owner)
  metrics.observe(() =>
    consumerStats({
      consumed: 100,
      processed: 80,
      lost: 10,
      returned: 5,
      pending: 5,
      commitLatencyAvgMs: 2.5,
      joined: true,
      partitions: [
        { partition: 0, position: 7, lag: 3 },
        { partition: 4, position: null, lag: null },
      ],
    }),
  )
  metrics.committed(2.5)
  metrics.committed(40)
  for (const accept of [undefined, 'application/openmetrics-text']) {
    const families = await scrape(metrics, accept)
    const samples = [...families.values()].flatMap((family) => family.samples)
    const valuesOf = (name: string) =>
      samples.filter((sample) => sample.name === name).map(({ labels, value }) => ({ ...labels, value }))
    expect(valuesOf('kafka_consumer_records_consumed_total')).toEqual([{ ...owner, value: 100 }])
    expect(valuesOf('kafka_consumer_commit_latency_avg')).toEqual([{ ...owner, value: 2.5 }])
    expect(valuesOf('kafka_consumer_records_lag')).toEqual([
      { ...owner, partition: '0', value: 3 },
      { ...owner, partition: '4', value: Number.NaN },
    ])
    const outcomes = valuesOf('chute_consumer_records_total')
    const sum = outcomes.reduce((total, { value }) => total + value, 0)
    expect(sum + valuesOf('chute_consumer_records_pending')[0]!.value).toBe(100)
    expect(valuesOf('kafka_consumer_commit_latency_seconds_count')).toEqual([{ ...owner, value: 2 }])
    expect(valuesOf('kafka_consumer_commit_latency_seconds_sum')).toEqual([{ ...owner, value: 0.0425 }])
  }
})

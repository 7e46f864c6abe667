import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { TopicAudit } from '../../../src/kafka/audit/topic-audit.ts'
import { AuditMetrics } from '../../../src/metrics/audit-metrics.ts'
import { parse } from 'yaml'
import { ConsumerMetrics } from '../../../src/metrics/consumer-metrics.ts'
import { Metrics } from '../../../src/metrics/metrics.ts'
import { collectWorkerMetrics } from '../../../src/workers/group-readiness.ts'
import { consumerStats } from '../../support/consumer-stats.ts'
import { parseExposition } from '../../support/parse-exposition.ts'
import { producerStats } from '../../support/producer-stats.ts'
import { hasPrometheus, rulesFolder } from '../../support/prometheus.ts'

const namePattern = /(?<![\w:])(?:chute|kafka_producer|kafka_consumer|process|nodejs)_\w+(?=[{[\s)\\"]|$)/gm

/** Every name that a scrape of a consumer has, with one partition. */
async function consumerNames(): Promise<string[]> {
  const metrics = new ConsumerMetrics({ group: 'g', topic: 't' })
  metrics.observe(() => consumerStats({ partitions: [{ partition: 0, position: 0, lag: 0 }] }))
  const families = parseExposition((await metrics.text(undefined)).body, 'prometheus')
  return [...families.values()].flatMap(({ samples }) => samples.map(({ name }) => name))
}

async function auditNames(): Promise<string[]> {
  const { findings } = new TopicAudit('t', new Map([[0, 0]]))
  const { body } = await new AuditMetrics(() => findings).text(undefined)
  return [...parseExposition(body, 'prometheus').values()].flatMap(({ samples }) =>
    samples.map(({ name }) => name),
  )
}

const spool = {
  records: 0,
  bytes: 0,
  maxBytes: 1,
  oldestAgeSeconds: 0,
  drained: 0,
  writeFailures: 0,
  readFailures: 0,
  available: true,
}

/** Every name that a scrape of a gateway with one durable stream and workers has, one of a consumer, or one of an audit. */
async function exposedNames(): Promise<Set<string>> {
  const metrics = new Metrics('1.2.3')
  const logEndOffsets = [{ partition: 0, baseOffset: 0, logEndOffset: 0, written: 0 }]
  metrics.observe(() => [producerStats({ logEndOffsets, spool })])
  metrics.observeDedupe(() => ({ isStoreUp: true, streams: [] }))
  metrics.producerTelemetry('metrics-realtime', 'realtime-topic')
  metrics.httpTimer('GET', '/')
  const families = parseExposition((await metrics.text(undefined)).body, 'prometheus')
  const names = [...families.values()].flatMap(({ samples }) => samples.map(({ name }) => name))
  const ofWorkers = collectWorkerMetrics(new Map(), 0).map(({ name }) => name)
  return new Set([...names, ...ofWorkers, ...(await consumerNames()), ...(await auditNames())])
}

const ruleTests = readdirSync('deploy/prometheus').filter((name) => name.endsWith('.test.yml'))

test.skipIf(!hasPrometheus).each(ruleTests)('the rules do what %s says', (name) => {
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', `deploy/prometheus/${name}`], {
    encoding: 'utf8',
  })
  expect({ status, said: stdout + stderr }).toMatchObject({ status: 0 })
})

interface RuleFile {
  readonly groups: readonly { readonly rules: readonly { readonly alert?: string }[] }[]
}

interface RuleTests {
  readonly tests: readonly {
    readonly alert_rule_test?: readonly {
      readonly alertname: string
      readonly exp_alerts: readonly object[]
    }[]
  }[]
}

function readYaml<T>(path: string): T {
  return parse(readFileSync(path, 'utf8')) as T
}

const alerts = readdirSync(rulesFolder)
  .flatMap((file) => readYaml<RuleFile>(`${rulesFolder}/${file}`).groups)
  .flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? []))

test('every alert has a case in which it fires and one in which it is quiet', () => {
  const cases = ruleTests
    .flatMap((file) => readYaml<RuleTests>(`deploy/prometheus/${file}`).tests)
    .flatMap((each) => each.alert_rule_test ?? [])
  const named = (fires: boolean): Set<string> =>
    new Set(cases.filter((each) => each.exp_alerts.length > 0 === fires).map(({ alertname }) => alertname))
  expect(alerts.length).toBeGreaterThan(15)
  expect(named(true)).toEqual(new Set(alerts))
  expect(named(false)).toEqual(new Set(alerts))
})

test('every alert is described once in docs/operations.md, and no other', () => {
  const described = readFileSync('docs/operations.md', 'utf8').matchAll(/^\| `(Chute\w+)` \|/gm)
  expect(Array.from(described, ([, alert]) => alert).toSorted()).toEqual(alerts.toSorted())
})

const readers = [
  'deploy/prometheus/rules/chute.yml',
  'deploy/prometheus/rules/chute-consumer.yml',
  'deploy/grafana/dashboards/chute.json',
]

test.each(readers)('every metric that %s names is exposed', async (path) => {
  const expressions = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => !/^\s*(#|description:|summary:|"description":)/.test(line))
    .join('\n')
  const named = new Set(expressions.match(namePattern))
  expect(named.size).toBeGreaterThan(4)
  const exposed = await exposedNames()
  expect([...named].filter((name) => !exposed.has(name))).toEqual([])
})

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { readConsumeArguments } from '../../../src/commands/consume-command.ts'
import { SessionBook } from '../../../src/kafka/audit/session-book.ts'
import { TopicAudit } from '../../../src/kafka/audit/topic-audit.ts'
import { AuditMetrics } from '../../../src/metrics/audit-metrics.ts'
import { ConsumerMetrics } from '../../../src/metrics/consumer-metrics.ts'
import { Metrics } from '../../../src/metrics/metrics.ts'
import { Reloads } from '../../../src/metrics/reload-metrics.ts'
import { collectWorkerMetrics } from '../../../src/workers/group-view.ts'
import { consumerStats } from '../../support/consumer-stats.ts'
import { parseExposition } from '../../support/parse-exposition.ts'
import { producerStats } from '../../support/producer-stats.ts'
import { hasPrometheus, rulesFolder } from '../../support/prometheus.ts'
import { isLong } from '../../support/forms.ts'

const namePattern = /(?<![\w:])(?:chute|kafka_producer|kafka_consumer|process|nodejs)_\w+(?=[{[\s)\\"]|$)/gm

/** Every name that a scrape of a consumer has, with one partition. */
async function consumerNames(): Promise<string[]> {
  const metrics = new ConsumerMetrics({ group: 'g', topic: 't' })
  metrics.observe(() => consumerStats({ partitions: [{ partition: 0, position: 0, lag: 0 }] }))
  const families = parseExposition([...(await metrics.text(undefined)).lines].join(''), 'prometheus')
  return [...families.values()].flatMap(({ samples }) => samples.map(({ name }) => name))
}

async function auditNames(): Promise<string[]> {
  const { findings } = new TopicAudit('t', new Map([[0, 0]]))
  const options = { sessionGapMs: 1, maxSessions: 1, keyHeader: 'key', browserHeader: 'ua' }
  const book = new SessionBook('t', new Map(), options)
  book.take({ partition: 0, timestampMs: 0, headers: {}, value: Buffer.from('{"session":"1","id":"1-1"}') })
  const scrapes = [AuditMetrics.ofTopic(() => findings), AuditMetrics.ofClients(() => book.findings(0))]
  const texts = await Promise.all(scrapes.map(async (scrape) => await scrape.text(undefined)))
  return texts.flatMap(({ lines }) =>
    [...parseExposition([...lines].join(''), 'prometheus').values()].flatMap(({ samples }) =>
      samples.map(({ name }) => name),
    ),
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
  metrics.observeTls(() => ({ failed: null, certificates: [{ certificate: 'server', notAfterMs: 0 }] }))
  metrics.observeReloads(new Reloads(1))
  metrics.observeLimits(() => ({
    limited: {},
    store: { isUp: true, unanswered: 0 },
    connections: 0,
    bodies: 0,
    refusedConnections: { all: 0, address: 0 },
  }))
  metrics.producerTelemetry('metrics-realtime', 'realtime-topic')
  metrics.httpTimer('GET', '/')
  const families = parseExposition([...(await metrics.text(undefined)).lines].join(''), 'prometheus')
  const names = [...families.values()].flatMap(({ samples }) => samples.map(({ name }) => name))
  const ofWorkers = collectWorkerMetrics(new Map(), 0).map(({ name }) => name)
  return new Set([...names, ...ofWorkers, ...(await consumerNames()), ...(await auditNames())])
}

test('every metric of Chute is in a page of docs/', async () => {
  const pages = readdirSync('docs').filter((name) => name.endsWith('.md'))
  const text = pages.map((name) => readFileSync(`docs/${name}`, 'utf8')).join('')
  const exposed = [...(await exposedNames())].filter((name) => /^(chute|kafka)_/.test(name))
  const families = new Set(exposed.map((name) => name.replace(/_(bucket|sum|count)$/, '')))
  expect([...families].filter((name) => !text.includes(name))).toEqual([])
})

const ruleTests = readdirSync('deploy/prometheus').filter((name) => name.endsWith('.test.yml'))

test.runIf(hasPrometheus && isLong).each(ruleTests)('the rules do what %s says', (name) => {
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', `deploy/prometheus/${name}`], {
    encoding: 'utf8',
  })
  expect({ status, said: stdout + stderr }).toMatchObject({ status: 0 })
})

interface RuleFile {
  readonly groups: readonly {
    readonly rules: readonly { readonly alert?: string; readonly record?: string }[]
  }[]
}

interface RuleTests {
  readonly tests: readonly {
    readonly alert_rule_test?: readonly {
      readonly alertname: string
      readonly exp_alerts: readonly object[]
    }[]
  }[]
}

function readYaml(path: string): unknown {
  return parse(readFileSync(path, 'utf8'))
}

const rules = readdirSync(rulesFolder)
  .flatMap((file) => (readYaml(`${rulesFolder}/${file}`) as RuleFile).groups)
  .flatMap((group) => group.rules)
const alerts = rules.flatMap(({ alert }) => alert ?? [])
const recorded = new Set(rules.flatMap(({ record }) => record ?? []))

/** Names of recording rules in an expression: they have colons, and no metric of Chute has. */
function recordedNamesIn(text: string): string[] {
  return text.match(/\b[a-z_]+:\w+(:\w+)?\b/g) ?? []
}

test('every alert has a case in which it fires and one in which it is quiet', () => {
  const cases = ruleTests
    .flatMap((file) => (readYaml(`deploy/prometheus/${file}`) as RuleTests).tests)
    .flatMap((each) => each.alert_rule_test ?? [])
  const named = (fires: boolean): Set<string> =>
    new Set(cases.filter((each) => each.exp_alerts.length > 0 === fires).map(({ alertname }) => alertname))
  expect(alerts.length).toBeGreaterThan(15)
  expect(named(true)).toEqual(new Set(alerts))
  expect(named(false)).toEqual(new Set(alerts))
})

test('every alert is described once in docs/operations.md, and no other', () => {
  const rows = readFileSync('docs/operations.md', 'utf8').matchAll(/^\| `(Chute\w+)` \|/gm)
  const described = Array.from(rows, ([, alert]) => alert)
  expect(new Set(described)).toEqual(new Set(alerts))
  expect(described).toHaveLength(alerts.length)
})

test('every alert has a query in docs/operations.md that tells one gateway from all of them, and Prometheus takes it', async () => {
  const page = readFileSync('docs/operations.md', 'utf8')
  const queries = alerts.map((alert) => {
    const runbook =
      new RegExp(`^- \\*\\*${alert}\\.\\*\\*(?:.|\\n(?! *\\n|- \\*\\*))*`, 'm').exec(page)?.[0] ?? ''
    return { alert, query: /^  - One or all\? `([^`]+)`\. \S/m.exec(runbook)?.[1] ?? '' }
  })
  expect(queries.filter(({ query }) => query === '')).toEqual([])
  const exposed = await exposedNames()
  const text = queries.map(({ query }) => query).join('\n')
  expect((text.match(namePattern) ?? []).filter((name) => !exposed.has(name))).toEqual([])
  expect(recordedNamesIn(text).filter((name) => !recorded.has(name))).toEqual([])
  if (!hasPrometheus) return
  const file = {
    groups: [{ name: 'runbooks', rules: queries.map(({ alert, query }) => ({ alert, expr: query })) }],
  }
  const folder = mkdtempSync(join(tmpdir(), 'chute-runbooks-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'rules.yml'), stringify(file))
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', join(folder, 'rules.yml')], {
    encoding: 'utf8',
  })
  expect({ status, said: stdout + stderr }).toMatchObject({ status: 0 })
})

interface Dashboard {
  readonly panels: readonly {
    readonly id: number
    readonly title: string
    readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>
    readonly targets?: readonly { readonly expr: string }[]
  }[]
}

test('the dashboard names recording rules that exist, has a row of the whole fleet, and no panel covers another', () => {
  const { panels } = JSON.parse(readFileSync('deploy/grafana/dashboards/chute.json', 'utf8')) as Dashboard
  const text = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)).join('\n')
  const named = new Set(recordedNamesIn(text))
  expect([...named].filter((name) => !recorded.has(name))).toEqual([])
  // What adds up the fleet, or counts gateways, is shown.
  const ofFleet = [...recorded].filter((name) =>
    /^(job|stream|stream_outcome|stream_state|code|topic):.*:(?!rate)/.test(name),
  )
  const parts = /^topic:chute_(log_growth|records_written):/
  expect(ofFleet.filter((name) => !named.has(name) && !parts.test(name))).toEqual([])
  expect(panels.map(({ title }) => title)).toContain('Fleet: all gateways together, restarts included')
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, nth) => `${x + (nth % w)}/${y + Math.floor(nth / w)}`),
  )
  expect(new Set(cells).size).toBe(cells.length)
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
})

interface Stack {
  readonly services: Readonly<
    Record<
      string,
      {
        command?: readonly string[]
        volumes?: readonly string[]
        environment?: Readonly<Record<string, string>>
      }
    >
  >
}

interface PrometheusConfig {
  readonly scrape_configs: readonly {
    readonly job_name: string
    readonly static_configs: readonly { readonly targets: readonly string[] }[]
  }[]
}

const { services } = readYaml('compose.yaml') as Stack

test('the stack scrapes the services that it has, no alert goes by the name of a job, and what is mounted is there', () => {
  const { scrape_configs: jobs } = readYaml('deploy/prometheus/prometheus.yml') as PrometheusConfig
  const targets = jobs.map(({ job_name: job, static_configs: configs }) => [
    job,
    ...configs.flatMap((each) => each.targets),
  ])
  expect(targets).toEqual([
    ['chute', 'chute:8080'],
    ['consumer', 'consumer:9464'],
  ])
  expect(Object.keys(services)).toEqual(expect.arrayContaining(['chute', 'consumer']))
  const texts = readers.slice(0, 2).map((path) => readFileSync(path, 'utf8'))
  expect(texts.join('')).not.toMatch(/job\s*(=|!)/)
  const mounted = Object.values(services).flatMap(({ volumes = [] }) => volumes)
  const paths = mounted.filter((each) => each.startsWith('./')).map((each) => each.split(':')[0]!)
  expect(paths.length).toBeGreaterThan(2)
  expect(paths.filter((path) => !existsSync(path))).toEqual([])
})

test('local.yml is prometheus.yml for services on this machine', () => {
  const stack = readFileSync('deploy/prometheus/prometheus.yml', 'utf8')
  // A gateway on a loopback address needs no keys.
  const onThisMachine = stack
    .replace(/^ +#.*\n +authorization: .*\n/m, '')
    .replaceAll(/'\w+:(\d+)'/g, "'127.0.0.1:$1'")
  expect(readYaml('deploy/prometheus/local.yml')).toEqual(parse(onThisMachine))
})

test("the stack and docs/deploy.md set every variable of Grafana's provisioning, and none is a path or an address of Docker's", () => {
  const folder = 'deploy/grafana/provisioning'
  const files = ['dashboards/chute.yml', 'datasources/prometheus.yml']
  const text = files.map((file) => readFileSync(`${folder}/${file}`, 'utf8')).join('')
  const variables = Array.from(text.matchAll(/\$(\w+)/g), ([, name]) => name!)
  expect(variables).toEqual(['CHUTE_DASHBOARDS', 'PROMETHEUS_URL'])
  expect(text.match(/: (\/|https?:)/)).toBeNull()
  const { environment, volumes } = services['grafana']!
  expect(Object.keys(environment!)).toEqual(expect.arrayContaining(variables))
  expect(volumes).toContain(`./deploy/grafana/dashboards:${environment!['CHUTE_DASHBOARDS']}:ro`)
  const page = readFileSync('docs/deploy.md', 'utf8')
  for (const variable of variables) expect(page).toMatch(new RegExp(`^ *${variable}=`, 'm'))
})

test("the stack's consumer has a command line that is right, and can be scraped from outside of its container", () => {
  const [node, main, command, ...args] = services['consumer']!.command!
  expect([node, main, command]).toEqual(['node', 'dist/main.js', 'consume'])
  expect(readConsumeArguments(args)).toMatchObject({
    consumer: { topic: 'metrics-realtime' },
    metrics: { host: '0.0.0.0', port: 9464 },
  })
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

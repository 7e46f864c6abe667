import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Metrics } from '../../../src/metrics/metrics.ts'
import { parseExposition } from '../../support/parse-exposition.ts'
import { producerStats } from '../../support/producer-stats.ts'

const namePattern = /(?<![\w:])(?:chute|kafka_producer|process|nodejs)_\w+(?=[{[\s)\\"]|$)/gm

/** Every name that a scrape of a gateway with one stream has. */
async function exposedNames(): Promise<Set<string>> {
  const metrics = new Metrics('1.2.3')
  const logEndOffsets = [{ partition: 0, baseOffset: 0, logEndOffset: 0, written: 0 }]
  metrics.observe(() => [producerStats({ logEndOffsets })])
  metrics.producerTelemetry('metrics-realtime', 'realtime-topic')
  metrics.httpTimer('GET', '/')
  const families = parseExposition((await metrics.text(undefined)).body, 'prometheus')
  return new Set([...families.values()].flatMap(({ samples }) => samples.map(({ name }) => name)))
}

/** https://prometheus.io/docs/prometheus/latest/command-line/promtool/ */
const hasPromtool = spawnSync('promtool', ['--version']).status === 0

const ruleTests = readdirSync('deploy/prometheus').filter((name) => name.endsWith('.test.yml'))

test.skipIf(!hasPromtool).each(ruleTests)('the rules do what %s says', (name) => {
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', `deploy/prometheus/${name}`], {
    encoding: 'utf8',
  })
  expect({ status, said: stdout + stderr }).toMatchObject({ status: 0 })
})

test.each(['deploy/prometheus/rules/chute.yml', 'deploy/grafana/dashboards/chute.json'])(
  'every metric that %s names is exposed',
  async (path) => {
    const expressions = readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => !/^\s*(#|description:|summary:|"description":)/.test(line))
      .join('\n')
    const named = new Set(expressions.match(namePattern))
    expect(named.size).toBeGreaterThan(5)
    const exposed = await exposedNames()
    expect([...named].filter((name) => !exposed.has(name))).toEqual([])
  },
)

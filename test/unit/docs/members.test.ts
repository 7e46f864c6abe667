import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { codesOf, operations } from '../../../dev/openapi-operations.ts'
import { passwordMechanisms, saslMechanisms } from '../../../src/config/kafka-login.ts'
import { errorTable } from '../../../src/errors.ts'
import { AuditHeaders } from '../../../src/kafka/producer/record-headers.ts'
import {
  dropReasons,
  keptOutcomes,
  outcomes,
  outcomeTraits,
  type Outcome,
} from '../../../src/kafka/producer/outcome.ts'
import { invalidResults } from '../../../src/metrics/edge-telemetry.ts'
import { rulesFolder } from '../../support/prometheus.ts'

/**
 * Lists of members that are written by hand, in pages and in files of `deploy/`. A failure names the file, the place in the file, and the
 * member that is missing there.
 */
function names(file: string, place: RegExp, members: readonly string[], only = false): void {
  const text = place.exec(readFileSync(file, 'utf8'))?.[0] ?? ''
  const where = `${file}, at ${String(place)}`
  expect.soft(text, where).not.toBe('')
  const named = new Set(Array.from(text.matchAll(/`([a-z_]+)(?:\{reason\})?`/g), ([, name]) => name!))
  const missing = members.filter((member) => !named.has(member))
  expect.soft(missing, `missing in ${where}`).toEqual([])
  if (!only) return
  const others = outcomes.filter((outcome) => named.has(outcome) && !members.includes(outcome))
  expect.soft(others, `too many in ${where}`).toEqual([])
}

const those = (has: (traits: (typeof outcomeTraits)[Outcome]) => boolean): Outcome[] =>
  outcomes.filter((outcome) => has(outcomeTraits[outcome]))

describe('outcomes', () => {
  const losses = those(({ isLoss }) => isLoss)

  test('have their rows', () => {
    names('docs/semantics.md', /^### Outcomes$[^]*?^The reasons/m, outcomes)
    names('docs/semantics.md', /^The reasons of `dropped`:$[^]*?^#/m, dropReasons)
    names(
      'DESIGN.md',
      /^## When can a batch fail\?$[^]*?^## /m,
      those(({ isDelivered }) => !isDelivered),
    )
  })

  test('that are losses are what the fault suite calls flagged', () => {
    const text = /^\| flagged \|.*$/m.exec(readFileSync('docs/reliability.md', 'utf8'))![0]
    for (const outcome of losses)
      expect.soft(text, 'docs/reliability.md').toContain(`\`${outcomeTraits[outcome].field}`)
  })

  test('are named where pages list those that have something in common', () => {
    names(
      'docs/tracing.md',
      /^- \*\*A span is an error\*\*.*?\)/m,
      those(({ isError }) => isError),
      true,
    )
    const isHeld = (inTopic: string) => keptOutcomes.filter((each) => outcomeTraits[each].inTopic === inTopic)
    names('docs/audit.md', /^\| in doubt .*$/m, isHeld('maybe'), true)
    names('docs/audit.md', /^differs when a record is missing that it calls .*?,/m, isHeld('yes'), true)
    const judged = those(({ isJudged }) => isJudged)
    names('docs/semantics.md', /÷ \(.*?\)(?= \| everything that was written)/, judged, true)
  })

  test('add up in the live page, and losses in the alerts, the dashboard and the runbook', () => {
    const page = readFileSync('public/live.js', 'utf8')
    for (const outcome of outcomes) {
      const sum = outcomeTraits[outcome].isLoss ? 'lostRecords' : 'keptRecords'
      const line = new RegExp(`^const ${sum} = .*$`, 'm').exec(page)![0]
      expect
        .soft(line, `${sum} in public/live.js`)
        .toMatch(new RegExp(`stream\\.${outcomeTraits[outcome].field}\\b`))
    }
    const files = readdirSync(rulesFolder).map((name) => `${rulesFolder}/${name}`)
    for (const file of [...files, 'deploy/grafana/dashboards/chute.json', 'docs/operations.md'])
      for (const [, list] of readFileSync(file, 'utf8').matchAll(/outcome=~\\?"(.*?dropped.*?)\\?"/g))
        expect
          .soft({ file, outcomes: list!.split('|').toSorted() })
          .toEqual({ file, outcomes: losses.toSorted() })
  })
})

test('results of invalid events have their rows', () => {
  names('docs/records.md', /^\| `kept` \|[^]*?^$/m, invalidResults)
})

describe('problem codes', () => {
  test('of single events are listed where an invalid topic gets them', () => {
    names('docs/records.md', /^- \*\*Which events\.\*\*[^]*?\. They come/m, codesOf('event'))
  })

  test('are each tried by a test', () => {
    const folders = ['test/integration', 'test/e2e']
    const files = folders.flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`))
    const tests = files.filter((name) => name.endsWith('.ts')).map((name) => readFileSync(name, 'utf8'))
    const missing = Object.keys(errorTable).filter(
      (code) => !tests.some((text) => text.includes(`'${code}'`) || text.includes(`"${code}"`)),
    )
    expect(
      missing,
      `no test of ${folders.join(' or ')} names it (test/integration/refusals.test.ts?)`,
    ).toEqual([])
  })

  test('that tell of a fault of the gateway or of Kafka raise no alert about clients', () => {
    const file = `${rulesFolder}/chute.yml`
    const pattern = /chute_requests_refused_total\{code!~"(.*?)"\}/.exec(readFileSync(file, 'utf8'))![1]!
    const left = new RegExp(`^(?:${pattern})$`)
    // Many bodies at once are the clients' doing. The records of a failed delivery were accepted, and no metric calls the request refused.
    const notOfTheGateway = new Set(['too_many_bodies', 'delivery_failed'])
    // A stream is retired for clients that nobody can change.
    const expected = Object.entries(errorTable).flatMap(([code, { status }]) =>
      (status >= 500 && !notOfTheGateway.has(code)) || code === 'stream_retired' ? [code] : [],
    )
    expect({ file, codes: Object.keys(errorTable).filter((code) => left.test(code)) }).toEqual({
      file,
      codes: expected,
    })
  })
})

describe('SASL mechanisms', () => {
  test('have a word in docs/brokers.md', () => {
    const page = readFileSync('docs/brokers.md', 'utf8')
    const missing = saslMechanisms.filter((each) => !new RegExp(`[\`=]${each}\\b`).test(page))
    expect.soft(missing, 'missing in docs/brokers.md').toEqual([])
  })

  test('with a password are values of the chart', () => {
    const folder = 'deploy/helm/chute'
    const schema = JSON.parse(readFileSync(`${folder}/values.schema.json`, 'utf8')) as {
      properties: { kafka: { properties: { sasl: { properties: { mechanism: { enum: string[] } } } } } }
    }
    expect
      .soft(schema.properties.kafka.properties.sasl.properties.mechanism.enum, `${folder}/values.schema.json`)
      .toEqual(['', ...passwordMechanisms])
    const values = readFileSync(`${folder}/values.yaml`, 'utf8')
    expect(parse(values)).toMatchObject({ kafka: { sasl: { mechanism: '' } } })
    const comment = /^ *# (.*)\n *mechanism: ''$/m.exec(values)![1]!
    for (const mechanism of passwordMechanisms)
      expect.soft(comment, `${folder}/values.yaml`).toContain(`\`${mechanism}\``)
  })
})

describe('pages of the gateway', () => {
  const listed = operations.filter(({ tag }) => tag === 'operation')

  test.each(['docs/deploy.md', 'docs/security.md'])('%s says on which port each of them is', (file) => {
    const text = readFileSync(file, 'utf8')
    const missing = listed.filter(
      ({ path }) => !text.includes(`\`${path}\``) && !text.includes(`\`${path.replace(/\.\w+$/, '.*')}\``),
    )
    expect(
      missing.map(({ path }) => path),
      `missing in ${file}`,
    ).toEqual([])
  })

  test('README.md has those for people', () => {
    const text = readFileSync('README.md', 'utf8')
    const html = listed.filter(({ replies }) => JSON.stringify(replies).includes('text/html'))
    expect(html.length).toBeGreaterThan(1)
    for (const { path } of html) expect(text, 'README.md').toMatch(new RegExp(`^\\| .*\`${path}\``, 'm'))
  })
})

test('the audit header is as long as docs/audit.md says', () => {
  // A record without headers has their count, too: one byte.
  const { headerBytes } = new AuditHeaders()
  expect(readFileSync('docs/audit.md', 'utf8')).toContain(
    `In all a record is ${headerBytes - 1} bytes longer`,
  )
})

test('CONTRIBUTING.md names files and names of the code that there are', () => {
  const folders = ['src', 'test', 'dev', 'client', 'public', 'deploy', 'docs']
  const paths = folders
    .flatMap((folder) =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`),
    )
    .concat(readdirSync('.'))
  const section = /^## To add …$[^]*?(?=^## The docs site$)/m.exec(
    readFileSync('CONTRIBUTING.md', 'utf8'),
  )![0]
  const quoted = Array.from(
    section.replaceAll(/^```[^]*?^```$/gm, '').matchAll(/`([^`\n]+)`|(docs\/[\w-]+\.md)/g),
    ([, code, page]) => (code ?? page!).replace('/NAME.', '/live.'),
  )
  const files = quoted.filter((name) => /^[\w./-]+\.(ts|js|md|ya?ml|json|py|tpl|html)$/.test(name))
  expect(files.length).toBeGreaterThan(60)
  expect(files.filter((name) => !paths.some((path) => `/${path}`.endsWith(`/${name}`)))).toEqual([])
  const code = paths
    .filter((path) => /^(src|dev|client|public)\/.*\.(ts|js)$|\.tpl$|^compose/.test(path))
    .map((path) => readFileSync(path, 'utf8'))
    .join('\n')
  const symbols = quoted.filter((name) => /^[#\w]+(\.[#\w]+)*$/.test(name) && !files.includes(name))
  const isThere = (name: string): boolean => name.split('.').every((part) => code.includes(part))
  expect(symbols.length).toBeGreaterThan(60)
  expect(symbols.filter((name) => !isThere(name))).toEqual([])
})

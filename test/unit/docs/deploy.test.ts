import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { envoyFile, haproxyFile, nginxFile } from '../../support/balancer-files.ts'

const page = readFileSync('docs/deploy.md', 'utf8')

interface Row {
  readonly server?: string
  readonly stream?: string
  readonly quantity?: string
  readonly size?: string
  readonly request?: string
  readonly cpuMicrosPerEvent: number
  readonly ratio?: number
}

/** The row of a kept result that has these fields. */
function rowOf(bench: string, fields: Partial<Row>): Row {
  const { rows } = JSON.parse(readFileSync(`bench/results/${bench}.json`, 'utf8')) as { rows: Row[] }
  return rows.find((row) =>
    Object.entries(fields).every(([name, value]) => row[name as keyof Row] === value),
  )!
}

describe('docs/deploy.md', () => {
  test('has the figures of the benches, and no others', () => {
    const single = rowOf('ingest', { server: 'Chute', request: 'single event' }).cpuMicrosPerEvent
    const many = rowOf('ingest', { server: 'Chute', request: 'NDJSON of 100' }).cpuMicrosPerEvent
    expect(page).toContain(
      `${single.toFixed(1)} µs for a single event, ${many.toFixed(1)} µs for one of an NDJSON request of 100`,
    )
    for (const rate of [1_000, 10_000, 100_000]) {
      const cores = [single, many].map((micros) => ((rate * micros) / 1e6).toFixed(2))
      expect(page).toContain(`| ${rate.toLocaleString('en')} | ${cores.join(' | ')} |`)
    }
    const most = rowOf('durable', { stream: 'at-most-once', request: 'single event' }).cpuMicrosPerEvent
    expect(page).toContain(`up to ${most.toFixed(1)} µs`)
    const { ratio } = rowOf('growth', { quantity: 'streams', size: '50' })
    expect(page).toContain(`50 streams took ${ratio!.toFixed(2)} times as much`)
    const memory = /resident memory (\d+ to \d+ MiB)/i.exec(readFileSync('docs/performance.md', 'utf8'))![1]!
    expect(page).toContain(`${memory} resident in ten minutes`)
  })
})

describe('docs/load-balancers.md', () => {
  test.each([[haproxyFile], [nginxFile], [envoyFile]])('quotes %s, which tests run', (file) => {
    const config = readFileSync(file, 'utf8')
    expect(readFileSync('docs/load-balancers.md', 'utf8')).toMatch(
      new RegExp(`\`\`\`\\w*\\n${escaped(config)}\`\`\``),
    )
    // What the tests replace by ports of their own.
    for (const port of ['8000', '8081', '8082'])
      expect(config.match(new RegExp(`\\b${port}\\b`, 'g'))).toHaveLength(1)
  })
})

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { haproxyFile, nginxFile } from '../../support/balancers.ts'

const page = readFileSync('docs/deploy.md', 'utf8')

describe('docs/deploy.md', () => {
  test.each([[haproxyFile], [nginxFile]])('quotes %s, which the test of restarts runs', (file) => {
    const config = readFileSync(file, 'utf8')
    expect(page).toContain(`\`\`\`\n${config}\`\`\``)
    // What that test replaces by ports of its own.
    for (const port of ['8000', '8081', '8082']) expect(config.split(`127.0.0.1:${port}`)).toHaveLength(2)
  })

  test('has the figures of the benches', () => {
    const { rows } = JSON.parse(readFileSync('bench/results/ingest.json', 'utf8')) as {
      rows: { server: string; request: string; cpuMicrosPerEvent: number }[]
    }
    const microsOf = (name: string): string =>
      rows.find(({ server, request }) => server === 'Chute' && request === name)!.cpuMicrosPerEvent.toFixed(1)
    expect(page).toContain(
      `${microsOf('single event')} µs for a single event, ${microsOf('NDJSON of 100')} µs for one of an NDJSON request of 100`,
    )
    const memory = /resident memory (\d+ to \d+ MiB)/.exec(readFileSync('docs/performance.md', 'utf8'))![1]!
    expect(page).toContain(`${memory} resident in ten minutes`)
  })
})

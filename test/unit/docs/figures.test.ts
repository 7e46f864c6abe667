import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

test('README.md compares with the figures of docs/reliability.md', () => {
  const table = readFileSync('docs/reliability.md', 'utf8')
  const row = /^\| kill -9 and restart, 1,500\/s \| (\d+) \| (\d+) \| (\d+) \|/m.exec(table)!
  const [accepted, lost, flagged] = row.slice(1).map(Number) as [number, number, number]
  const share = ((100 * lost) / accepted).toFixed(2)
  expect(readFileSync('README.md', 'utf8').replaceAll(/\s+/g, ' ')).toContain(
    `${lost} of ${accepted.toLocaleString('en')} lost, ${share} %, and ${flagged} flagged`,
  )
})

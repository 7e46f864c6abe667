import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { anchorOf, pageFor, sidebarOf, sitePathOf } from '../../../dev/docs-pages.ts'

const names = new Set([
  'README.md',
  'DESIGN.md',
  'docs/README.md',
  'docs/tls.md',
  'docs/security.md',
  'SECURITY.md',
])

test.each([
  ['docs/tls.md', '[a](security.md#keys)', '[a](./security.md#keys)'],
  ['docs/tls.md', '[a](../DESIGN.md)', '[a](./DESIGN.md)'],
  ['README.md', '[a](docs/tls.md), [b](#words)', '[a](./tls.md), [b](#words)'],
  ['docs/README.md', '[a](../README.md)', '[a](./index.md)'],
  ['docs/tls.md', '[a](https://a.example/)', '[a](https://a.example/)'],
  ['docs/tls.md', '![plot](plots/a.svg)', '![plot](./plots/a.svg)'],
  ['docs/tls.md', '```\n[a](security.md)\n```', '```\n[a](security.md)\n```'],
])('a link of %s is where its target is on the site: %s', (name, text, expected) => {
  expect(pageFor(name, text, { names, sourceUrl: null })).toBe(`::: v-pre\n\n${expected}\n\n:::\n`)
})

test('a link to a file that is no page leads to the sources, or is text', () => {
  const text = '[rules](../deploy/prometheus/rules)'
  expect(pageFor('docs/tls.md', text, { names, sourceUrl: 'https://a.example/x' })).toContain(
    '[rules](https://a.example/x/deploy/prometheus/rules)',
  )
  expect(pageFor('docs/tls.md', text, { names, sourceUrl: null })).toContain('\n\nrules\n\n')
})

test('anchors are those of GitHub', () => {
  expect(anchorOf('Where did my event go?')).toBe('where-did-my-event-go')
  expect(anchorOf('`LOG_FORMAT`, and more')).toBe('log_format-and-more')
})

test('each page of the repository has a place of its own on the site, and stands in the sidebar', () => {
  const files = readdirSync('docs').flatMap((file) => (file.endsWith('.md') ? [`docs/${file}`] : []))
  const all = ['README.md', 'DESIGN.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', ...files]
  const paths = all.map((name) => sitePathOf(name).toLowerCase())
  expect(new Set(paths).size).toBe(all.length)
  const sidebar = sidebarOf(new Map(all.map((name) => [name, readFileSync(name, 'utf8')])))
  expect(sidebar).toHaveLength(all.length - 1)
  expect(sidebar[0]!.link).toBe('/guides')
})

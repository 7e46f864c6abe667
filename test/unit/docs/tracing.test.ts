import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

test('docs/tracing.md quotes the file that a test runs, and installs the versions that the test has', () => {
  const page = readFileSync('docs/tracing.md', 'utf8')
  const file = readFileSync('deploy/tracing/otel.mjs', 'utf8')
  expect(page.replaceAll(/^ {3}/gm, '')).toContain(`\`\`\`js\n${file}\`\`\``)
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, { version: string }>
  }
  const imported = [...file.matchAll(/from '(.*)'/g)].map(([, name]) => name!)
  const pinned = imported.map((name) => {
    const [major, minor] = packages[`node_modules/${name}`]!.version.split('.') as [string, string]
    return new RegExp(`${name}@${major}(?:\\.${minor})?[ \\n]`)
  })
  expect(pinned).toHaveLength(4)
  for (const pattern of pinned) expect(page).toMatch(pattern)
})

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const pages = [
  'README.md',
  'DESIGN.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync('docs').map((file) => `docs/${file}`),
]
  .filter((file) => file.endsWith('.md'))
  .map((path) => ({ path, text: readFileSync(path, 'utf8') }))

test.each(pages)('each link of $path leads to a file, and to a heading of it', ({ path, text }) => {
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!)
  const broken = targets.filter((target) => {
    if (/^[a-z]+:/.test(target)) return false
    const [file = '', anchor] = target.split('#')
    const named = file === '' ? path : join(dirname(path), file)
    if (!existsSync(named)) return true
    return (
      anchor !== undefined && named.endsWith('.md') && !anchorsOf(readFileSync(named, 'utf8')).has(anchor)
    )
  })
  expect(broken).toEqual([])
})

/** The anchors that GitHub gives to headings: in lower case, blanks as dashes, without other punctuation. */
function anchorsOf(text: string): ReadonlySet<string> {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading!.trim().toLowerCase())
  return new Set(headings.map((heading) => heading.replaceAll(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-')))
}

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const pages = ['README.md', 'DESIGN.md', ...readdirSync('docs').map((file) => `docs/${file}`)].filter(
  (file) => file.endsWith('.md'),
)

/** A file, and the names of tests in it: `test/a.test.ts`: “one”, “two”. */
const naming = /`(test\/[\w/.-]+\.test\.ts)`(?:: ((?:“[^”]+”(?:, )?)+))?/g

/** Every test that the pages name, as file and name; the name is null where only the file is named. */
function namedTests(): { page: string; file: string; name: string | null }[] {
  return pages.flatMap((page) =>
    [...readFileSync(page, 'utf8').replaceAll(/\s+/g, ' ').matchAll(naming)].flatMap(([, file, names]) => {
      const titles = [...(names ?? '').matchAll(/“([^”]+)”/g)].map(([, title]) => title!)
      return (titles.length === 0 ? [null] : titles).map((name) => ({ page, file: file!, name }))
    }),
  )
}

describe('a test that a page names', () => {
  test('is there, under that name', () => {
    const named = namedTests()
    expect(named.length).toBeGreaterThan(15)
    const missing = named.filter(
      ({ file, name }) =>
        !existsSync(file) || (name !== null && !readFileSync(file, 'utf8').includes(`'${name}'`)),
    )
    expect(missing).toEqual([])
  })
})

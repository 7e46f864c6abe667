import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

/** The rows of "Where to begin reading" in DESIGN.md: a folder and its first file. */
function rows(): { folder: string; file: string }[] {
  const [, table = ''] = readFileSync('DESIGN.md', 'utf8').split('## Where to begin reading')
  return [...table.matchAll(/^\| `(src\/[^`]*)` \| `([^`]+)` \|/gm)].map(([, folder, file]) => ({
    folder: folder!,
    file: file!,
  }))
}

describe('the file that DESIGN.md tells to read first in a folder', () => {
  test('is there, and says so itself', () => {
    expect(rows().length).toBeGreaterThan(15)
    const silent = rows().filter(({ folder, file }) => {
      const path = `${folder}${file}`
      return (
        !existsSync(path) || !/[Rr]ead\s+(?:\*\s+)?this\s+(?:\*\s+)?file/.test(readFileSync(path, 'utf8'))
      )
    })
    expect(silent).toEqual([])
  })
})

import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { buildClient } from '../../../dev/build-client.ts'

test('the browser client has at most 2,048 bytes as gzip', () => {
  const script = readFileSync(new URL('../../../public/chute.js', import.meta.url))
  expect(gzipSync(script, { level: 9 }).length).toBeLessThanOrEqual(2_048)
})

test('the script that the gateway serves is made of client/: run `npx tsx dev/client.ts`', async () => {
  const served = readFileSync(new URL('../../../public/chute.js', import.meta.url), 'utf8')
  expect(await buildClient()).toBe(served)
})

test('the browser client listens neither to unload nor to beforeunload, which keep a page out of the back/forward cache', () => {
  const script = readFileSync(new URL('../../../public/chute.js', import.meta.url), 'utf8')
  expect(script).not.toMatch(/unload/)
  expect(script).toContain('pagehide')
})

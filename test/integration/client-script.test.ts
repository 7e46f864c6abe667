import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { afterEach, expect, test } from 'vitest'
import { buildEdge, type Edge } from '../support/edge.ts'

const script = readFileSync(new URL('../../public/chute.js', import.meta.url))
const anyKey = { name: 'web', kind: 'public', sha256: ['0'.repeat(64)] } as const
let edge: Edge

afterEach(async () => {
  expect(edge.faults).toEqual([])
  await edge.app.close()
})

test('/chute.js is for pages of every origin, needs no key, and tells its name by hash', async () => {
  const key = {
    ...anyKey,
    streams: ['*'],
    origins: [],
    sources: null,
    notAfterMs: null,
    limits: null,
    addressLimits: null,
  }
  edge = buildEdge({ keys: [key] })
  const reply = await edge.app.inject({ url: '/chute.js', headers: { origin: 'https://shop.example' } })
  expect([reply.statusCode, reply.rawPayload.equals(script)]).toEqual([200, true])
  expect(reply.headers).toMatchObject({
    'access-control-allow-origin': '*',
    'cache-control': 'public, max-age=300',
    'content-type': 'text/javascript; charset=utf-8',
    'cross-origin-resource-policy': 'cross-origin',
  })
  const byHash = await edge.app.inject({ url: String(reply.headers['content-location']) })
  expect([byHash.statusCode, byHash.rawPayload.equals(script)]).toEqual([200, true])
  expect(byHash.headers['cache-control']).toBe('public, max-age=31536000, immutable')
})

test('the name of another version is 404, and not the script of this version', async () => {
  edge = buildEdge()
  const hash = createHash('sha256').update('another').digest('base64url').slice(0, 16)
  const reply = await edge.app.inject({ url: `/chute.${hash}.js` })
  expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([404, 'not_found'])
})

test('/chute.js comes as gzip where that is asked for, and as 304 where the browser has it', async () => {
  edge = buildEdge()
  const zipped = await edge.app.inject({ url: '/chute.js', headers: { 'accept-encoding': 'gzip, br' } })
  expect(zipped.headers['content-encoding']).toBe('gzip')
  expect(gunzipSync(zipped.rawPayload).equals(script)).toBe(true)
  const etag = String(zipped.headers.etag)
  const again = await edge.app.inject({ url: '/chute.js', headers: { 'if-none-match': etag } })
  expect([again.statusCode, again.body, again.headers.etag]).toEqual([304, '', etag])
})

import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { readGatewayUrl, withoutSecrets } from '../../../src/commands/ask-gateway.ts'
import { fetchAccount } from '../../../src/commands/audit-command.ts'
import { countOf, keptOutcomes } from '../../../src/kafka/producer/outcome.ts'
import { makeAuthority } from '../../support/certificates.ts'

const account = { streams: [{ stream: 'web', audit: [] }] }
const pair = makeAuthority().issue('gateway')

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** What a gateway with keys answers for `/live.json`. */
function guarded(): Server {
  return createServer(({ headers }, response) => {
    const isKnown = headers.authorization === 'Bearer value-of-ops'
    const code = headers.authorization === undefined ? 'key_missing' : 'key_unknown'
    response.setHeader('content-type', isKnown ? 'application/json' : 'application/problem+json')
    response.statusCode = isKnown ? 200 : 401
    response.end(JSON.stringify(isKnown ? account : { code, detail: 'no key has this value' }))
  })
}

test('the account of a gateway with keys is read with the admin key, and a refusal says how to give one', async () => {
  const url = `http://127.0.0.1:${await listen(guarded())}`
  expect(await fetchAccount(url, 'value-of-ops')).toMatchObject(account.streams)
  await expect(fetchAccount(url)).rejects.toThrow(
    /needs an admin key: set CHUTE_ADMIN_KEY, or CHUTE_ADMIN_KEY_FILE/,
  )
  await expect(fetchAccount(url, 'guess')).rejects.toThrow(
    /does not take the key of CHUTE_ADMIN_KEY: no key has/,
  )
})

test('an account without an outcome, as an older version has it, counts no record with that outcome', async () => {
  const streams = [{ stream: 'web', audit: [], confirmed: 7 }]
  const server = createServer((_request, response) => response.end(JSON.stringify({ streams })))
  const [found] = await fetchAccount(`http://127.0.0.1:${await listen(server)}`)
  for (const outcome of keptOutcomes) expect(countOf(found!, outcome)).toBe(outcome === 'confirmed' ? 7 : 0)
})

test('a certificate that is not known, and a port that speaks no TLS, are told with the way out', async () => {
  const tls = await listen(createTlsServer(pair))
  const plain = await listen(guarded())
  await expect(fetchAccount(`https://127.0.0.1:${tls}`)).rejects.toThrow(/NODE_EXTRA_CA_CERTS/)
  await expect(fetchAccount(`https://127.0.0.1:${plain}`)).rejects.toThrow(/does not speak HTTPS.*http:\/\//)
})

test.each([
  'http://chk_secret@a',
  'http://:chk_secret@a',
  'http://a/?key=chk_secret',
  'ftp://chk_secret:@a/',
  'a?key=chk_secret&b',
])('a URL of a gateway with a key in it is refused, and the key is not shown: %s', (url) => {
  let message = ''
  try {
    readGatewayUrl('--gateway', url)
  } catch (error) {
    ;({ message } = error as Error)
  }
  expect(message).toMatch(/^--gateway (has a key in it.*CHUTE_ADMIN_KEY|must be an http)/)
  expect(message).not.toContain('chk_secret')
})

test('a text is shown without the users and keys of its URLs', () => {
  expect(withoutSecrets("Unexpected argument 'http://u:p@ss@a:80/b?x=1&key=k&y=2'")).toBe(
    "Unexpected argument 'http://***@a:80/b?x=1&key=***&y=2'",
  )
  expect(withoutSecrets('http://a:80/b@c')).toBe('http://a:80/b@c')
})

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { freePorts } from '../../../support/free-ports.ts'
import { BearerTokens, tokenSource, type BearerToken } from '../../../../src/kafka/network/bearer-tokens.ts'

describe('BearerTokens', () => {
  test('uses a token until a fifth of its time is left, and the old one while no new one can be had', async () => {
    let now = 0
    const answers: (BearerToken | Error)[] = [
      { value: 'first', endsAtMs: 1_000 },
      new Error('away'),
      { value: 'second', endsAtMs: 2_000 },
      new Error('away again'),
    ]
    let asked = 0
    const tokens = new BearerTokens(
      async () => {
        const answer = answers[asked++]!
        if (answer instanceof Error) throw answer
        return await Promise.resolve(answer)
      },
      { name: 'a source', limitMs: 10_000, now: () => now },
    )
    expect(await Promise.all([tokens.get(), tokens.get()])).toEqual(['first', 'first'])
    now = 799
    expect([await tokens.get(), asked]).toEqual(['first', 1])
    now = 800
    expect([await tokens.get(), asked]).toEqual(['first', 2])
    expect([await tokens.get(), asked]).toEqual(['second', 3])
    now = 2_000
    await expect(tokens.get()).rejects.toThrow('away again')
  })

  test('asks each time for a token that does not say when it ends', async () => {
    let asked = 0
    const tokens = new BearerTokens(
      async () => await Promise.resolve({ value: `t${++asked}`, endsAtMs: null }),
      { name: 'a source', limitMs: 10_000 },
    )
    expect([await tokens.get(), await tokens.get()]).toEqual(['t1', 't2'])
  })

  test('a source that never answers holds nobody up, and is asked no more than twice at a time', async () => {
    let asked = 0
    const tokens = new BearerTokens(async () => await new Promise(() => void asked++), {
      name: 'AWS',
      limitMs: 20,
    })
    const late = 'no token from AWS: no answer within 20 ms'
    const both = await Promise.allSettled([tokens.get(), tokens.get()])
    expect(both).toMatchObject([{ reason: { message: late } }, { reason: { message: late } }])
    await expect(tokens.get()).rejects.toThrow(late)
    const full = 'no token from AWS: 2 earlier attempts have no answer yet'
    await expect(tokens.get()).rejects.toThrow(full)
    await expect(tokens.get()).rejects.toThrow(full)
    expect(asked).toBe(2)
  })

  test('a token that comes too late serves the next connection, and the old one serves until then', async () => {
    let now = 0
    const answers: ((token: BearerToken) => void)[] = []
    const source = async (): Promise<BearerToken> => await new Promise((resolve) => answers.push(resolve))
    const tokens = new BearerTokens(source, { name: 'AWS', limitMs: 20, now: () => now })
    const first = tokens.get()
    answers[0]!({ value: 'first', endsAtMs: 1_000 })
    expect(await first).toBe('first')
    now = 800
    expect(await tokens.get()).toBe('first')
    answers[1]!({ value: 'second', endsAtMs: 2_000 })
    await nextTurn()
    now = 1_500
    expect([await tokens.get(), answers.length]).toEqual(['second', 2])
  })
})

/** A token endpoint that answers as told. */
async function endpointOf(
  answer: (request: IncomingMessage, form: URLSearchParams, response: ServerResponse) => void,
) {
  const server = createServer((request, response) => {
    void text(request).then((body) => answer(request, new URLSearchParams(body), response))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`
  const credentials = { clientId: 'a:b c', clientSecret: 'p%+&ä', scope: 'write', audience: 'kafka' }
  return { url, get: tokenSource({ from: 'endpoint', url, ...credentials }) }
}

function jwt(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  return `${part({ alg: 'none' })}.${part(claims)}.x`
}

describe('client credentials', () => {
  test('are sent as RFC 6749 has them, and the token is good for expires_in', async () => {
    const { get } = await endpointOf(({ method, headers }, form, response) => {
      expect(method).toBe('POST')
      expect(Object.fromEntries(form)).toEqual({
        grant_type: 'client_credentials',
        scope: 'write',
        audience: 'kafka',
      })
      const [kind, value = ''] = headers.authorization!.split(' ')
      expect([kind, Buffer.from(value, 'base64').toString()]).toEqual(['Basic', 'a%3Ab+c:p%25%2B%26%C3%A4'])
      response.end(JSON.stringify({ access_token: 'abc.DEF-_~+/==', token_type: 'Bearer', expires_in: 60 }))
    })
    const before = Date.now()
    const { value, endsAtMs } = await get()
    expect(value).toBe('abc.DEF-_~+/==')
    expect(endsAtMs).toBeGreaterThanOrEqual(before + 60_000)
    expect(endsAtMs).toBeLessThan(Date.now() + 60_001)
  })

  test('without expires_in, the token itself says when it ends', async () => {
    const token = jwt({ exp: 2_000_000_000 })
    const { get } = await endpointOf(
      (_request, _form, response) => void response.end(JSON.stringify({ access_token: token })),
    )
    expect(await get()).toEqual({ value: token, endsAtMs: 2_000_000_000_000 })
  })

  test.each([
    [
      401,
      '{"error":"invalid_client","error_description":"unknown client"}',
      /401 invalid_client: unknown client$/,
    ],
    [200, '{"token":"x"}', /no token from http:.*: 200$/],
    [502, '<html>', /: 502$/],
    [200, '{"access_token":"two words"}', /is no bearer token/],
    [302, '', /redirect/],
  ])('that are answered with %d %s say so, and no secret', async (status, body, message) => {
    const { get } = await endpointOf((_request, _form, response) => {
      response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end(body)
    })
    const error = await get().catch((failure: unknown) => failure as Error)
    expect((error as Error).message).toMatch(message)
    expect((error as Error).message).not.toContain('p%+&')
  })

  test('that nobody takes say where they were sent', async () => {
    const [port] = await freePorts(1)
    const get = tokenSource({
      from: 'endpoint',
      url: `http://127.0.0.1:${port}/token`,
      clientId: 'a',
      clientSecret: 'b',
      scope: null,
      audience: null,
    })
    await expect(get()).rejects.toThrow(/no token from http:.*\/token: .*ECONNREFUSED/)
  })
})

test('a file is read anew each time', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'chute-token-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'token')
  const get = tokenSource({ from: 'file', path })
  await expect(get()).rejects.toThrow(`no token in the file ${path}: ENOENT`)
  writeFileSync(path, `${jwt({ exp: 3 })}\n`)
  expect(await get()).toEqual({ value: jwt({ exp: 3 }), endsAtMs: 3_000 })
  writeFileSync(path, 'opaque')
  expect(await get()).toEqual({ value: 'opaque', endsAtMs: null })
  writeFileSync(path, '')
  await expect(get()).rejects.toThrow('is no bearer token')
})

test('a command prints a token, or says why not', async () => {
  expect(await tokenSource({ from: 'command', command: 'printf "abc\\n"' })()).toEqual({
    value: 'abc',
    endsAtMs: null,
  })
  const failing = tokenSource({ from: 'command', command: 'echo "not logged in" >&2; exit 3' })
  await expect(failing()).rejects.toThrow(/TOKEN_COMMAND: it ended with 3 \(not logged in\)/)
})

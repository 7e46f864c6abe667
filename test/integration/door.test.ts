import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import type { InjectOptions } from 'fastify'
import { afterEach, describe, expect, test } from 'vitest'
import type { KeyConfig } from '../../src/config/config.ts'
import { registerLivePage } from '../../src/routes/admin/live-page.ts'
import { buildEdge, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { byForm, isLong } from '../support/forms.ts'

/** Every combination at the door, each against a rule that is written here anew, and not as the code has it. */
let edge: Edge

afterEach(async () => {
  await edge.app.close()
})

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
const right = 'chk_pub_k3y0fthed00rk3y0fthed00rk3y0fth'

/** A key whose value is `value-of-NAME`. */
function key(name: string, more: Partial<KeyConfig> = {}): KeyConfig {
  const defaults = {
    kind: 'public',
    streams: ['own'],
    origins: [],
    sources: null,
    notAfterMs: null,
    limits: null,
    addressLimits: null,
  } as const
  return { name, sha256: [sha256(`value-of-${name}`)], ...defaults, ...more }
}

const page = 'https://app.example.com'
const listed = 'https://listed.example.com'
const keys = [
  key('page', { origins: [page] }),
  key('device'),
  key('service', { kind: 'secret' }),
  key('all', { kind: 'secret', streams: ['*'] }),
  key('prefix', { kind: 'secret', streams: ['o*'] }),
  key('ops', { kind: 'admin', streams: [] }),
  key('ended', { notAfterMs: 1 }),
  key('no-value', { sha256: [] }),
]

type Sent = { readonly headers: Record<string, string>; readonly query: string }
const forms: Readonly<Record<string, (value: string) => Sent>> = {
  Bearer: (value) => ({ headers: { authorization: `Bearer ${value}` }, query: '' }),
  Basic: (value) => ({
    headers: { authorization: `Basic ${Buffer.from(`${value}:`).toString('base64')}` },
    query: '',
  }),
  Token: (value) => ({ headers: { authorization: `Token ${value}` }, query: '' }),
  'X-Chute-Key': (value) => ({ headers: { 'x-chute-key': value }, query: '' }),
  '?key=': (value) => ({ headers: {}, query: `key=${encodeURIComponent(value)}` }),
}
const origins = [null, page, listed, 'http://gateway.example.com', 'https://evil.example.com', 'null']
const streamNames = ['own', 'other', 'nowhere']

/** What the issue says of a request. The name of the key is null where none is sent. */
function expected(
  name: string | null,
  { origin, stream, isPreflight }: { origin: string | null; stream: string; isPreflight: boolean },
): string {
  if (origin === 'https://evil.example.com' || origin === 'null') return 'origin_not_allowed'
  if (isPreflight) return 'ok'
  if (name === null) return 'key_missing'
  if (['ended', 'no-value', 'nobody'].includes(name)) return 'key_unknown'
  if (name === 'ops') return 'key_not_allowed'
  if (stream === 'other' && name !== 'all' && name !== 'prefix') return 'key_not_allowed'
  if (stream === 'other' && name === 'prefix') return 'ok-or-origin'
  if (stream === 'nowhere' && name !== 'all') return 'key_not_allowed'
  return 'ok-or-origin'
}

/** Origins decide last: a key with origins of its own has those, and any other key has those of CORS_ORIGINS and the gateway's own. */
function withOrigin(outcome: string, name: string | null, origin: string | null, stream: string): string {
  if (outcome !== 'ok-or-origin') return outcome
  const isOfKey = name === 'page' ? origin === page : origin !== page
  if (origin !== null && !isOfKey) return 'key_not_allowed'
  return stream === 'nowhere' ? 'unknown_stream' : 'ok'
}

const statusOf: Readonly<Record<string, number>> = {
  origin_not_allowed: 403,
  key_missing: 401,
  key_unknown: 401,
  key_not_allowed: 403,
  unknown_stream: 404,
}

let address = 0
/** No request is refused for the guesses of another one. */
function nextAddress(): string {
  address++
  return `2001:db8:${(address >> 16).toString(16)}:${(address & 0xffff).toString(16)}::1`
}

describe('keys × forms × kinds × origins × streams', () => {
  test.each([
    ['POST', '/v1/streams/', '', 202],
    ['POST', '/v1/beacon/', '', 202],
    ['GET', '/v1/beacon/', '.gif', 200],
    ['OPTIONS', '/v1/streams/', '', 204],
    ['OPTIONS', '/v1/beacon/', '', 204],
  ] as const)('%s %s…%s answers each combination as its rule says', async (method, prefix, suffix, good) => {
    edge = buildEdge({ keys, corsOrigins: [listed] }, [
      new FakeProducer({ name: 'own' }),
      new FakeProducer({ name: 'other' }),
    ])
    const none: Sent = { headers: {}, query: '' }
    const names = [...keys.map(({ name }) => name), 'nobody']
    const sent: [string | null, string, Sent][] = [[null, 'none', none]]
    for (const name of names)
      for (const [form, make] of Object.entries(forms)) sent.push([name, form, make(`value-of-${name}`)])
    let accepted = 0
    for (const [name, form, { headers, query }] of sent) {
      for (const origin of origins) {
        for (const stream of streamNames) {
          const isPreflight = method === 'OPTIONS'
          const outcome = withOrigin(expected(name, { origin, stream, isPreflight }), name, origin, stream)
          const options: InjectOptions = {
            method,
            url: `${prefix}${stream}${suffix}?name=a&value=1${query === '' ? '' : `&${query}`}`,
            remoteAddress: nextAddress(),
            headers: { host: 'gateway.example.com', ...headers, ...(origin !== null && { origin }) },
            ...(method === 'POST' && { payload: '{"name":"a","value":1}' }),
          }
          const reply = await edge.app.inject(options)
          const what = `${name} by ${form} of ${origin} to ${stream}`
          expect(reply.statusCode, what).toBe(outcome === 'ok' ? good : statusOf[outcome])
          if (outcome === 'ok') accepted++
          else expect(reply.json(), what).toMatchObject({ code: outcome })
          // A page can read each answer, unless no key lets its origin in.
          const isCross = origin === page || origin === listed
          expect(reply.headers['access-control-allow-origin'], what).toBe(isCross ? origin : undefined)
          const challenge = String(reply.headers['www-authenticate'] ?? '')
          expect(challenge.startsWith('Bearer realm="chute"'), what).toBe(reply.statusCode === 401)
          expect(reply.body + JSON.stringify(reply.headers), what).not.toContain('value-of-')
        }
      }
    }
    expect(accepted).toBeGreaterThan(10)
    const written = edge.producer.records.length
    if (method === 'OPTIONS') expect(written).toBe(0)
    else expect(written).toBeGreaterThan(0)
  })
})

test('an answer without a good key comes before the body', async () => {
  edge = buildEdge({ keys })
  await edge.app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = edge.app.server.address() as AddressInfo
  for (const [header, status] of [
    ['', 401],
    ['X-Chute-Key: nobody\r\n', 401],
    ['X-Chute-Key: value-of-ops\r\n', 403],
  ] as const) {
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `POST /v1/streams/own HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n${header}\r\n`,
    )
    const [bytes] = (await once(socket, 'data')) as [Buffer]
    expect(bytes.toString()).toContain(`HTTP/1.1 ${status} `)
    socket.destroy()
  }
})

describe('a good key in a wrong place', () => {
  const url = '/v1/streams/own'
  const json = '{"name":"a","value":1}'
  const places: readonly (readonly [string, InjectOptions])[] = [
    ['Cookie', { url, headers: { cookie: `key=${right}; x-chute-key=${right}` } }],
    ['Referer', { url, headers: { referer: `https://app.example.com/?key=${right}` } }],
    ['Origin', { url, headers: { 'x-origin': `https://${right}` } }],
    ['User-Agent', { url, headers: { 'user-agent': `Bearer ${right}` } }],
    ['Host', { url, headers: { host: `${right}@127.0.0.1` } }],
    ['Proxy-Authorization', { url, headers: { 'proxy-authorization': `Bearer ${right}` } }],
    ['X-Forwarded-Authorization', { url, headers: { 'x-forwarded-authorization': `Bearer ${right}` } }],
    ['X-Api-Key', { url, headers: { 'x-api-key': right } }],
    ['X_Chute_Key', { url, headers: { x_chute_key: right } }],
    ['Prefer', { url, headers: { prefer: `key=${right}` } }],
    ['Idempotency-Key', { url, headers: { 'idempotency-key': `"${right}"` } }],
    ['the body, bare', { url, payload: right }],
    ['the body, as JSON', { url, payload: `{"name":"a","value":1,"key":"${right}"}` }],
    [
      'the body, as a form',
      {
        url: '/v1/beacon/own',
        payload: `name=a&value=1&key=${right}`,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      },
    ],
    ['another parameter', { url: `${url}?apikey=${right}&KEY=${right}&key[]=${right}` }],
    ['a parameter behind a fragment', { url: `${url}#?key=${right}` }],
    ['the path', { url: `/v1/streams/own;key=${right}` }],
    ['the name of a stream', { url: `/v1/streams/${right}` }],
    ['Authorization, without a scheme', { url, headers: { authorization: right } }],
    ['Authorization, with a scheme of others', { url, headers: { authorization: `ApiKey ${right}` } }],
    ['Authorization, twice in one', { url, headers: { authorization: `Bearer ${right} ${right}` } }],
    ['Authorization, as a list', { url, headers: { authorization: `Bearer wrong, Bearer ${right}` } }],
    ['X-Chute-Key, as a list', { url, headers: { 'x-chute-key': `wrong, ${right}` } }],
    ['X-Chute-Key, with a scheme', { url, headers: { 'x-chute-key': `Bearer ${right}` } }],
    ['the second of two parameters', { url: `${url}?key=wrong&key=${right}` }],
    ['Basic, behind a wrong user', { url, headers: { authorization: `Basic ${btoa(`x:${right}`)}` } }],
    ['the value in capitals', { url, headers: { 'x-chute-key': right.toUpperCase() } }],
    ['the hash of the value', { url, headers: { 'x-chute-key': sha256(right) } }],
    ['the value, twice escaped', { url: `${url}?key=${right.replaceAll('_', '%255f')}` }],
  ]

  test('lets nobody in, and stands in no answer and no line of the log', async () => {
    const lines: object[] = []
    const log = (fields: object, message: string): void => void lines.push({ ...fields, message })
    edge = buildEdge(
      { keys: [key('web', { sha256: [sha256(right)] })] },
      [new FakeProducer({ name: 'own' })],
      {
        logger: { debug: log, info: log, warn: log, error: log },
      },
    )
    const answers: string[] = []
    for (const [place, options] of places) {
      const whole = { method: 'POST', payload: json, remoteAddress: nextAddress(), ...options } as const
      const reply = await edge.app.inject(whole)
      expect([401, 403, 404], place).toContain(reply.statusCode)
      answers.push(JSON.stringify(reply.headers) + reply.body)
    }
    expect(edge.producer.records).toEqual([])
    expect(lines.length).toBeGreaterThan(places.length - 1)
    expect(answers.join('') + JSON.stringify(lines)).not.toContain(right)
    const good = await edge.app.inject({ method: 'POST', url: `${url}?key=${right}`, payload: json })
    expect(good.statusCode).toBe(202)
  })

  test('in the first of two Authorization headers counts, as node:http reads them, and in the second never', async () => {
    edge = buildEdge({ keys: [key('web', { sha256: [sha256(right)] })] }, [new FakeProducer({ name: 'own' })])
    await edge.app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = edge.app.server.address() as AddressInfo
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `POST /v1/streams/own HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\nAuthorization: Bearer ${right}\r\nContent-Length: 0\r\n\r\n`,
    )
    const [bytes] = (await once(socket, 'data')) as [Buffer]
    expect(bytes.toString()).toContain('"code":"key_unknown"')
    socket.destroy()
  })
})

describe('forged headers', () => {
  const forged = (nth: number): Record<string, string>[] => [
    { 'x-forwarded-for': `198.51.100.${nth}` },
    { forwarded: `for=198.51.100.${nth};proto=https;host=gateway.example.com` },
    { 'x-real-ip': `198.51.100.${nth}` },
    { 'true-client-ip': `198.51.100.${nth}` },
    { 'cf-connecting-ip': `198.51.100.${nth}` },
    { host: `gateway-${nth}.example.com`, 'x-forwarded-host': '127.0.0.1' },
  ]

  test.each(forged(1).map((headers) => [Object.keys(headers)[0]!] as const))(
    '%s gives an address no more guesses',
    async (name) => {
      edge = buildEdge({ keys })
      const statuses: number[] = []
      for (let nth = 0; nth < 25; nth++) {
        const headers = forged(nth).find((each) => name in each)!
        const sent = { method: 'POST', url: '/v1/streams/own', payload: '1' } as const
        const reply = await edge.app.inject({ ...sent, headers: { ...headers, 'x-chute-key': `g${nth}` } })
        statuses.push(reply.statusCode)
      }
      expect(statuses).toEqual([...Array<number>(20).fill(401), ...Array<number>(5).fill(429)])
    },
  )

  test.each([
    [{ 'x-forwarded-host': 'evil.example.com' }],
    [{ forwarded: 'host=evil.example.com' }],
    [{ 'x-host': 'evil.example.com', 'x-original-host': 'evil.example.com' }],
  ])('%j makes no page one of the gateway', async (headers) => {
    edge = buildEdge({ keys }, [new FakeProducer({ name: 'own' })])
    const reply = await edge.app.inject({
      method: 'POST',
      url: '/v1/streams/own',
      payload: '{"name":"a","value":1}',
      headers: {
        ...headers,
        host: 'gateway.example.com',
        origin: 'http://evil.example.com',
        'x-chute-key': 'value-of-device',
      },
    })
    expect(reply.json()).toMatchObject({ code: 'origin_not_allowed' })
    expect(edge.producer.records).toEqual([])
  })

  test('nothing but an admin key shows what operators see', async () => {
    edge = buildEdge({ keys }, [new FakeProducer({ name: 'own' })], {
      admin: (app) => void app.get('/metrics', async () => 'the numbers'),
    })
    const inside = { 'x-forwarded-for': '127.0.0.1', forwarded: 'for=127.0.0.1', 'x-real-ip': '127.0.0.1' }
    const requests: (string | InjectOptions)[] = [
      { url: '/metrics', headers: inside },
      { url: '/metrics', headers: { host: 'localhost', 'x-forwarded-host': 'localhost' } },
      { url: '/livez', headers: { 'x-original-url': '/metrics', 'x-rewrite-url': '/metrics' } },
      { url: '/metrics', headers: { 'x-http-method-override': 'OPTIONS' } },
      { url: '/metrics', method: 'HEAD' },
      { url: '/metrics', method: 'OPTIONS' },
      { url: '/metrics', method: 'POST' },
      '/metrics/',
      '//metrics',
      '/Metrics',
      '/%6detrics',
      '/./metrics',
      '/v1/../metrics',
      '/livez/../metrics',
      '/metrics?key=value-of-device',
      '/metrics?key=',
      '/metrics;/livez',
      '/metrics%00',
      '/metrics?/livez',
    ]
    const tried = requests.map((each) => (typeof each === 'string' ? { url: each } : each))
    for (const options of tried) {
      const reply = await edge.app.inject(options)
      expect(reply.body, JSON.stringify(options)).not.toContain('the numbers')
      if (options.url !== '/livez') expect(reply.statusCode, JSON.stringify(options)).toBeGreaterThan(400)
    }
    const good = await edge.app.inject({ url: '/metrics?key=value-of-ops' })
    expect(good.body).toBe('the numbers')
  })
})

test.runIf(isLong)(
  'thousands of keys that are nearly right and as many that are not let nobody in, and the time of an answer tells them not apart',
  { timeout: 180_000 },
  async () => {
    edge = buildEdge({ keys: [key('web', { sha256: [sha256(right)] })] }, [new FakeProducer({ name: 'own' })])
    const digits = '0123456789abcdefghijklmnopqrstuvwxyz'
    const random = (): string =>
      `chk_pub_${Array.from(randomBytes(31), (byte) => digits[byte % digits.length]).join('')}`
    const near = (nth: number): string => {
      // All but the last few characters are right, or one in the middle is wrong.
      const at = right.length - 1 - (nth % 8)
      const wrong = digits[(digits.indexOf(right[at]!) + 1 + (nth % 34)) % digits.length]!
      const guess = right.slice(0, at) + wrong + right.slice(at + 1)
      return nth % 3 === 0 ? `${guess.slice(0, -1)}${digits[nth % 36]}` : guess
    }
    const timeOf = async (value: string): Promise<number> => {
      const options = { method: 'POST', url: '/v1/streams/own', payload: '1' } as const
      // As it comes from the network: V8 takes longer over a text that was put together of pieces.
      const headers = { 'x-chute-key': Buffer.from(value === right ? `${right}_` : value).toString('latin1') }
      const remoteAddress = nextAddress()
      const startedAt = performance.now()
      const { statusCode } = await edge.app.inject({ ...options, headers, remoteAddress })
      const durationMs = performance.now() - startedAt
      if (statusCode !== 401) throw new Error(`${statusCode} for ${value}`)
      return durationMs
    }
    // In pairs, so that a machine which is busy for a while is busy for both; each is first as often as the other.
    let nearSlower = 0
    for (let nth = 0; nth < pairs; nth++) {
      const [nearly, other] = [near(nth), random()]
      const [first, second] = nth % 2 === 0 ? [nearly, other] : [other, nearly]
      const [one, two] = [await timeOf(first), await timeOf(second)]
      if (nth % 2 === 0 ? one > two : two > one) nearSlower++
    }
    expect(edge.producer.records).toEqual([])
    // Without a difference the share is 0.5, with a standard deviation of 0.5 / √pairs: the bound is six of them.
    expect(Math.abs(nearSlower / pairs - 0.5)).toBeLessThan(3 / Math.sqrt(pairs))
  },
)
const pairs = byForm({ short: 3_000, ci: 10_000, full: 10_000 })

describe.each([
  ['info', false],
  ['debug', true],
])('at the level %s', (_level, isDebug) => {
  test('refused requests have a line a second and code, with their number and without their key', async () => {
    const lines: Record<string, unknown>[] = []
    const each: object[] = []
    const nothing = (): void => {}
    const info = (fields: object, message: string): void => void lines.push({ ...fields, message })
    edge = buildEdge({ keys }, [new FakeProducer({ name: 'own' })], {
      logger: {
        debug: (fields) => each.push(fields),
        info,
        warn: nothing,
        error: nothing,
        isLevelEnabled: () => isDebug,
      },
    })
    const refuse = async (headers: Record<string, string>, stream = 'own') =>
      await edge.app.inject({
        method: 'POST',
        url: `/v1/streams/${stream}`,
        payload: '1',
        headers,
        remoteAddress: nextAddress(),
      })
    const startedAt = performance.now()
    for (let nth = 0; nth < 30; nth++) {
      await refuse({})
      await refuse({ 'x-chute-key': `guess-${nth}` })
      await refuse({ 'x-chute-key': 'value-of-device' }, 'other')
    }
    const told = (code: string) => lines.filter((line) => line['code'] === code)
    const codes = ['key_missing', 'key_unknown', 'key_not_allowed']
    const sumOf = (code: string): number =>
      told(code).reduce((sum, line) => sum + Number(line['requests']), 0)
    await expect.poll(() => codes.map(sumOf), { timeout: 10_000 }).toEqual([30, 30, 30])
    const seconds = (performance.now() - startedAt) / 1_000
    for (const code of codes) expect(told(code).length).toBeLessThanOrEqual(Math.ceil(seconds) + 1)
    expect(each).toHaveLength(isDebug ? 90 : 0)
    expect(JSON.stringify([lines, each])).not.toMatch(/guess-|value-of-/)
    expect(lines[0]).toMatchObject({ client: expect.stringMatching(/\/48$/) as string })
  })
})

test('pages have headers of security, and replies to events have none', async () => {
  edge = buildEdge({ keys }, [new FakeProducer({ name: 'own' })], {
    admin: (app) =>
      registerLivePage(app, {
        version: '1',
        hasEvents: true,
        look: async () => await Promise.reject(new Error('not looked at')),
      }),
  })
  const live = await edge.app.inject({ url: '/', headers: { 'x-chute-key': 'value-of-ops' } })
  expect(live.headers).toMatchObject({
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  })
  const policy = String(live.headers['content-security-policy'])
  for (const rule of [
    "default-src 'none'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ])
    expect(policy).toContain(rule)
  expect(policy).not.toMatch(/unsafe|\*|https?:/)
  const security =
    /^(content-security-policy|x-frame-options|strict-transport-security|referrer-policy|permissions-policy|cross-origin-.*|x-xss-protection|x-powered-by|server)$/
  for (const [options, status] of [
    [{ method: 'POST', url: '/v1/streams/own', payload: '{"name":"a","value":1}' }, 202],
    [{ method: 'POST', url: '/v1/streams/own', payload: '{' }, 400],
    [{ method: 'POST', url: '/v1/beacon/own', payload: '{"name":"a","value":1}' }, 202],
    [{ method: 'GET', url: '/v1/beacon/own.gif?name=a&value=1' }, 200],
    [{ method: 'OPTIONS', url: '/v1/streams/own' }, 204],
  ] as const) {
    for (const prefer of ['', 'return=minimal']) {
      const headers = { 'x-chute-key': 'value-of-device', ...(prefer !== '' && { prefer }) }
      const reply = await edge.app.inject({ ...options, headers })
      expect(reply.statusCode).toBe(status)
      expect(Object.keys(reply.headers).filter((name) => security.test(name))).toEqual([])
    }
  }
})

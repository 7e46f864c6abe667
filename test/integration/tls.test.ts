import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { request as requestTls, Agent } from 'node:https'
import { connect as connectPlain, type AddressInfo, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { KeyConfig, TlsConfig } from '../../src/config/config.ts'
import { clientCertificateName } from '../../src/routes/http/handshakes.ts'
import { makeAuthority } from '../support/certificates.ts'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'

const good = '{"name":"room.temp","value":21.5}'
const path = '/v1/streams/metrics-realtime'
const post = `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${good.length}\r\n\r\n${good}`
const authority = makeAuthority()
const devices = makeAuthority('Devices')
const pair = authority.issue('gateway')
const pairs = { ec: pair, rsa: authority.issue('gateway', { kind: 'rsa' }) }
const withClients: TlsConfig = { ...pair, clientCa: devices.ca }

let edge: Edge
const log: { fields: object; message: string }[] = []

async function listen(
  tls: TlsConfig,
  options: { bodyTimeoutMs?: number; ticketSecret?: string; keys?: readonly KeyConfig[] } = {},
): Promise<number> {
  log.length = 0
  const note = (fields: object, message: string): void => void log.push({ fields, message })
  edge = buildEdge(
    {
      tls,
      keys: options.keys ?? [],
      limits: { ...fakeLimits, bodyTimeoutMs: options.bodyTimeoutMs ?? fakeLimits.bodyTimeoutMs },
    },
    undefined,
    {
      logger: { debug() {}, info: note, warn: note, error: note },
      ...(options.ticketSecret !== undefined && { ticketSecret: options.ticketSecret }),
    },
  )
  await edge.app.listen({ port: 0, host: '127.0.0.1' })
  return (edge.app.server.address() as AddressInfo).port
}

afterEach(async () => await edge.app.close())

/** What a connection received until it was closed, or until `enough`. */
async function exchange(socket: Socket, bytes: string, enough = /"accepted":1/): Promise<string> {
  let received = ''
  let closed = false
  socket.setEncoding('latin1')
  socket.on('data', (text: string) => (received += text))
  socket.on('close', () => (closed = true))
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  socket.write(bytes, 'latin1')
  await vi.waitUntil(() => closed || enough.test(received), { timeout: 10_000 })
  return received
}

function open(port: number, options: ConnectionOptions = {}): TLSSocket {
  return connect({ port, host: '127.0.0.1', ca: authority.ca, ...options })
}

/** One request over a new connection. @returns the status, the protocol and whether the session was resumed. */
async function postOnce(
  port: number,
  options: ConnectionOptions = {},
): Promise<{ status: string; socket: TLSSocket }> {
  const socket = open(port, options)
  const received = await exchange(socket, post)
  return { status: received.slice(9, 12), socket }
}

/** The session of a connection, as a client gets it: with TLS 1.3 behind the handshake. */
async function sessionOf(port: number, options: ConnectionOptions = {}): Promise<Buffer> {
  const socket = open(port, options)
  const session = once(socket, 'session') as Promise<[Buffer]>
  expect(await exchange(socket, post)).toMatch(/^HTTP\/1\.1 202/)
  const [ticket] = await session
  socket.destroy()
  return ticket
}

const failedFor = () =>
  Object.fromEntries(Object.entries(edge.handshakes?.failed ?? {}).filter(([, count]) => count > 0))

test('bytes behind a handshake whose certificate is refused end no process', async () => {
  const port = await listen(withClients)
  const raw = connectPlain({ port, host: '127.0.0.1' }).on('error', () => {})
  const wire = new Duplex({
    read() {},
    write: (chunk: Buffer, _encoding, done) => void raw.write(chunk, () => done()),
  })
  let isCorked = false
  raw.on('data', (bytes: Buffer) => {
    // The end of the handshake waits for what comes behind it.
    if (!isCorked) raw.cork()
    isCorked = true
    wire.push(bytes)
  })
  const client = connect({
    socket: wire,
    ca: authority.ca,
    checkServerIdentity: () => undefined,
    ...authority.issue('sensor-17'),
    minVersion: 'TLSv1.3',
  }).on('error', () => {})
  await once(client, 'secureConnect')
  setImmediate(() => {
    // A record that does not decrypt.
    raw.write(Buffer.concat([Buffer.from('1703030020', 'hex'), randomBytes(32)]))
    raw.uncork()
  })
  await once(raw, 'close')
  expect(failedFor()).toEqual({ client_certificate: 1 })
  expect(await postOnce(port)).toMatchObject({ status: '202' })
})

test('a session lasts five minutes', async () => {
  const port = await listen({ ...pair, clientCa: null })
  const ticket = await sessionOf(port, { maxVersion: 'TLSv1.3' })
  // RFC 8446, section 4.6.1: what the server says of the lifetime. OpenSSL's session has it as an integer behind this tag.
  expect(ticket.toString('hex')).toContain('a9040202012c')
})

describe('the event port', () => {
  test.each([
    ['ec', 'TLSv1.2', 'ECDHE-ECDSA-'],
    ['ec', 'TLSv1.3', 'TLS_'],
    ['rsa', 'TLSv1.2', 'ECDHE-RSA-'],
    ['rsa', 'TLSv1.3', 'TLS_'],
  ] as const)('with an %s certificate speaks %s', async (kind, version, cipher) => {
    const port = await listen({ ...pairs[kind], clientCa: null })
    const { status, socket } = await postOnce(port, {
      maxVersion: version,
      minVersion: version,
      ALPNProtocols: ['h2', 'http/1.1'],
    })
    expect(status).toBe('202')
    expect(socket.getProtocol()).toBe(version)
    expect(socket.alpnProtocol).toBe('http/1.1')
    expect(socket.getCipher().standardName + socket.getCipher().name).toContain(cipher)
    expect(edge.app.listeningOrigin).toBe(`https://127.0.0.1:${port}`)
    expect(failedFor()).toEqual({})
  })

  test.each([
    ['TLS 1.1', 'version', { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }],
    ['HTTP/2 alone', 'alpn', { ALPNProtocols: ['h2'] }],
    ['ciphers without forward secrecy', 'cipher', { maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' }],
  ] as const)('refuses %s in the handshake', async (_what, reason, options) => {
    const port = await listen({ ...pair, clientCa: null })
    const socket = open(port, options)
    expect(await exchange(socket, post)).toBe('')
    expect(failedFor()).toEqual({ [reason]: 1 })
  })

  test('does not let a client negotiate again over an open connection', async () => {
    const port = await listen({ ...pair, clientCa: null })
    const { socket } = await postOnce(port, { maxVersion: 'TLSv1.2' })
    const refused = once(socket, 'error')
    socket.renegotiate({}, () => {})
    expect(String(await refused)).toMatch(/no.renegotiation/i)
  })

  test('answers plain HTTP with a problem that names the way out', async () => {
    const port = await listen({ ...pair, clientCa: null })
    const received = await exchange(connectPlain(port, '127.0.0.1'), post, /}$/)
    expect(received).toMatch(/^HTTP\/1\.1 400 [^]*application\/problem\+json[^]*this port speaks HTTPS/)
    expect(edge.producer.records).toEqual([])
    expect(failedFor()).toEqual({ plain_http: 1 })
    expect(edge.telemetry.refusals).toEqual([{ code: 'invalid_request', transport: 'http', stream: '' }])
  })

  test.each([
    ['bytes that are no TLS', 'not_tls', '\u0000\u0001\u0002\u0003garbage and more of it'],
    ['an alert', 'not_tls', '\u0015\u0003\u0001\u0000\u0002\u0002\u0028'],
  ])('counts %s', async (_what, reason, bytes) => {
    const port = await listen({ ...pair, clientCa: null })
    await exchange(connectPlain(port, '127.0.0.1'), bytes, /HTTP/)
    await vi.waitUntil(() => Object.keys(failedFor()).length > 0)
    expect(failedFor()).toEqual({ [reason]: 1 })
  })

  test.each(['before it has said anything', 'in the midst of its handshake'])(
    'counts a client that goes away %s, and does not wait for it',
    async (when) => {
      const port = await listen({ ...pair, clientCa: null })
      const goes = connectPlain(port, '127.0.0.1')
      const accepted = once(edge.app.server, 'connection')
      if (when !== 'before it has said anything') goes.write('\u0016\u0003\u0001\u0001\u0000\u0001', 'latin1')
      await accepted
      goes.end()
      await vi.waitUntil(() => edge.handshakes!.failed.closed > 0)
      expect(failedFor()).toEqual({ closed: 1 })
    },
  )

  test('ends a handshake that takes longer than BODY_TIMEOUT_MS', async () => {
    const port = await listen({ ...pair, clientCa: null }, { bodyTimeoutMs: 300 })
    const socket = connectPlain(port, '127.0.0.1')
    // The beginning of a record with a ClientHello.
    expect(await exchange(socket, '\u0016\u0003\u0001\u0001\u0000\u0001', /./)).toBe('')
    expect(failedFor()).toEqual({ timeout: 1 })
  })

  test('logs failed handshakes once a second, with their number', async () => {
    const port = await listen({ ...pair, clientCa: null })
    for (let nth = 0; nth < 5; nth++) await exchange(connectPlain(port, '127.0.0.1'), post, /}$/)
    const lines = () => log.filter(({ message }) => message === 'TLS handshakes failed')
    expect(lines().map(({ fields }) => fields)).toEqual([
      { failed: { plain_http: 1 }, cause: 'ERR_SSL_HTTP_REQUEST', client: '127.0.0.0/24' },
    ])
    await vi.waitUntil(() => lines().length === 2, { timeout: 3_000 })
    expect(lines()[1]!.fields).toEqual({ failed: { plain_http: 4 } })
  })

  test('closes although a handshake is under way', async () => {
    const port = await listen({ ...pair, clientCa: null })
    const [silent, begun] = [connectPlain(port, '127.0.0.1'), connectPlain(port, '127.0.0.1')]
    begun.write('\u0016\u0003\u0001\u0001\u0000\u0001', 'latin1')
    await vi.waitUntil(() => edge.handshakes?.underWay === 2)
    const left = edge.connections.beginToLeave()(null)
    await Promise.all([silent, begun].map(async (each) => await once(each, 'close')))
    await left
  })

  test('takes a request whose handshake was under way when the gateway began to leave', async () => {
    const port = await listen({ ...pair, clientCa: null })
    const socket = open(port)
    await once(edge.app.server, 'connection')
    const left = edge.connections.beginToLeave()(null)
    expect(await exchange(socket, post)).toMatch(/^HTTP\/1\.1 202/)
    await left
  })
})

describe('a client certificate', () => {
  /** The name of the client of each request. */
  let names: (string | null)[]

  async function listenForNames(tls: TlsConfig, ticketSecret = 'secret'): Promise<number> {
    const port = await listen(tls, { ticketSecret })
    names = []
    edge.app.server.prependListener('request', ({ socket }) => names.push(clientCertificateName(socket)))
    return port
  }

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'that TLS_CLIENT_CA signed gives the connection its common name (%s)',
    async (maxVersion) => {
      const port = await listenForNames(withClients)
      expect(await postOnce(port, { maxVersion, ...devices.issue('sensor-17') })).toMatchObject({
        status: '202',
      })
      expect(names).toEqual(['sensor-17'])
    },
  )

  test('is not needed: the connection has no name then', async () => {
    const port = await listenForNames(withClients)
    expect(await postOnce(port)).toMatchObject({ status: '202' })
    expect(names).toEqual([null])
  })

  test.each([
    ['two common names', devices.issue(['sensor-17', 'admin'])],
    ['no common name', devices.issue([])],
  ])('with %s gives no name', async (_what, certificate) => {
    const port = await listenForNames(withClients)
    expect(await postOnce(port, certificate)).toMatchObject({ status: '202' })
    expect(names).toEqual([null])
  })

  test.each([
    ['another authority signed', authority.issue('sensor-17')],
    ['another authority of the same name signed', makeAuthority('Devices').issue('sensor-17')],
    ['has ended', devices.issue('sensor-17', { days: [-3, -1] })],
    ['has not begun', devices.issue('sensor-17', { days: [1, 3] })],
  ])('that %s ends the connection, and no request of it is read', async (_what, certificate) => {
    for (const [nth, maxVersion] of (['TLSv1.2', 'TLSv1.3'] as const).entries()) {
      const port = await listenForNames(withClients)
      const socket = open(port, { ...certificate, maxVersion })
      expect(await exchange(socket, post)).toBe('')
      expect(names).toEqual([])
      expect(edge.producer.records).toEqual([])
      expect(failedFor()).toEqual({ client_certificate: 1 })
      if (nth === 0) await edge.app.close()
    }
  })

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'counts in a resumed session, and a session without one has no name (%s)',
    async (maxVersion) => {
      const port = await listenForNames(withClients)
      const certificate = devices.issue('sensor-17')
      const named = await sessionOf(port, { maxVersion, ...certificate })
      const nameless = await sessionOf(port, { maxVersion })
      const again = await postOnce(port, { maxVersion, session: named })
      expect(again.socket.isSessionReused()).toBe(true)
      const other = await postOnce(port, { maxVersion, session: nameless })
      expect(other.socket.isSessionReused()).toBe(true)
      expect(names).toEqual(['sensor-17', null, 'sensor-17', null])
    },
  )

  test('names a key, and needs no other', async () => {
    const key = (name: string, more: Partial<KeyConfig> = {}): KeyConfig => ({
      name,
      kind: 'public',
      sha256: [createHash('sha256').update(`value-of-${name}`).digest('hex')],
      streams: ['metrics-realtime'],
      origins: [],
      sources: null,
      notAfterMs: null,
      limits: null,
      addressLimits: null,
      ...more,
    })
    const port = await listen(withClients, {
      keys: [
        key('sensor-17'),
        key('sensor-18', { streams: ['other'] }),
        key('sensor-19', { notAfterMs: 1 }),
        key('operator', { kind: 'admin' }),
        key('sensor-21', { sha256: [] }),
      ],
    })
    const statusOf = async (certificate: ConnectionOptions, header = ''): Promise<string> => {
      const bytes = post.replace('Host: a\r\n', `Host: a\r\n${header}`)
      return (await exchange(open(port, certificate), bytes, /}$/)).slice(9, 12)
    }
    const [known, elsewhere, ended, admin, unknown] = ['17', '18', '19', 'operator', '20'].map((name) =>
      devices.issue(name === 'operator' ? name : `sensor-${name}`),
    )
    expect(await statusOf(known!)).toBe('202')
    expect(await statusOf({}), 'without a certificate').toBe('401')
    expect(await statusOf({}, 'X-Chute-Key: value-of-sensor-17\r\n'), 'with a key alone').toBe('202')
    expect(await statusOf(elsewhere!), 'of a key for another stream').toBe('403')
    expect(await statusOf(ended!), 'of a key that has ended').toBe('401')
    expect(await statusOf(admin!), 'of an admin key').toBe('401')
    expect(await statusOf(unknown!), 'of no key').toBe('401')
    expect(await statusOf(known!, 'X-Chute-Key: wrong\r\n'), 'beside a wrong key').toBe('401')
    expect(await statusOf(devices.issue('sensor-21')), 'of a key without a value').toBe('202')
    expect(await statusOf({}, 'X-Chute-Key: \r\n'), 'with an empty key').toBe('401')
    expect(edge.producer.records).toHaveLength(3)
    // The refusal says which name it looked for.
    const refused = await exchange(open(port, unknown), post, /}$/)
    expect(refused).toMatch(/key_missing.*common name \\"sensor-20\\", and no key that writes is called so/)
    expect(await exchange(open(port, {}), post, /}$/)).not.toMatch(/certificate/)
  })

  test('keeps the gateway closed where no key has a value', async () => {
    const certificateAlone = { kind: 'public', sha256: [], streams: ['*'], origins: [] } as const
    const port = await listen(withClients, {
      keys: [
        {
          name: 'sensor-17',
          ...certificateAlone,
          sources: null,
          notAfterMs: null,
          limits: null,
          addressLimits: null,
        },
      ],
    })
    const statusOf = async (certificate: ConnectionOptions): Promise<string> =>
      (await exchange(open(port, certificate), post, /}$/)).slice(9, 12)
    expect(await statusOf({})).toBe('401')
    expect(await statusOf(devices.issue('sensor-18'))).toBe('401')
    expect(await statusOf(devices.issue('sensor-17'))).toBe('202')
  })

  test('is not asked for without TLS_CLIENT_CA, and gives no name', async () => {
    const port = await listenForNames({ ...pair, clientCa: null })
    expect(await postOnce(port, devices.issue('sensor-17'))).toMatchObject({ status: '202' })
    expect(names).toEqual([null])
  })

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'that has ended does not count in a session that is resumed (%s)',
    async (maxVersion) => {
      const port = await listenForNames(withClients)
      const second = 1 / 86_400
      const certificate = devices.issue('sensor-17', { days: [-1, 3 * second] })
      const session = await sessionOf(port, { maxVersion, ...certificate })
      const ended = Date.parse(new X509Certificate(certificate.cert).validTo)
      await vi.waitUntil(() => Date.now() > ended, { timeout: 10_000 })
      expect(await exchange(open(port, { maxVersion, session, ...certificate }), post)).toBe('')
      expect(failedFor()).toEqual({ client_certificate: 1 })
    },
  )

  test('of authorities that are trusted no longer does not count in a session that is resumed', async () => {
    const port = await listenForNames(withClients)
    const certificate = devices.issue('sensor-17')
    const session = await sessionOf(port, certificate)
    edge.handshakes!.renew({ ...pair, clientCa: makeAuthority('New devices').ca })
    const socket = open(port, { session, ...certificate })
    expect(await exchange(socket, post)).toBe('')
    expect(failedFor()).toEqual({ client_certificate: 1 })
    expect(names).toEqual(['sensor-17'])
  })
})

describe('a renewed certificate', () => {
  test('is shown to new connections, and those that there are go on', async () => {
    const port = await listen({ ...pair, clientCa: null })
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: authority.ca })
    onTestFinished(() => agent.destroy())
    const send = async (): Promise<string> =>
      await new Promise((resolve, reject) => {
        const sent = requestTls({ port, host: '127.0.0.1', agent, method: 'POST', path }, (reply) => {
          const { subject } = (reply.socket as TLSSocket).getPeerCertificate()
          reply.resume().once('end', () => resolve(String(subject.CN)))
        })
        sent.once('error', reject).end(good)
      })
    expect(await send()).toBe('gateway')
    edge.handshakes!.renew({ ...authority.issue('renewed'), clientCa: null })
    expect(await send()).toBe('gateway')
    const { socket, status } = await postOnce(port)
    expect([status, socket.getPeerCertificate().subject.CN]).toEqual(['202', 'renewed'])
    expect(edge.producer.records).toHaveLength(3)
  })

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('leaves sessions as they were (%s)', async (maxVersion) => {
    const port = await listen({ ...pair, clientCa: null })
    const session = await sessionOf(port, { maxVersion })
    edge.handshakes!.renew({ ...authority.issue('renewed'), clientCa: null })
    const { socket } = await postOnce(port, { maxVersion, session })
    expect(socket.isSessionReused()).toBe(true)
  })
})

test.each([
  ['is resumed at another process with the same secret', 'one', true],
  ['is not resumed at a process with another secret, and the request is taken', 'other', false],
])('a session %s', async (_what, ticketSecret, isReused) => {
  const session = await sessionOf(await listen({ ...pair, clientCa: null }, { ticketSecret: 'one' }))
  await edge.app.close()
  const port = await listen({ ...pair, clientCa: null }, { ticketSecret })
  const { socket, status } = await postOnce(port, { session })
  expect([status, socket.isSessionReused()]).toEqual(['202', isReused])
})

import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { connect as connectPlain, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest'
import { makeAuthority, type Pair } from '../support/certificates.ts'
import { isLong } from '../support/forms.ts'
import { eachRecord } from '../support/independent-reader.ts'
import { parseExposition } from '../support/parse-exposition.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

const run = promisify(execFile)
const authority = makeAuthority()
const devices = makeAuthority('Devices')
const pairs = {
  ec: authority.issue('gateway'),
  rsa: authority.issue('gateway-rsa', { kind: 'rsa' }),
  other: authority.issue('gateway-2'),
}

/** A folder as Kubernetes mounts a Secret: a link to the files of a version is swapped. */
class Secret {
  readonly folder: string
  #version = 0

  constructor(pair: Pair) {
    this.folder = mkdtempSync(join(tmpdir(), 'chute-tls-'))
    onTestFinished(() => rmSync(this.folder, { recursive: true }))
    this.write(pair)
    for (const name of ['tls.crt', 'tls.key']) symlinkSync(join('..data', name), join(this.folder, name))
  }

  get env(): NodeJS.ProcessEnv {
    return {
      TLS_CERT_FILE: join(this.folder, 'tls.crt'),
      TLS_KEY_FILE: join(this.folder, 'tls.key'),
    }
  }

  write({ cert, key }: Pair): void {
    const version = `..version_${this.#version++}`
    mkdirSync(join(this.folder, version))
    writeFileSync(join(this.folder, version, 'tls.crt'), cert)
    writeFileSync(join(this.folder, version, 'tls.key'), key)
    symlinkSync(version, join(this.folder, '..data_tmp'))
    renameSync(join(this.folder, '..data_tmp'), join(this.folder, '..data'))
  }
}

/** A gateway with a stream `s`, ready. Its admin port is plain. */
async function start(
  env: NodeJS.ProcessEnv,
): Promise<{ gateway: ServedGateway; port: number; topic: string }> {
  const topic = `tls-${randomUUID()}`
  const folder = mkdtempSync(join(tmpdir(), 'chute-tls-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-most-once, schema: any } }\n`)
  const gateway = await serveGateway({
    KAFKA_BROKERS: inject('kafkaBroker'),
    CHUTE_CONFIG: file,
    ADMIN_PORT: '0',
    ...env,
  })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return { gateway, port: Number(new URL(gateway.url).port), topic }
}

/**
 * Clients that send numbered events, one after the other: some keep their connection, and some make one for each event. Each
 * second one resumes its session, and then it sees the certificate of that session.
 */
class Clients {
  readonly taken: string[] = []
  readonly failed: string[] = []
  /** The names of the certificates that were seen. */
  readonly seen = new Set<string>()
  readonly #loops: Promise<void>[]
  readonly #agents: Agent[] = []
  readonly #port: number
  readonly #freshPauseMs: number
  #isOver = false
  #number = 0

  /** @param options.freshPauseMs time between two connections of a client that makes one for each event; 20 unless given. */
  constructor(port: number, options: { kept: number; fresh: number; freshPauseMs?: number }) {
    this.#port = port
    this.#freshPauseMs = options.freshPauseMs ?? 20
    this.#loops = [true, false].flatMap((keepAlive) =>
      Array.from(
        { length: keepAlive ? options.kept : options.fresh },
        async (_, nth) => await this.#send(keepAlive, nth),
      ),
    )
  }

  /** Resolves when each client was stopped, or has found nobody to connect to. */
  async ended(): Promise<void> {
    await Promise.all(this.#loops)
    for (const agent of this.#agents) agent.destroy()
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.ended()
  }

  async #send(keepAlive: boolean, nth: number): Promise<void> {
    const agent = new Agent({
      keepAlive,
      maxSockets: 1,
      maxCachedSessions: nth % 2 === 0 ? 0 : 10,
      ca: authority.ca,
    })
    this.#agents.push(agent)
    while (!this.#isOver) {
      const event = `${keepAlive ? 'kept' : 'fresh'}-${this.#number++}`
      const outcome = await this.#post(agent, event)
      if (outcome === '202') this.taken.push(event)
      else if (outcome === 'ECONNREFUSED') return
      else this.failed.push(`${event}: ${outcome}`)
      await pause(keepAlive ? 5 : this.#freshPauseMs)
    }
  }

  async #post(agent: Agent, event: string): Promise<string> {
    return await new Promise((resolve) => {
      const sent = request(
        { port: this.#port, host: '127.0.0.1', agent, method: 'POST', path: '/v1/streams/s' },
        (reply) => {
          const { CN } = (reply.socket as TLSSocket).getPeerCertificate().subject ?? {}
          if (CN !== undefined) this.seen.add(String(CN))
          reply.resume().once('end', () => resolve(String(reply.statusCode)))
          reply.once('error', (error) => resolve(error.message))
        },
      )
      sent.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
      sent.end(JSON.stringify(event))
    })
  }
}

async function landed(topic: string): Promise<string[]> {
  const events: string[] = []
  await eachRecord(inject('kafkaBroker'), topic, ({ value }) =>
    events.push(JSON.parse(value.toString()) as string),
  )
  return events.toSorted()
}

async function metric(gateway: ServedGateway, name: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
  const samples = parseExposition(text, 'prometheus').get(name)?.samples ?? []
  return Object.fromEntries(samples.map(({ labels, value }) => [Object.values(labels).join(), value]))
}

describe.each(isLong ? ['1', '2'] : ['1'])('with %s worker(s)', (WORKERS) => {
  test('certificates are renewed under load, and no request fails', async () => {
    const secret = new Secret(pairs.ec)
    const { gateway, port, topic } = await start({ ...secret.env, WORKERS })
    const clients = new Clients(port, { kept: 4, fresh: 4 })
    const renewals = () => gateway.lines.filter(({ msg }) => msg === 'certificates were renewed')
    for (const [nth, pair] of [pairs.rsa, pairs.other].entries()) {
      await pause(500)
      secret.write(pair)
      await vi.waitUntil(() => renewals().length === nth + 1, { timeout: 10_000 })
    }
    await pause(500)
    // A pair that does not belong together, and then one that is read at SIGHUP.
    secret.write({ cert: pairs.ec.cert, key: pairs.rsa.key })
    const refused = await gateway.logged('new certificates cannot be used')
    expect(refused).toMatchObject({ level: 'error', setting: 'TLS_KEY_FILE' })
    secret.write(pairs.ec)
    gateway.signal('SIGHUP')
    await vi.waitUntil(() => renewals().length === 3, { timeout: 10_000 })
    await pause(500)
    await clients.stop()
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)

    expect(clients.failed).toEqual([])
    expect(await landed(topic)).toEqual(clients.taken.toSorted())
    expect(clients.taken.length).toBeGreaterThan(50)
    expect([...clients.seen].toSorted()).toEqual(['gateway', 'gateway-2', 'gateway-rsa'])
    expect(renewals()).toHaveLength(3)
    expect(renewals()[0]).toMatchObject({
      renewed: ['server'],
      certificates: [{ setting: 'TLS_CERT_FILE', subject: 'CN=gateway-rsa' }],
    })
  })

  test('clients lose no request when the gateway leaves', async () => {
    const { gateway, port, topic } = await start({
      ...new Secret(pairs.ec).env,
      WORKERS,
      DRAIN_DELAY_MS: '700',
    })
    // A listener that closes resets what the kernel has accepted and the process has not. So it closes when no connection has come for
    // 200 ms, or after a second (`quietMs` in connections.ts). A client that connects each 20 ms would be reset now and then.
    const clients = new Clients(port, { kept: 6, fresh: 1, freshPauseMs: 600 })
    await vi.waitUntil(() => clients.taken.length > 50, { timeout: 10_000 })
    gateway.signal('SIGTERM')
    await clients.ended()
    expect(await gateway.ended()).toBe(0)
    expect(clients.failed).toEqual([])
    expect(await landed(topic)).toEqual(clients.taken.toSorted())
  })
})

test.each(isLong ? (['TLSv1.2', 'TLSv1.3'] as const) : (['TLSv1.3'] as const))(
  'a session of one worker is resumed at another one',
  async (maxVersion) => {
    const { port } = await start({ ...new Secret(pairs.ec).env, WORKERS: '2' })
    const open = async (session?: Buffer): Promise<{ isReused: boolean; session: Buffer | null }> => {
      const socket = connect({
        port,
        host: '127.0.0.1',
        ca: authority.ca,
        maxVersion,
        ...(session !== undefined && { session }),
      })
      let ticket: Buffer | null = null
      socket.once('session', (bytes: Buffer) => (ticket = bytes))
      socket.write('GET /v1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      await once(socket, 'data')
      const isReused = socket.isSessionReused()
      await once(socket.resume(), 'close')
      return { isReused, session: ticket }
    }
    const { session } = await open()
    // The primary gives connections to the workers in turn.
    const others = [await open(session!), await open(session!), await open(session!)]
    expect(others.map(({ isReused }) => isReused)).toEqual([true, true, true])
  },
)

test('a device with room for records of 1,024 bytes gets no larger one', async () => {
  const { port } = await start(new Secret(pairs.ec).env)
  // Between the two: what the gateway sends, record by record (RFC 8446, section 5.1).
  const sent: Buffer[] = []
  const proxy = createServer((client) => {
    const gateway = connectPlain(port, '127.0.0.1')
    gateway.on('data', (data) => void sent.push(data))
    client.pipe(gateway).pipe(client)
    for (const socket of [client, gateway]) socket.on('error', () => {})
  })
  proxy.listen(0, '127.0.0.1')
  onTestFinished(() => void proxy.close())
  await once(proxy, 'listening')
  const ask = async (...options: string[]): Promise<{ received: string; longest: number }> => {
    sent.length = 0
    const address = `127.0.0.1:${(proxy.address() as AddressInfo).port}`
    // The reply to the second one names each of 100 lines.
    const bodies = [JSON.stringify('x'.repeat(3_000)), '{"unfinished\n'.repeat(100)]
    const requests = bodies.map((body, nth) =>
      [
        'POST /v1/streams/s HTTP/1.1',
        'Host: a',
        'Content-Type: application/x-ndjson',
        ...(nth === 1 ? ['Connection: close'] : []),
        `Content-Length: ${body.length}`,
        '',
        body,
      ].join('\r\n'),
    )
    const child = run('openssl', ['s_client', '-quiet', '-tls1_2', '-connect', address, ...options], {
      maxBuffer: 1 << 24,
    })
    child.child.stdin!.end(requests.join(''))
    const { stdout } = await child
    return { received: stdout, longest: Math.max(...applicationRecords(Buffer.concat(sent))) }
  }
  const small = await ask('-maxfraglen', '1024', '-max_send_frag', '512')
  expect(small.received).toMatch(/^HTTP\/1\.1 202 [^]*HTTP\/1\.1 400 [^]*"index":99[^]*}\s*$/)
  // A record of AES-GCM has 24 bytes beside its content.
  expect(small.longest).toBeLessThanOrEqual(1_024 + 24)
  const large = await ask()
  expect(large.received.length).toBe(small.received.length)
  expect(large.longest).toBeGreaterThan(4_000)
})

/** The lengths of the records that carry HTTP. */
function applicationRecords(bytes: Buffer): number[] {
  const lengths: number[] = []
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3))
    if (bytes[at] === 23) lengths.push(bytes.readUInt16BE(at + 3))
  return lengths
}

test('curl sends events with a certificate of its own, is refused with a foreign one, and refuses a gateway that it does not trust', async () => {
  const secret = new Secret(pairs.rsa)
  const file = (name: string, text: string): string => {
    const path = join(secret.folder, name)
    writeFileSync(path, text)
    return path
  }
  const [ca, devicesCa] = [file('ca.crt', authority.ca), file('devices.crt', devices.ca)]
  const { gateway, port } = await start({ ...secret.env, TLS_CLIENT_CA_FILE: devicesCa })
  const url = `https://127.0.0.1:${port}/v1/streams/s`
  const curl = async (...options: string[]): Promise<string> => {
    try {
      const { stdout } = await run('curl', ['-sS', '-w', ' %{http_code}', '-d', '1', ...options, url])
      return stdout
    } catch (error) {
      return `exit code ${(error as { code: number }).code}`
    }
  }
  const withCertificate = (name: string, { cert, key }: Pair): string[] => [
    '--cert',
    file(`${name}.crt`, cert),
    '--key',
    file(`${name}.key`, key),
  ]
  expect(await curl('--cacert', ca)).toMatch(/"accepted":1.* 202$/)
  expect(await curl('--cacert', ca, ...withCertificate('good', devices.issue('sensor-17')))).toMatch(/ 202$/)
  expect(await curl('--cacert', ca, ...withCertificate('bad', authority.issue('sensor-17')))).toMatch(/^exit/)
  expect(await curl('--cacert', devicesCa)).toBe('exit code 60')
  expect(await run('curl', ['-sS', '-d', '1', url.replace('https', 'http')])).toMatchObject({
    stdout: expect.stringContaining('this port speaks HTTPS') as string,
  })
  await vi.waitFor(async () =>
    expect(await metric(gateway, 'chute_tls_handshakes_failed_total')).toMatchObject({
      client_certificate: 1,
      client_alert: 1,
      plain_http: 1,
      other: 0,
    }),
  )
  const notAfter = await metric(gateway, 'chute_tls_certificate_not_after_timestamp_seconds')
  expect((notAfter['server']! * 1_000 - Date.now()) / 86_400_000).toBeCloseTo(90, 0)
})

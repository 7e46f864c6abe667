import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { sha256OfKey, type HttpConfig, type KeyConfig } from '../../src/config/config.ts'
import { errorTable } from '../../src/errors.ts'
import { LiveEvents } from '../../src/live-events.ts'
import { EventReaders, registerLiveEvents } from '../../src/routes/admin/live-events.ts'
import { makeAuthority } from '../support/certificates.ts'
import { buildEdge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { chuteArguments, chuteEnvironment } from '../support/served-gateway.ts'

// Each test starts a process, which is slow where many run side by side.
const limit = { timeout: 30_000 }

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

interface Served {
  readonly url: string
  readonly port: string
  readonly live: LiveEvents
  readonly readers: EventReaders
  /** Cuts off all clients, as the gateway does with a reader that is too slow. */
  readonly cutOff: () => void
}

/** A gateway with two streams. @param isOn false: it does not show events. */
async function serve(http: Partial<HttpConfig> = {}, isOn = true): Promise<Served> {
  const live = new LiveEvents()
  const readers = new EventReaders()
  const edge = buildEdge(http, [new FakeProducer({ name: 'web' }), new FakeProducer({ name: 'more' })], {
    live,
    admin: (app) =>
      registerLiveEvents(app, {
        source: isOn ? live : null,
        readers,
        streams: () => ['web', 'more'],
        mayBeHost: null,
      }),
  })
  closing.push(async () => {
    readers.close()
    await edge.app.close()
  })
  await edge.app.listen({ host: '127.0.0.1', port: 0 })
  const port = String((edge.app.server.address() as AddressInfo).port)
  const cutOff = (): void => edge.app.server.closeAllConnections()
  return { url: `http://127.0.0.1:${port}`, port, live, readers, cutOff }
}

interface Tail {
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  readonly lines: () => string[]
  readonly stderr: () => string
  /** Resolves to the exit code. */
  readonly ended: Promise<number | null>
}

function tail(args: readonly string[], env: NodeJS.ProcessEnv = {}): Tail {
  const child = spawn(process.execPath, [...chuteArguments, 'tail', ...args], {
    env: chuteEnvironment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk) => (stdout += String(chunk)))
  child.stderr.on('data', (chunk) => (stderr += String(chunk)))
  const ended = once(child, 'close').then(([code]) => code as number | null)
  closing.push(() => child.kill('SIGKILL'))
  return { child, lines: () => stdout.split('\n').slice(0, -1), stderr: () => stderr, ended }
}

const good = '{"name":"a","value":1}'
const bad = '{"name":"a","note":"\u009b2J"}'

async function post(url: string, body: string): Promise<void> {
  await fetch(url, { method: 'POST', body, headers: { origin: new URL(url).origin } })
}

const watched = { timeout: 20_000 }

/** The limits of the command are 30 times as short: 1.5 s of silence. */
const thirtyTimesAsFast = [
  '--import',
  'data:text/javascript,const wait=setTimeout;globalThis.setTimeout=(call,ms,...rest)=>wait(call,ms/30,...rest)',
]

describe('chute tail', limit, () => {
  test('prints a line an event: what was refused before, and what comes, until Ctrl-C', async () => {
    const { url, live } = await serve()
    await post(`${url}/v1/streams/web`, bad)
    const { child, lines, stderr, ended } = tail(['--url', `${url}/`])
    await expect.poll(() => live.isWatched, watched).toBe(true)
    await post(`${url}/v1/beacon/more`, `[${good},${good}]`)
    await expect.poll(lines, watched).toHaveLength(3)
    const time = String.raw`^\d\d:\d\d:\d\d\.\d{3}Z`
    expect(lines()[0]).toMatch(
      new RegExp(`${time} refused   invalid_event web http from ${url} request refused: `),
    )
    expect(lines()[0]).toContain(
      String.raw`| /value must be a finite number, got nothing | {"name":"a","note":"\u009b2J"} | do: `,
    )
    expect(lines()[0]).toContain(errorTable.invalid_event.wayOut)
    expect(lines()[1]).toMatch(
      new RegExp(`${time} taken     more beacon from ${url} event 1 of 2 \\| {"name"`),
    )
    child.kill('SIGINT')
    expect(await ended).toBe(0)
    expect(stderr()).toBe('')
    await expect.poll(() => live.isWatched).toBe(false)
  })

  test('shows the events of one stream, the refused ones, those of one code, and all that is known of them as JSON', async () => {
    const { url, port, live } = await serve()
    const tails = [
      tail(['--port', port, '--stream', 'more', '--json']),
      tail(['--rejected', '--json'], { PORT: port }),
      tail(['--code', 'malformed_json', '--json'], { PORT: '1', ADMIN_PORT: port }),
    ]
    // The last one has come when it has been told what was refused.
    await expect.poll(() => live.isWatched, watched).toBe(true)
    await post(`${url}/v1/streams/web`, '{')
    await post(`${url}/v1/streams/more`, '{')
    await post(`${url}/v1/streams/more`, '{"name":"b"}')
    const of = (nth: number) =>
      tails[nth]!.lines().map((line) => {
        const { stream, fate, code } = JSON.parse(line) as Record<string, string>
        return `${stream} ${code ?? fate}`
      })
    await expect
      .poll(() => [of(0), of(1), of(2)], watched)
      .toEqual([
        ['more malformed_json', 'more invalid_event'],
        ['web malformed_json', 'more malformed_json', 'more invalid_event'],
        ['web malformed_json', 'more malformed_json'],
      ])
    await post(`${url}/v1/streams/more`, good)
    await expect.poll(() => of(0).at(-1), watched).toBe('more taken')
    expect(JSON.parse(tails[0]!.lines().at(-1)!)).toMatchObject({ text: good, origin: url, wayOut: null })
    expect(of(1)).toHaveLength(3)
  })

  test('ends well when nobody reads its output any more', async () => {
    const { url, live } = await serve()
    const { child, lines, stderr, ended } = tail(['--url', url])
    await expect.poll(() => live.isWatched, watched).toBe(true)
    await post(`${url}/v1/streams/web`, '{')
    await expect.poll(lines, watched).toHaveLength(1)
    child.stdout.destroy()
    await post(`${url}/v1/streams/web`, '{')
    expect(await ended).toBe(0)
    expect(stderr()).toBe('')
  })

  test('goes on when its output was not read for longer than a gateway may be silent', async () => {
    const { url, live } = await serve()
    const child = spawn(process.execPath, [...thirtyTimesAsFast, ...chuteArguments, 'tail', '--url', url], {
      env: chuteEnvironment({}),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [lines, stderr] = [0, '']
    child.stderr.on('data', (chunk) => (stderr += String(chunk)))
    closing.push(() => child.kill('SIGKILL'))
    await expect.poll(() => live.isWatched, watched).toBe(true)
    // More than the pipe takes, and less than the gateway keeps for a reader.
    const flood = 1_000
    for (let nth = 0; nth < flood; nth++) live.show({ ...event, text: 'x'.repeat(500) })
    await pause(3_000)
    child.stdout.on('data', (chunk: Buffer) => (lines += String(chunk).split('\n').length - 1))
    await expect
      .poll(() => {
        live.show({ ...event })
        return lines > flood + 20 || stderr !== ''
      }, watched)
      .toBe(true)
    expect(stderr).toBe('')
    expect(child.exitCode).toBe(null)
  })

  test('takes the key of its environment, or of a file, and says how to give one', async () => {
    const key: KeyConfig = {
      name: 'ops',
      kind: 'admin',
      sha256: [sha256OfKey('value-of-ops')],
      streams: [],
      origins: [],
      sources: null,
      notAfterMs: null,
      limits: null,
      addressLimits: null,
    }
    const { url, live } = await serve({ keys: [key] })
    const folder = mkdtempSync(join(tmpdir(), 'chute-tail-'))
    closing.push(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'key')
    writeFileSync(file, 'value-of-ops\n')
    const args = ['--url', url]
    const [none, wrong, missing, ofFile, ofVariable] = [
      tail(args),
      tail(args, { CHUTE_ADMIN_KEY: 'guess' }),
      tail(args, { CHUTE_ADMIN_KEY_FILE: join(folder, 'nothing') }),
      tail(args, { CHUTE_ADMIN_KEY_FILE: file }),
      tail(args, { CHUTE_ADMIN_KEY: 'value-of-ops' }),
    ]
    expect(await Promise.all([none.ended, wrong.ended, missing.ended])).toEqual([1, 1, 1])
    expect(none.stderr()).toMatch(/needs an admin key: set CHUTE_ADMIN_KEY, or CHUTE_ADMIN_KEY_FILE/)
    expect(wrong.stderr()).toMatch(/does not take the key of CHUTE_ADMIN_KEY: no key has this value/)
    expect(missing.stderr()).toMatch(/CHUTE_ADMIN_KEY_FILE names .*nothing: ENOENT/)
    await expect.poll(() => live.isWatched, watched).toBe(true)
    live.show({ ...event })
    await expect.poll(() => [ofFile.lines().length, ofVariable.lines().length], watched).toEqual([1, 1])
  })

  test('asks the port of its environment by HTTPS where that has TLS_CERT, whoever signed the certificate', async () => {
    const authority = makeAuthority()
    const { url, port, live } = await serve({ tls: { ...authority.issue('gateway'), clientCa: null } })
    const folder = mkdtempSync(join(tmpdir(), 'chute-tail-'))
    closing.push(() => rmSync(folder, { recursive: true }))
    const ca = join(folder, 'ca.pem')
    writeFileSync(ca, authority.ca)
    const https = url.replace('http:', 'https:')
    const [ofPort, ofUrl, unknown, plain] = [
      tail([], { PORT: port, TLS_CERT_FILE: 'tls.crt' }),
      tail(['--url', https], { NODE_EXTRA_CA_CERTS: ca }),
      tail(['--url', https]),
      tail(['--url', url]),
    ]
    expect(await Promise.all([unknown.ended, plain.ended])).toEqual([1, 1])
    expect(unknown.stderr()).toMatch(/NODE_EXTRA_CA_CERTS names a file/)
    expect(plain.stderr()).toMatch(/speaks HTTPS.*Give its URL with https:\/\//)
    await expect.poll(() => live.isWatched, watched).toBe(true)
    await expect
      .poll(() => {
        live.show({ ...event })
        return Math.min(ofPort.lines().length, ofUrl.lines().length)
      }, watched)
      .toBeGreaterThan(0)
  })

  test('says why it shows nothing, and what to do', async () => {
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const free = String((silent.address() as AddressInfo).port)
    silent.close()
    const [off, on, noAdmin] = [await serve({}, false), await serve(), await serve({ adminPort: 1 })]
    const [away, isOff, noStream, otherPort] = [
      tail(['--port', free]),
      tail(['--url', off.url]),
      tail(['--url', on.url, '--stream', 'wbe']),
      tail(['--url', noAdmin.url]),
    ]
    const all = [away, isOff, noStream, otherPort]
    expect(await Promise.all(all.map(async ({ ended }) => await ended))).toEqual([1, 1, 1, 1])
    expect(away.stderr()).toMatch(/does not answer: .*ECONNREFUSED[^]*--url or --port/)
    expect(isOff.stderr()).toMatch(/shows no events: .*LIVE_EVENTS/)
    expect(noStream.stderr()).toMatch(/has no stream wbe\. It has web, more\./)
    expect(otherPort.stderr()).toMatch(/shows no events[^]*ADMIN_PORT/)
  })

  test('says that the gateway leaves', async () => {
    const { url, live, readers } = await serve()
    const { stderr, ended } = tail(['--url', url])
    await expect.poll(() => live.isWatched, watched).toBe(true)
    readers.close()
    expect(await ended).toBe(1)
    expect(stderr()).toMatch(/has ended the reply: the gateway leaves/)
  })

  test('that is cut off does not ask whether the gateway is there', async () => {
    const { url, live, cutOff } = await serve()
    const { stderr, ended } = tail(['--url', url])
    await expect.poll(() => live.isWatched, watched).toBe(true)
    cutOff()
    expect(await ended).toBe(1)
    expect(stderr()).toMatch(
      /has broken off the reply \(aborted\): it is gone, or this output was read too slowly/,
    )
  })

  test('refuses a key on the command line, and what it cannot use', async () => {
    const wrong = [
      [['--url', 'http://value-of-ops@127.0.0.1'], /set CHUTE_ADMIN_KEY instead/],
      [['--url', 'http://127.0.0.1?key=value-of-ops'], /set CHUTE_ADMIN_KEY instead/],
      [['--url', 'ftp://a'], /--url must be an http/],
      [['--port', '70000'], /--port must be a whole number/],
      [['--port', '80', '--url', 'http://a'], /cannot both/],
      [['--code', 'nope'], /--code must be a code/],
    ] as const
    for (const [args, text] of wrong) {
      const { stderr, ended } = tail(args)
      expect(await ended, args.join(' ')).toBe(2)
      expect(stderr()).toMatch(text)
    }
  })
})

const event = {
  fate: 'refused',
  stream: 'web',
  transport: 'http',
  origin: null,
  key: null,
  code: 'invalid_event',
  detail: null,
  reply: null,
  index: null,
  events: null,
  path: null,
  text: null,
  bytes: null,
} as const

import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { once } from 'node:events'
import { afterEach, describe, expect, test } from 'vitest'
import { buildGateway, type Gateway } from '../../src/app.ts'
import { sha256OfKey, type HttpConfig, type KeyConfig } from '../../src/config/config.ts'
import { Deduplicator } from '../../src/dedupe/deduplicator.ts'
import { MemoryDedupeStore } from '../../src/dedupe/memory-dedupe-store.ts'
import { errorTable } from '../../src/errors.ts'
import { LiveEvents } from '../../src/live-events.ts'
import { EventReaders, mostReaders, registerLiveEvents } from '../../src/routes/admin/live-events.ts'
import type { ServerOptions } from '../../src/routes/server.ts'
import { buildEdge, type Edge, fakeLimits } from '../support/edge.ts'
import { type EventReader, readEvents, type ToldEvent } from '../support/event-reader.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { testConfig } from '../support/gateway.ts'
import { streamConfig } from '../support/producer-fixture.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

function keyOf(name: string, kind: KeyConfig['kind'], more: Partial<KeyConfig> = {}): KeyConfig {
  return {
    name,
    kind,
    sha256: [sha256OfKey(`value-of-${name}`)],
    streams: ['*'],
    origins: [],
    sources: null,
    notAfterMs: null,
    limits: null,
    addressLimits: null,
    ...more,
  }
}

interface Served {
  readonly edge: Edge
  readonly url: string
  readonly live: LiveEvents
  readonly readers: EventReaders
}

async function serve(
  http: Partial<HttpConfig> = {},
  producer = new FakeProducer({ name: 'web' }),
  more: Partial<ServerOptions> = {},
): Promise<Served> {
  const live = new LiveEvents()
  const readers = new EventReaders()
  const edge = buildEdge(http, [producer], {
    ...more,
    live,
    admin: (app) =>
      registerLiveEvents(app, { source: live, readers, streams: () => ['web'], mayBeHost: null }),
  })
  closing.push(async () => {
    readers.close()
    await edge.app.close()
  })
  await edge.app.listen({ host: '127.0.0.1', port: 0 })
  return { edge, live, readers, url: `http://127.0.0.1:${(edge.app.server.address() as AddressInfo).port}` }
}

async function read(url: string, headers?: Record<string, string>): Promise<EventReader> {
  const reader = await readEvents(url, headers)
  closing.push(reader.close)
  return reader
}

/** Waits for an event, and returns it. */
async function told(reader: EventReader, fits: (event: ToldEvent) => boolean): Promise<ToldEvent> {
  await expect.poll(() => reader.events.some(fits), { timeout: 5_000 }).toBe(true)
  return reader.events.find(fits)!
}

const good = '{"name":"a","value":1}'

async function post(
  url: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Response> {
  return await fetch(url, { method: 'POST', body, headers })
}

describe('/live/events', () => {
  test('tells each event that is taken while somebody reads, with its place and its first bytes', async () => {
    const { url, live } = await serve()
    await post(`${url}/v1/streams/web`, '{"name":"unseen","value":1}')
    const reader = await read(url)
    expect(reader.streams).toEqual(['web'])
    expect(live.isWatched).toBe(true)
    const long = JSON.stringify({ name: 'long', value: 1, text: 'x'.repeat(300) })
    await post(`${url}/v1/streams/web`, `[${good},${long}]`, { origin: url })
    await post(`${url}/v1/beacon/web`, good)
    await fetch(`${url}/v1/beacon/web.gif?name=pixel&value=2&key=value-of-nobody`)
    await told(reader, ({ transport }) => transport === 'pixel')
    expect(reader.events).toMatchObject([
      {
        fate: 'taken',
        stream: 'web',
        transport: 'http',
        index: 0,
        events: 2,
        text: good,
        bytes: good.length,
        origin: url,
      },
      {
        fate: 'taken',
        index: 1,
        events: 2,
        text: `${long.slice(0, 200)}…`,
        bytes: long.length,
        wayOut: null,
      },
      { fate: 'taken', transport: 'beacon', origin: null, index: 0, events: 1, code: null },
      { fate: 'taken', transport: 'pixel', text: '{"name":"pixel","value":2}' },
    ])
    expect(reader.text).not.toMatch(/unseen|value-of-nobody/)
    reader.close()
    await expect.poll(() => live.isWatched).toBe(false)
  })

  test('tells what was refused, also before somebody reads, with the code, the place of the fault and the way out', async () => {
    const { url } = await serve({ limits: { ...fakeLimits, bodyBytes: 1_000, eventBytes: 500 } })
    await post(`${url}/v1/streams/web`, '{"name":"a"}', { origin: url })
    const reader = await read(url)
    await post(`${url}/v1/streams/web`, `[${good},{"name":"b","value":"x"}]`)
    await post(`${url}/v1/streams/web`, '{"name":')
    await post(`${url}/v1/beacon/web`, JSON.stringify({ name: 'a', value: 1, pad: 'x'.repeat(600) }))
    await post(`${url}/v1/beacon/web`, 'x'.repeat(2_000))
    await post(`${url}/v1/streams/wbe?name=hidden`, good)
    await post(`${url}/v1/beacon/web`, good, { origin: 'https://evil.example' })
    await told(reader, ({ code }) => code === 'origin_not_allowed')
    const refused = reader.events.filter(({ fate }) => fate === 'refused')
    expect(refused).toMatchObject([
      {
        code: 'invalid_event',
        reply: 'all_events_invalid',
        detail: '/value must be a finite number, got nothing',
        text: '{"name":"a"}',
        index: 0,
        events: 1,
        wayOut: errorTable.invalid_event.wayOut,
        origin: url,
      },
      { code: 'invalid_event', reply: null, index: 1, events: 2, text: '{"name":"b","value":"x"}' },
      { code: 'malformed_json', reply: 'malformed_json', text: '{"name":', bytes: 8, index: null },
      { code: 'event_too_large', reply: 'all_events_invalid', transport: 'beacon', bytes: 631 },
      { code: 'body_too_large', text: null, bytes: null, wayOut: errorTable.body_too_large.wayOut },
      { code: 'unknown_stream', stream: null, path: '/v1/streams/wbe' },
      { code: 'origin_not_allowed', stream: 'web', origin: 'https://evil.example', text: null },
    ])
    expect(reader.text).not.toContain('hidden')
  })

  test('never tells the value of a key, wherever it was sent', async () => {
    const keys = [keyOf('web', 'public'), keyOf('ops', 'admin')]
    const { url } = await serve({ keys })
    const reader = await read(url, { 'x-chute-key': 'value-of-ops' })
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    const path = `${url}/v1/beacon/web`
    await post(`${path}?key=value-of-web`, good)
    await post(path, '{"name":"b"}', { authorization: 'Bearer value-of-web' })
    await post(path, '{', { authorization: `Basic ${Buffer.from('value-of-web:').toString('base64')}` })
    await post(`${path}?key=value-of-web`, 'name=form&value=1&key=value-of-web', form)
    await post(`${path}?key=value-of-web`, 'name=form&key=value-of-web', form)
    await post(`${path}?key=value-of-web`, `key=value-of-web&${'a=1&'.repeat(300)}`, form)
    await fetch(`${path}.gif?name=pixel&key=value-of-web`)
    await post(path, good, { 'x-chute-key': 'value-of-guess' })
    await post(`${url}/v1/streams/none?key=value-of-web`, good)
    await post(`${url}/value-of?key=value-of-web`, good)
    await post(path, '{"key":"chk_pub_o5smw2rek98ddpc4wr7co3mpzfotior"', { 'x-chute-key': 'value-of-web' })
    await told(reader, ({ text }) => text === '{"key":"chk_…"')
    const seen = reader.events.map(({ code, fate, key }) => `${code ?? fate} ${key}`)
    expect(seen).toEqual([
      'taken web',
      'invalid_event web',
      'malformed_json web',
      'taken web',
      'invalid_event web',
      'too_many_fields web',
      'invalid_event web',
      'key_unknown null',
      'unknown_stream web',
      'not_found null',
      'malformed_json web',
    ])
    expect(reader.text).not.toMatch(/value-of-(web|ops|guess)|dmFsdWUt|o5smw2/)
  })

  test('says of accepted events that they were dropped, or were accepted before', async () => {
    const dropping = new FakeProducer({ name: 'web', onBufferFull: 'drop' })
    dropping.hasRoom = false
    const { url } = await serve({}, dropping)
    const reader = await read(url)
    await post(`${url}/v1/streams/web`, good)
    expect(await told(reader, () => true)).toMatchObject({
      fate: 'dropped',
      code: null,
      detail: 'the buffer of the stream was full',
    })

    const store = new MemoryDedupeStore(1_000)
    const deduplicator = new Deduplicator({ store, windowMs: 600_000, journal: null, isShared: false })
    const telling = new FakeProducer({ name: 'web', dedupe: { windowMs: 600_000, maxEntries: 1_000 } })
    const again = await serve({}, telling, { dedupe: new Map([['web', deduplicator]]) })
    const reading = await read(again.url)
    const twice = '{"name":"a","value":1,"id":"1"}'
    await post(`${again.url}/v1/streams/web`, twice)
    await post(`${again.url}/v1/streams/web`, `[${twice},{"name":"b","value":1,"id":"2"}]`)
    await post(`${again.url}/v1/streams/web`, twice, { 'idempotency-key': 'k' })
    await post(`${again.url}/v1/streams/web`, twice, { 'idempotency-key': 'k' })
    await expect.poll(() => reading.events.length, { timeout: 5_000 }).toBe(5)
    expect(
      reading.events.map(({ fate, index, detail }) => [fate, index, detail?.slice(0, 28) ?? null]),
    ).toEqual([
      ['taken', 0, null],
      ['taken', 1, null],
      ['duplicate', null, '1 of 2 events were accepted '],
      ['duplicate', null, '1 of 1 events were accepted '],
      ['duplicate', null, '1 of 1 events were accepted '],
    ])
  })

  test('shows ten taken and ten refused events of a request at most', async () => {
    const { url } = await serve()
    const reader = await read(url)
    const bad = '{"name":"b"}'
    await post(`${url}/v1/streams/web`, `[${[...Array(15).fill(good), ...Array(15).fill(bad)].join(',')}]`)
    await told(reader, ({ code }) => code === 'invalid_event')
    const indexes = (fate: string) =>
      reader.events.filter((each) => each.fate === fate).map(({ index }) => index)
    expect(indexes('taken')).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(indexes('refused')).toEqual([15, 16, 17, 18, 19, 20, 21, 22, 23, 24])
  })

  test('needs an admin key where there are keys', async () => {
    const { url } = await serve({ keys: [keyOf('web', 'public'), keyOf('ops', 'admin')] })
    await expect(readEvents(url)).rejects.toThrow(/^401 .*key_missing/)
    await expect(readEvents(url, { 'x-chute-key': 'value-of-web' })).rejects.toThrow(/^403 .*key_not_allowed/)
    await read(url, { authorization: 'Bearer value-of-ops' })
  })

  test('takes a bounded number of readers, and takes another one when one has gone', async () => {
    const { url } = await serve()
    const readers: EventReader[] = []
    for (let nth = 0; nth < mostReaders; nth++) readers.push(await read(url))
    await expect(readEvents(url)).rejects.toThrow(/^429 .*rate_limited.*close one/)
    readers[0]!.close()
    await expect
      .poll(
        async () =>
          await readEvents(url).then(
            (reader) => closing.push(reader.close) > 0,
            () => false,
          ),
      )
      .toBe(true)
  })

  test('forgets the readers of a connection that asked twice before the first reply had ended', async () => {
    const { url, live } = await serve()
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    const request = 'GET /live/events HTTP/1.1\r\nHost: localhost\r\n\r\n'
    socket.write(request + request)
    await once(socket, 'data')
    expect(live.isWatched).toBe(true)
    socket.destroy()
    await expect.poll(() => live.isWatched, { timeout: 5_000 }).toBe(false)
  })

  test('cuts off a reader that does not read', async () => {
    const { url, live } = await serve()
    const { port } = new URL(url)
    const socket = connect({ port: Number(port), host: '127.0.0.1' })
    socket.on('error', () => {})
    socket.write('GET /live/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n')
    await once(socket, 'data')
    socket.pause()
    const closed = once(socket, 'close')
    await expect.poll(() => live.isWatched).toBe(true)
    const text = '\u0001'.repeat(200)
    const flood = setInterval(() => {
      for (let nth = 0; nth < 2_000; nth++) live.show({ ...nothing, detail: text, text })
    }, 20)
    await expect.poll(() => live.isWatched, { timeout: 20_000 }).toBe(false)
    clearInterval(flood)
    socket.destroy()
    await closed
  })

  test('has no HEAD, and ends when the gateway leaves', async () => {
    const { url, readers, live } = await serve()
    expect((await fetch(`${url}/live/events`, { method: 'HEAD' })).status).toBe(405)
    const reader = await read(url)
    readers.close()
    await reader.ended
    expect(live.isWatched).toBe(false)
    await expect(readEvents(url)).rejects.toThrow(/^503 .*shutting_down/)
  })
})

const nothing = {
  fate: 'refused',
  stream: 'web',
  transport: 'http',
  origin: null,
  key: null,
  code: 'invalid_event',
  reply: null,
  index: null,
  events: null,
  path: null,
  bytes: null,
} as const

describe('a gateway', () => {
  async function start(http: Partial<HttpConfig>): Promise<{ gateway: Gateway; url: string }> {
    const config = testConfig({
      brokers: ['127.0.0.1:1'],
      streams: [{ ...streamConfig('t', 'at-most-once'), name: 'web' }],
      http,
      shutdownTimeoutMs: 2_000,
    })
    const gateway = buildGateway(config, { debug() {}, info() {}, warn() {}, error() {} })
    closing.push(async () => await gateway.stop())
    await gateway.start()
    return { gateway, url: gateway.server.listeningOrigin }
  }

  test('that does not show events says so, and where to look', async () => {
    const { url } = await start({ liveEvents: false })
    await expect(readEvents(url)).rejects.toThrow(/^404 .*LIVE_EVENTS/)
    expect(await (await fetch(`${url}/live.json`)).json()).toMatchObject({ hasEvents: false })
  })

  test('on a loopback address shows events to no page that has given that address a name of its own', async () => {
    const { url } = await start({})
    const { port } = new URL(url)
    for (const [host, status] of [
      [`evil.example:${port}`, 403],
      [`127.0.0.1.evil.example:${port}`, 403],
      [`localhost:${port}`, 200],
      [`127.0.0.1:${port}`, 200],
      [`[::1]:${port}`, 200],
      [`chute.localhost:${port}`, 200],
    ] as const) {
      const socket = connect({ port: Number(port), host: '127.0.0.1' })
      socket.write(`GET /live/events HTTP/1.1\r\nhost: ${host}\r\n\r\n`)
      const [head] = (await once(socket, 'data')) as [Buffer]
      expect(head.toString(), host).toMatch(new RegExp(`^HTTP/1.1 ${status}`))
      socket.destroy()
    }
  })

  test('with an admin port shows events there, and not on the port for events', async () => {
    const { gateway, url } = await start({ adminPort: 0 })
    await expect(readEvents(url)).rejects.toThrow(/^404 /)
    const reader = await read(gateway.adminServer!.listeningOrigin)
    await post(`${url}/v1/streams/web`, '{')
    expect(await told(reader, () => true)).toMatchObject({ code: 'malformed_json', stream: 'web' })
  })

  test('leaves at once although somebody reads events', async () => {
    const { gateway, url } = await start({})
    const reader = await read(url)
    expect(reader.streams).toEqual(['web'])
    const startedAtMs = performance.now()
    await gateway.stop(Promise.resolve(true))
    await reader.ended
    expect(performance.now() - startedAtMs).toBeLessThan(1_900)
  })
})

import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { Config, StreamConfig } from '../../src/config/config.ts'
import { Deduplicators } from '../../src/dedupe/deduplicators.ts'
import { Producers } from '../../src/kafka/producers.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { invalidConfig, streamConfig } from '../support/producer-fixture.ts'
import { temporaryFolder } from '../support/spool-fixture.ts'

const stays: StreamConfig = { ...streamConfig('stays', 'at-most-once'), schema: 'any' }
const goes: StreamConfig = { ...streamConfig('goes', 'at-most-once'), schema: 'any' }

let started: TestGateway

/** Nobody listens at the broker's address: a stream without records drains all the same. */
function configOf(...streams: readonly StreamConfig[]): Config {
  return testConfig({ brokers: ['127.0.0.1:1'], streams, shutdownTimeoutMs: 1_000 })
}

async function detailOf(stream: string): Promise<{ status: number; detail: string }> {
  const reply = await fetch(`${started.url}/v1/streams/${stream}`, { method: 'POST', body: '{}' })
  return { status: reply.status, detail: ((await reply.json()) as { detail: string }).detail }
}

afterEach(async () => {
  vi.restoreAllMocks()
  await started.stop()
})

describe('a stream drains between the two steps of a reload, as it can with workers', () => {
  test('which brings the stream back: it takes events', async () => {
    started = await startGatewayWith(configOf(stays, goes), { awaitReady: false })
    const { gateway } = started
    await gateway.reload(configOf(stays))
    const prepared = await gateway.prepareReload(configOf(stays, goes))
    await started.logged('the stream has drained')
    prepared.commit()
    await expect(detailOf('goes')).resolves.toEqual(await detailOf('stays'))
  })

  test('which leaves the stream as it is: it was to come back, and takes events', async () => {
    started = await startGatewayWith(configOf(stays, goes), { awaitReady: false })
    const { gateway } = started
    await gateway.reload(configOf(stays))
    await gateway.reload(configOf(stays, goes))
    const prepared = await gateway.prepareReload(configOf(stays, { ...goes, onBufferFull: 'drop' }))
    await started.logged('the stream takes events again')
    prepared.commit()
    await expect(detailOf('goes')).resolves.toEqual(await detailOf('stays'))
  })

  test('which takes the stream away: it was to come back, and there is none', async () => {
    started = await startGatewayWith(configOf(stays, goes), { awaitReady: false })
    const { gateway } = started
    await gateway.reload(configOf(stays))
    await gateway.reload(configOf(stays, goes))
    const prepared = await gateway.prepareReload(configOf(stays))
    await started.logged('the stream takes events again')
    prepared.commit()
    await expect(detailOf('goes')).resolves.toMatchObject({ status: 404 })
    // A producer that was left over would be in use again when the stream comes back, with settings of its own time.
    await gateway.reload(configOf(stays, { ...goes, topic: 'other' }))
    await expect.poll(() => gateway.stats.map(({ topic }) => topic)).toContain('other')
  })
})

test('a stream that waits, or cannot be opened, is not available, and is tried again', async () => {
  started = await startGatewayWith(configOf(stays, goes), { awaitReady: false })
  const { gateway } = started
  const isAvailable = (): boolean | undefined =>
    gateway.stats.find(({ stream }) => stream === 'goes')?.available
  let mayLeave = (): void => {}
  const gate = new Promise<void>((resolve) => (mayLeave = resolve))
  const leave = Object.getOwnPropertyDescriptor(Producers.prototype, 'leave')!.value as Producers['leave']
  vi.spyOn(Producers.prototype, 'leave').mockImplementationOnce(async function (this: Producers, name) {
    await gate
    return await leave.call(this, name)
  })
  await gateway.reload(configOf(stays))
  await gateway.reload(configOf(stays, goes))
  expect(isAvailable()).toBe(false)
  await expect(detailOf('goes')).resolves.toMatchObject({ status: 503 })

  vi.spyOn(Producers.prototype, 'open').mockImplementationOnce(() => {
    throw new Error('no room')
  })
  mayLeave()
  await started.logged('the stream cannot be opened; it answers 503, and is tried again')
  expect(isAvailable()).toBe(false)
  await started.logged('the stream takes events again')
  await expect(detailOf('goes')).resolves.toEqual(await detailOf('stays'))
}, 20_000)

test('a stream that goes waits for its requests, however long a body may take', async () => {
  const waiting = vi.spyOn(Producers.prototype, 'leave')
  const withLongBodies = (...streams: readonly StreamConfig[]): Config => {
    const { http, ...config } = configOf(...streams)
    return { ...config, http: { ...http, limits: { ...http.limits, bodyTimeoutMaxMs: 2 ** 31 - 1 } } }
  }
  started = await startGatewayWith(withLongBodies(stays, goes), { awaitReady: false })
  const client = connect(Number(new URL(started.url).port), '127.0.0.1')
  const answered = once(client, 'data')
  client.write('POST /v1/streams/goes HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{')
  await pause(100)
  await started.gateway.reload(withLongBodies(stays))
  await pause(100)
  expect(waiting).not.toHaveBeenCalled()
  client.write('}')
  await answered
  await expect.poll(() => waiting.mock.calls).toEqual([['goes']])
  client.destroy()
})

test('a stream whose keys could not be read at a reload tells duplicates after the next one', async () => {
  const comes: StreamConfig = {
    ...streamConfig('comes', 'at-least-once'),
    dedupe: { windowMs: 60_000, maxEntries: 1_000 },
    spool: { fsync: true, maxBytes: 1 << 20 },
  }
  const dataDir = temporaryFolder()
  const next = { ...configOf(stays, comes), dataDir }
  started = await startGatewayWith({ ...configOf(stays), dataDir }, { awaitReady: false })
  vi.spyOn(Deduplicators.prototype, 'open').mockImplementationOnce(() => {
    throw new Error('EMFILE: too many open files')
  })
  await expect(started.gateway.reload(next)).rejects.toThrow('EMFILE')
  expect(started.gateway.stats.map(({ stream }) => stream)).toEqual(['stays'])
  await started.gateway.reload(next)
  const headers = { 'idempotency-key': 'one' }
  const send = async (): Promise<Response> =>
    await fetch(`${started.url}/v1/streams/comes`, { method: 'POST', body: '{}', headers })
  expect((await send()).status).toBe(202)
  expect((await send()).status).toBe(202)
  expect(started.gateway.stats.find(({ stream }) => stream === 'comes')?.accepted).toBe(1)
})

test('a stream that comes back and goes again before it has drained leaves no producer of its invalidTopic open', async () => {
  const withInvalid = { ...goes, invalid: invalidConfig('bad') }
  const opened = vi.spyOn(Producers.prototype, 'openInvalid')
  const left = vi.spyOn(Producers.prototype, 'leaveInvalid')
  vi.spyOn(Producers.prototype, 'leave').mockReturnValueOnce(new Promise(() => {}))
  started = await startGatewayWith(configOf(stays, withInvalid), { awaitReady: false })
  const reload = async (...streams: readonly StreamConfig[]): Promise<void> => {
    const { http, ...config } = configOf(...streams)
    // A producer of invalid events stays for as long as a request can take, which is 300 s more than this.
    const limits = { ...http.limits, bodyTimeoutMaxMs: -299_990 }
    await started.gateway.reload({ ...config, http: { ...http, limits } })
  }
  await reload(stays)
  await reload(stays, withInvalid)
  await reload(stays)
  const producers = opened.mock.results.map(({ value }) => value as unknown)
  expect(producers).toHaveLength(2)
  await expect.poll(() => left.mock.calls.map(([producer]) => producer)).toEqual(producers)
})

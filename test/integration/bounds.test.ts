import type { AddressInfo, Socket } from 'node:net'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import type { HttpConfig } from '../../src/config/config.ts'
import type { HttpBounds } from '../../src/config/limits.ts'
import type { LimitStore } from '../../src/limits/limit-counts.ts'
import { buildEdge, limitOf, speakTls, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { SocketClient } from '../support/socket-client.ts'

const good = '{"name":"room.temp","value":21.5}'
const stream = '/v1/streams/metrics-realtime'
const chunked = 'Transfer-Encoding: chunked'
let edge: Edge
let clients: SocketClient[] = []

async function listen(bounds: Partial<HttpBounds>, http: Partial<HttpConfig> = {}): Promise<void> {
  const many = { connections: 100, connectionsPerAddress: null, bodies: 100, bodiesPerAddress: null }
  edge = buildEdge({ bounds: { ...many, ...bounds }, ...http })
  await edge.app.listen({ port: 0, host: '127.0.0.1' })
}

function open(): SocketClient {
  const client = new SocketClient((edge.app.server.address() as AddressInfo).port, stream)
  clients.push(client)
  return client
}

/** Sends a request without the last byte of its body. */
async function openBody(): Promise<SocketClient> {
  const client = open()
  const before = edge.bounds.bodies
  client.socket.write(client.request(good).slice(0, -1))
  await vi.waitUntil(() => edge.bounds.bodies === before + 1)
  return client
}

async function answered(client: SocketClient, status: number): Promise<void> {
  client.post(good)
  await client.receives(/HTTP\/1\.1 \d{3}/)
  expect(client.statuses).toEqual([status])
}

afterEach(async () => {
  for (const { socket } of clients) socket.destroy()
  clients = []
  await edge.app.close()
  expect(edge.faults).toEqual([])
  expect(edge.bounds.bodies).toBe(0)
})

test('a connection too many is closed, and the others go on; when one closes there is room', async () => {
  await listen({ connections: 2 })
  const [first, second] = [open(), open()]
  await answered(first, 202)
  await answered(second, 202)
  await open().closes()
  expect(edge.bounds.refusedConnections).toEqual({ all: 1, address: 0 })
  first.socket.destroy()
  await vi.waitUntil(() => edge.bounds.connections === 1)
  await answered(open(), 202)
})

test.each([
  ['is closed', [], 1],
  ['stays where the address is in the allow-list', ['127.0.0.0/8'], 0],
])('one connection more than an address may hold %s', async (_what, rateLimitAllow, refused) => {
  await listen({ connectionsPerAddress: 1 }, { rateLimitAllow })
  await answered(open(), 202)
  const other = open()
  if (refused === 1) await other.closes()
  else await answered(other, 202)
  expect(edge.bounds.refusedConnections).toEqual({ all: 0, address: refused })
})

test('a body too many is refused with 503 before it is read, and taken when another one was read', async () => {
  await listen({ bodies: 1 })
  const slow = await openBody()
  const other = open()
  await answered(other, 503)
  expect(other.received).toMatch(/retry-after: 1\r\n[^]*"code":"too_many_bodies"/)
  slow.socket.write(good.slice(-1))
  await slow.receives(/ 202 /)
  await answered(open(), 202)
  expect(edge.producer.values).toHaveLength(2)
})

test('a body too many of one address is refused with 429, and another address is not harmed', async () => {
  await listen({ bodiesPerAddress: 1 })
  const slow = await openBody()
  await answered(open(), 429)
  const injected = { method: 'POST', url: stream, payload: good, remoteAddress: '192.0.2.7' } as const
  expect((await edge.app.inject(injected)).statusCode).toBe(202)
  slow.socket.destroy()
  await vi.waitUntil(() => edge.bounds.bodies === 0)
  await answered(open(), 202)
})

test.each([
  ['ends its connection', chunked, (socket: Socket) => socket.destroy()],
  ['resets its connection', chunked, (socket: Socket) => socket.resetAndDestroy()],
  ['resets its connection in a body', 'Content-Length: 9', (socket: Socket) => socket.resetAndDestroy()],
  ['sends what is no HTTP', chunked, (socket: Socket) => socket.write('x\r\nno chunk\r\n')],
])(
  'a client that %s while a shared store counts its request leaves no place taken',
  async (_what, body, leave) => {
    const charged: (() => void)[] = []
    const limitStore: LimitStore = {
      charge({ subjects }, done) {
        const usages = subjects.map(() => ({ openMs: 0, requests: 1, events: 0, bytes: 0 }))
        charged.push(() => done({ refusedBy: -1, usages }))
      },
      chargeNow: () => null,
      adopt() {},
    }
    edge = buildEdge({ rateLimit: limitOf({ requests: 10 }) }, [new FakeProducer()], { limitStore })
    await edge.app.listen({ port: 0, host: '127.0.0.1' })
    const client = open()
    client.socket.write(`POST ${stream} HTTP/1.1\r\nHost: a\r\n${body}\r\n\r\n`)
    await vi.waitUntil(() => charged.length === 1)
    leave(client.socket)
    await vi.waitUntil(() => edge.bounds.connections === 0)
    charged[0]!()
    await vi.waitUntil(() => edge.bounds.bodies === 0)
    expect(edge.producer.values).toEqual([])
  },
)

test('with TLS a connection too many ends before its handshake', async () => {
  onTestFinished(speakTls())
  await listen({ connections: 1 })
  await answered(open(), 202)
  const other = open()
  await vi.waitUntil(() => other.closed)
  expect(edge.bounds.refusedConnections.all).toBe(1)
})

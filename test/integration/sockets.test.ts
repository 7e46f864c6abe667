import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'
import { SocketClient } from '../support/socket-client.ts'

const good = '{"name":"room.temp","value":21.5}'
const stream = '/v1/streams/metrics-realtime'
let edge: Edge

async function listen(...parameters: Parameters<typeof buildEdge>): Promise<() => SocketClient> {
  edge = buildEdge(...parameters)
  await edge.app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = edge.app.server.address() as AddressInfo
  return () => new SocketClient(port, stream)
}

afterEach(async () => {
  expect(edge.faults).toEqual([])
  await edge.app.close()
})

/** When the gateway has seen that the client of a request is gone. */
async function closeOf([, response]: readonly unknown[]): Promise<void> {
  await once(response as ServerResponse, 'close')
}

describe('a connection', () => {
  test('is kept for the next request, also after a refusal', async () => {
    const client = (await listen())()
    client.post(good)
    await client.receives(/"accepted":1/)
    client.post('{')
    await client.receives(/malformed_json/)
    client.post(good)
    await client.receives(/malformed_json[^]*"accepted":1/)
    expect(client.closed).toBe(false)
    client.socket.destroy()
  })

  test('over which nothing has come does not hold up the close of the server', async () => {
    const open = await listen()
    const accepted = once(edge.app.server, 'connection')
    const client = open()
    await accepted
    await edge.app.close()
    await client.closes()
    expect(client.received).toBe('')
  })

  test('over which the first request comes while the server closes gets its answer', async () => {
    const open = await listen()
    const accepted = once(edge.app.server, 'connection')
    const client = open()
    await accepted
    const closed = edge.app.close()
    client.post(good)
    await client.receives(/HTTP\/1\.1 202/)
    await closed
  })

  test('answers pipelined requests in order', async () => {
    const client = (await listen())()
    client.post(good)
    client.post('{')
    client.post(good)
    await client.receives(/HTTP\/1\.1 202[^]*HTTP\/1\.1 400[^]*HTTP\/1\.1 202[^]*"accepted":1/)
    client.socket.destroy()
  })

  test('takes a body that comes byte by byte', async () => {
    const client = (await listen())()
    client.socket.setNoDelay()
    client.socket.write(`POST ${stream} HTTP/1.1\r\nHost: a\r\nContent-Length: ${good.length}\r\n\r\n`)
    for (const character of good) {
      client.socket.write(character)
      await new Promise(setImmediate)
    }
    await client.receives(/"accepted":1/)
    expect(edge.producer.values).toEqual([good])
    client.socket.destroy()
  })
})

describe('a client that goes away', () => {
  test('in the middle of its body has sent nothing', async () => {
    const client = (await listen())()
    const requested = once(edge.app.server, 'request')
    client.socket.write(`POST ${stream} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n${good}`)
    const gone = closeOf(await requested)
    client.socket.destroy()
    await gone
    expect(edge.producer.records).toEqual([])
    expect(edge.telemetry).toMatchObject({ accepted: 0, rejected: 0 })
  })

  test('while it waits for room has nothing accepted: it would send it again', async () => {
    const client = (await listen({}, [new FakeProducer({ onBufferFull: 'block' })]))()
    edge.producer.hasRoom = false
    const requested = once(edge.app.server, 'request')
    client.post(good)
    const [{ socket }] = (await requested) as [IncomingMessage]
    const gone = once(socket, 'end')
    const grant = await vi.waitUntil(() => edge.producer.waiters[0])
    client.socket.destroy()
    await gone
    grant(true)
    await vi.waitUntil(() => edge.telemetry.rejected === 1)
    expect(edge.producer).toMatchObject({ records: [], openBytes: 0 })
  })

  test('after its events were accepted does not take them back', async () => {
    const client = (await listen())()
    client.post(good, ['Prefer: wait=5'])
    await vi.waitUntil(() => edge.producer.records.length === 1)
    client.socket.destroy()
    await client.closes()
    edge.producer.batch.settle()
    await vi.waitUntil(() => edge.telemetry.replies.length === 1)
    expect(edge.telemetry).toMatchObject({ accepted: 1, rejected: 0 })
  })
})

describe('a body that is refused', () => {
  test('for its announced size is not asked for with 100 Continue', async () => {
    const client = (await listen({ limits: { ...fakeLimits, bodyBytes: 100 } }))()
    client.socket.write(
      `POST ${stream} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n`,
    )
    await client.receives(/body_too_large/)
    expect(client.received).toMatch(/^HTTP\/1\.1 413/)
    client.socket.destroy()
  })

  test('is asked for with 100 Continue if it fits', async () => {
    const client = (await listen())()
    client.socket.write(
      `POST ${stream} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ${good.length}\r\n\r\n`,
    )
    await client.receives(/^HTTP\/1\.1 100 Continue/)
    client.socket.write(good)
    await client.receives(/"accepted":1/)
    client.socket.destroy()
  })

  test('is answered while it is still being sent, and the reply arrives', async () => {
    const client = (await listen({ limits: { ...fakeLimits, bodyBytes: 1000 } }))()
    const body = 'x'.repeat(4_000_000)
    client.post(body)
    await client.receives(/body_too_large/)
    await client.closes()
    expect(client.received).toMatch(/connection: close/i)
    expect(client.received.match(/HTTP\/1\.1/g)).toHaveLength(1)
  })
})

describe('a request that takes too long', () => {
  const limits = { ...fakeLimits, bodyTimeoutMs: 300 }

  test('gets 408, and its events are not taken', async () => {
    const client = (await listen({ limits }))()
    client.socket.write(`POST ${stream} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n${good}`)
    await client.closes()
    expect(client.received).toMatch(/^HTTP\/1\.1 408[^]*"code":"body_timeout"/)
    expect(edge.producer.records).toEqual([])
  })

  test('is not one that is complete and waits for its outcome', async () => {
    const client = (await listen({ limits }))()
    client.post(good, ['Prefer: wait=1'])
    await client.receives(/HTTP\/1\.1/)
    expect(client.received).toMatch(/^HTTP\/1\.1 202/)
    client.socket.destroy()
  })
})

describe('closing', () => {
  test('answers what is under way, and then closes the connection', async () => {
    const client = (await listen())()
    client.socket.write(`POST ${stream} HTTP/1.1\r\nHost: a\r\nContent-Length: ${good.length}\r\n\r\n`)
    await once(edge.app.server, 'request')
    const closed = edge.app.close()
    client.socket.write(good)
    await client.receives(/"accepted":1/)
    await client.closes()
    await closed
    expect(edge.producer.values).toEqual([good])
  })
})

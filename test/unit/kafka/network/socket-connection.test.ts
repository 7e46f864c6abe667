import { once } from 'node:events'
import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { resetSocket, SocketConnection } from '../../../../src/kafka/network/socket-connection.ts'
import { copiedBelowBytes, type WireRequest } from '../../../../src/kafka/protocol/wire.ts'
import { answerFrame, connectLoopback, type LoopbackBroker } from '../../../support/loopback-broker.ts'

const requestTimeoutMs = 1_000
let client: Socket
let broker: LoopbackBroker
let connection: SocketConnection

beforeEach(async () => {
  ;({ client, broker } = await connectLoopback())
  connection = connectionOver(client)
})
afterEach(() => {
  connection.destroy(new Error('the test is over'))
  vi.useRealTimers()
})

function connectionOver(socket: Socket, firstCorrelationId = 7): SocketConnection {
  return new SocketConnection({
    socket,
    address: 'broker:9092',
    clientId: 'chüte',
    requestTimeoutMs,
    firstCorrelationId,
    served: new Map(),
    renewAtMs: Infinity,
  })
}

/** Timers and the clock stand still, the sockets do not. */
function stopTheClock(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
}

function requestOf(...parts: (string | Buffer)[]): WireRequest {
  const chunks = parts.map((part) => Buffer.from(part))
  return { apiKey: 2, apiVersion: 4, apiName: 'ListOffsets', chunks }
}

/** Calls, and keeps in `heard` what comes of it. */
function call(body: string, heard: string[] = []): Promise<string[]> {
  return new Promise((resolve) => {
    connection.call(
      requestOf(body),
      (payload) => resolve((heard.push(`${body}: ${payload.toString()}`), heard)),
      (error) => resolve((heard.push(`${body} failed: ${error.message}`), heard)),
    )
  })
}

function closed(): Promise<Error> {
  return new Promise((resolve) => connection.onClose(resolve))
}

/** Everything that was sent so far has arrived, also what has no answer. */
async function bodies(count: number): Promise<string[]> {
  return (await broker.until(count)).map(({ body }) => body.toString())
}

describe('a request', () => {
  test('has a header of version 1, and the correlation ids go on from where they were', async () => {
    void call('one')
    connection.send(requestOf('two'), () => {})
    const head = { apiKey: 2, apiVersion: 4, clientId: 'chüte' }
    expect(await broker.until(2)).toMatchObject([
      { ...head, correlationId: 7, body: Buffer.from('one') },
      { ...head, correlationId: 8, body: Buffer.from('two') },
    ])
  })

  test('goes with the highest correlation id, and the next with 0', async () => {
    connection = connectionOver(client, 2 ** 31 - 1)
    const heard: string[] = []
    const answers = [call('last', heard), call('first', heard)]
    expect((await broker.until(2)).map(({ correlationId }) => correlationId)).toEqual([2 ** 31 - 1, 0])
    broker.answer(2 ** 31 - 1, 'a')
    broker.answer(0, 'b')
    await Promise.all(answers)
    expect(heard).toEqual(['last: a', 'first: b'])
  })

  test('is written with all others of its turn, in one call, small ones and the ends of large ones in one piece', async () => {
    const write = vi.spyOn(client, 'write')
    const large = 'x'.repeat(copiedBelowBytes)
    connection.send(requestOf('a', 'b'), () => {})
    void call('c')
    connection.send(requestOf('d', large), () => {})
    connection.send(requestOf(large, 'e'), () => {})
    expect(write).not.toHaveBeenCalled()
    const pendingBytes = 4 * (14 + 6) + 5 + 2 * copiedBelowBytes
    expect(connection.pendingBytes).toBe(pendingBytes)
    expect(await bodies(4)).toEqual(['ab', 'c', `d${large}`, `${large}e`])
    expect(write.mock.calls.map(([piece]) => (piece as Buffer).length)).toEqual([
      3 * (14 + 6) + 4,
      copiedBelowBytes,
      14 + 6,
      copiedBelowBytes,
      1,
    ])
    expect(connection.pendingBytes).toBe(0)
    expect(client.writableCorked).toBe(0)
  })

  test('that is written tells so, in the order of the calls', async () => {
    const flushed: string[] = []
    for (const name of ['a', 'b', 'c']) connection.send(requestOf(name), () => flushed.push(name))
    expect(flushed).toEqual([])
    await bodies(3)
    expect(flushed).toEqual(['a', 'b', 'c'])
  })
})

describe('answers', () => {
  test('are read wherever they are cut', async () => {
    const heard: string[] = []
    const all = Buffer.concat([answerFrame(7, 'one'), answerFrame(8, ''), answerFrame(9, 'three')])
    const answers = [call('a', heard), call('b', heard), call('c', heard)]
    await broker.until(3)
    // Each byte by itself: what the socket reads is played, since the kernel may put bytes together.
    for (const byte of all) client.emit('data', Buffer.from([byte]))
    await Promise.all(answers)
    for (let cut = 0; cut <= all.length; cut++) {
      const first = 10 + 3 * cut
      const again = Buffer.from(all)
      ;[0, 11, 19].forEach((at, i) => again.writeInt32BE(first + i, at + 4))
      const next = [call('a', heard), call('b', heard), call('c', heard)]
      await broker.until(3 * (cut + 2))
      client.emit('data', again.subarray(0, cut))
      client.emit('data', again.subarray(cut))
      await Promise.all(next)
    }
    const expected = ['a: one', 'b: ', 'c: three']
    expect(heard).toEqual(Array.from({ length: all.length + 2 }, () => expected).flat())
  })

  test('of many megabytes, behind one another, are put together as they come', async () => {
    const sizes = [5_000_000, 3, 700_000]
    const answers = sizes.map(
      (_, i) =>
        new Promise<number>((resolve) => {
          connection.call(
            requestOf(`${i}`),
            ({ length }) => resolve(length),
            () => resolve(-1),
          )
        }),
    )
    await broker.until(sizes.length)
    sizes.forEach((size, i) => broker.answer(7 + i, 'x'.repeat(size)))
    expect(await Promise.all(answers)).toEqual(sizes)
  })

  test('that are not for the oldest request end the connection, and nobody gets them', async () => {
    const heard: string[] = []
    const answers = [call('a', heard), call('b', heard)]
    await broker.until(2)
    broker.answer(8, 'two')
    const cause = await closed()
    expect(cause.message).toBe('broker:9092 answered request 8, and 7 was next')
    await Promise.all(answers)
    expect(heard).toEqual([`a failed: ${cause.message}`, `b failed: ${cause.message}`])
  })

  test('that nobody asked for end the connection', async () => {
    connection.send(requestOf('a'), () => {})
    await broker.until(1)
    broker.answer(7, 'why')
    expect((await closed()).message).toBe('broker:9092 answered request 7, and nothing was asked')
  })

  test.each([-1, 3, 2 ** 31 - 1])('of %i bytes end the connection', async (size) => {
    const answer = call('a')
    await broker.until(1)
    const bytes = answerFrame(7, 'one')
    bytes.writeInt32BE(size, 0)
    broker.socket.write(bytes)
    const cause = await closed()
    expect(cause).toMatchObject({
      message: 'broker:9092 sent what is no answer',
      cause: expect.any(RangeError),
    })
    expect(await answer).toEqual([`a failed: ${cause.message}`])
  })

  test('that end too early for who reads them end the connection, and not the process', async () => {
    const heard: string[] = []
    connection.call(
      requestOf('a'),
      (payload) => heard.push(String(payload.readInt32BE(0))),
      () => {},
    )
    const answer = call('b', heard)
    await broker.until(2)
    broker.answer(7, 'abc')
    const cause = await closed()
    expect(cause).toMatchObject({
      message: 'broker:9092 sent an answer that ends too early',
      cause: expect.any(RangeError),
    })
    await answer
    expect(heard).toEqual([`b failed: ${cause.message}`])
  })

  test('behind the one that ended the connection are given to nobody', async () => {
    const heard: string[] = []
    connection.call(
      requestOf('a'),
      () => connection.destroy(new Error('enough')),
      () => heard.push('a failed'),
    )
    const answer = call('b', heard)
    await broker.until(2)
    broker.socket.write(Buffer.concat([answerFrame(7, ''), answerFrame(8, '')]))
    await answer
    expect(heard).toEqual(['b failed: enough'])
  })
})

describe('the time-out', () => {
  test('is that of the oldest request without an answer, and no timer is armed without one', async () => {
    stopTheClock()
    const heard: string[] = []
    connection.send(requestOf('-'), () => {})
    await broker.until(1)
    expect(vi.getTimerCount()).toBe(0)
    const first = call('a', heard)
    await broker.until(2)
    vi.advanceTimersByTime(600)
    void call('b', heard)
    await broker.until(3)
    expect(vi.getTimerCount()).toBe(1)
    broker.answer(8, 'one')
    await first
    vi.advanceTimersByTime(900)
    expect(connection.isOpen).toBe(true)
    vi.advanceTimersByTime(100)
    const message = 'broker:9092 did not answer within 1000 ms'
    expect(heard).toEqual(['a: one', `b failed: ${message}`])
    expect((await closed()).message).toBe(message)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('ends with the last answer', async () => {
    stopTheClock()
    const answer = call('a')
    await broker.until(1)
    expect(vi.getTimerCount()).toBe(1)
    broker.answer(7, 'one')
    await answer
    expect(vi.getTimerCount()).toBe(0)
    vi.advanceTimersByTime(10 * requestTimeoutMs)
    expect(connection.isOpen).toBe(true)
  })
})

describe('a broker that asks to be left alone', () => {
  test('gets what is called meanwhile afterwards, in order, and only then has to answer in time', async () => {
    stopTheClock()
    const before = call('before')
    await broker.until(1)
    broker.answer(7, '')
    await before
    connection.throttle(5 * requestTimeoutMs)
    const heard: string[] = []
    const flushed = vi.fn()
    const answer = call('a', heard)
    connection.send(requestOf('b'), flushed)
    expect(connection.pendingBytes).toBe(2 * (14 + 6) + 2)
    // It may ask for more, and for less than it has already.
    connection.throttle(7 * requestTimeoutMs)
    connection.throttle(10)
    vi.advanceTimersByTime(5 * requestTimeoutMs + 1)
    await new Promise(setImmediate)
    expect(broker.received).toHaveLength(1)
    expect(flushed).not.toHaveBeenCalled()
    connection.send(requestOf('c'), () => {})
    vi.advanceTimersByTime(2 * requestTimeoutMs - 1)
    connection.send(requestOf('d'), () => {})
    expect(await bodies(5)).toEqual(['before', 'a', 'b', 'c', 'd'])
    expect(flushed).toHaveBeenCalledOnce()
    expect(connection.pendingBytes).toBe(0)
    vi.advanceTimersByTime(requestTimeoutMs - 1)
    expect(connection.isOpen).toBe(true)
    vi.advanceTimersByTime(1)
    expect(await answer).toEqual(['a failed: broker:9092 did not answer within 1000 ms'])
  })

  test('gets what was called before in the same turn', async () => {
    stopTheClock()
    connection.send(requestOf('a'), () => {})
    connection.throttle(1_000)
    connection.send(requestOf('b'), () => {})
    expect(await bodies(1)).toEqual(['a'])
    expect(connection.pendingBytes).toBe(14 + 6 + 1)
  })
})

describe('the end', () => {
  test('tells all who wait for an answer, written or not, and then who listens, once', async () => {
    const heard: string[] = []
    connection.onClose(({ message }) => heard.push(`closed: ${message}`))
    void call('written', heard)
    await broker.until(1)
    void call('in this turn', heard)
    connection.throttle(1_000)
    void call('held back', heard)
    connection.destroy(new Error('enough'))
    connection.destroy(new Error('too late'))
    expect(heard).toEqual([
      'written failed: enough',
      'in this turn failed: enough',
      'held back failed: enough',
      'closed: enough',
    ])
    expect(connection).toMatchObject({ isOpen: false, pendingBytes: 0 })
  })

  test('takes along what was not written: the broker sees a reset and none of it', async () => {
    void call('before')
    await broker.until(1)
    const flushed = vi.fn()
    const reset = new Promise((resolve) => broker.socket.once('close', resolve))
    connection.send(requestOf('never'), flushed)
    connection.throttle(1)
    connection.send(requestOf('never either'), flushed)
    connection.destroy(new Error('enough'))
    connection.send(requestOf('nor this'), flushed)
    await reset
    expect(broker.received).toHaveLength(1)
    expect(flushed).not.toHaveBeenCalled()
    expect(await call('late')).toEqual(['late failed: enough'])
  })

  test('does not tell that the kernel has what it did not take', async () => {
    broker.socket.pause()
    let flushed = 0
    const count = 400
    for (let i = 0; i < count; i++) {
      connection.send(requestOf(Buffer.alloc(64_000)), () => flushed++)
      await new Promise(setImmediate)
    }
    expect(flushed).toBeGreaterThan(0)
    expect(connection.pendingBytes).toBeGreaterThan(0)
    const before = flushed
    connection.destroy(new Error('enough'))
    await once(client, 'close')
    expect(flushed).toBe(before)
    expect(flushed).toBeLessThan(count)
  })

  test.each<[string, (broker: LoopbackBroker) => void]>([
    ['reads no more', ({ socket }) => socket.end()],
    ['is gone', ({ socket }) => socket.destroy()],
    ['resets', ({ socket }) => socket.resetAndDestroy()],
  ])('comes when the broker %s', async (_, leave) => {
    const answer = call('a')
    await broker.until(1)
    leave(broker)
    const cause = await closed()
    expect(await answer).toEqual([`a failed: ${cause.message}`])
    expect(client.destroyed).toBe(true)
  })

  test('is told at once by a connection over a socket that had ended', async () => {
    client.destroy()
    await once(client, 'close')
    connection = connectionOver(client)
    expect(connection.isOpen).toBe(false)
    expect((await closed()).message).toBe('the connection to broker:9092 was closed')
  })
})

test('tells whenever bytes that waited have gone to the kernel', async () => {
  const drained = new Promise<void>((resolve) => connection.onDrain(resolve))
  broker.socket.pause()
  connection.send(requestOf(Buffer.alloc(16 << 20)), () => {})
  await new Promise(setImmediate)
  expect(connection.pendingBytes).toBeGreaterThan(0)
  broker.socket.resume()
  await drained
  expect(connection.pendingBytes).toBe(0)
})

test('a socket that was shut down is closed, and not forgotten', async () => {
  const { client: other } = await connectLoopback()
  other.end()
  await once(other, 'finish')
  const closing = once(other, 'close')
  resetSocket(other)
  await closing
})

import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import type { FastifyReply } from 'fastify'
import { expect, onTestFinished, test } from 'vitest'
import { connectionOf, trackConnection } from '../../../../src/routes/http/connection.ts'
import { replyRaw, sendReplies } from '../../../../src/routes/http/raw-reply.ts'

/** The requests of many clients, once all of them have come. */
async function requestsOf(clients: number, body = ''): Promise<ServerResponse[]> {
  const server = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  server.on('connection', (socket) => trackConnection(socket))
  await once(server, 'listening')
  const responses: ServerResponse[] = []
  const all = new Promise<void>((resolve) => {
    server.on('request', (_request, response: ServerResponse) => {
      connectionOf(response.req.socket)!.newest = response
      if (responses.push(response) === clients) resolve()
    })
  })
  for (let nth = 0; nth < clients; nth++) {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
    socket.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n${body}`)
  }
  await all
  return responses
}

/** Serves one request with `reply` and gives what its client got. */
async function serve(reply: (response: ServerResponse) => void): Promise<string> {
  const server = createServer((_request, response) => reply(response)).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const answer = await fetch(`http://127.0.0.1:${port}/`)
  return `${answer.status} ${await answer.text()}`
}

function replyTo(response: ServerResponse, body: string): void {
  replyRaw({ hijack() {}, raw: response } as unknown as FastifyReply, 202, ['x-name', 'value'], body)
}

test.each(['{"accepted":1}', ''])(
  'a reply goes at the end of the turn of the event loop: %j',
  async (body) => {
    const ended: boolean[] = []
    const received = await serve((response) => {
      replyTo(response, body)
      ended.push(response.writableEnded)
      setImmediate(() => ended.push(response.writableEnded))
    })
    expect(received).toBe(`202 ${body}`)
    expect(ended).toEqual([false, true])
  },
)

test('replies that were asked to go have gone, once each', async () => {
  const ended: boolean[] = []
  const received = await serve((response) => {
    replyTo(response, 'now')
    sendReplies()
    ended.push(response.writableEnded)
    sendReplies()
  })
  expect(received).toBe('202 now')
  expect(ended).toEqual([true])
})

test('a client that is gone before its reply goes harms no other reply', async () => {
  const received = await serve((response) => {
    const gone = response.req.socket
    replyTo(response, 'nobody reads this')
    gone.destroy()
  }).catch((error: unknown) => String(error))
  expect(received).toContain('fetch failed')
  expect(await serve((response) => replyTo(response, 'and this is read'))).toBe('202 and this is read')
})

test('of many replies in one turn few wait for each other, and a connection whose reply went early is not read again in the turn', async () => {
  const responses = await requestsOf(1_300, 'body')
  const sockets = responses.map(({ req }) => req.socket)
  for (const response of responses) replyTo(response, 'now')
  expect(responses.filter(({ writableEnded }) => writableEnded)).toHaveLength(1_280)
  // A usual turn has fewer than 1,024 of them.
  expect(sockets.map((socket) => socket.isPaused())).toEqual(
    sockets.map((_, nth) => nth >= 1_024 && nth < 1_280),
  )
  await new Promise((resolve) => setImmediate(resolve))
  expect(responses.filter(({ writableEnded }) => writableEnded)).toHaveLength(1_300)
  expect(sockets.filter((socket) => socket.isPaused())).toHaveLength(0)
  // The next turn begins to count anew.
  const [response] = await requestsOf(1, 'body')
  replyTo(response!, 'now')
  expect(response!.req.socket.isPaused()).toBe(false)
})

test('a connection forgets a request that is complete once its reply is sent', async () => {
  const [response] = await requestsOf(1, 'body')
  const connection = connectionOf(response!.req.socket)!
  response!.req.resume()
  await once(response!.req, 'end')
  replyTo(response!, 'done')
  expect(connection.newest).toBe(response)
  sendReplies()
  expect(connection.newest).toBe(null)
})

test('a connection remembers a request of which a part is still to come', async () => {
  const [response] = await requestsOf(1, 'bo')
  const connection = connectionOf(response!.req.socket)!
  replyTo(response!, 'early')
  sendReplies()
  expect(connection.newest).toBe(response)
  expect(connection.isReceiving).toBe(true)
})

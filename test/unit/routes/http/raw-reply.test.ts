import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyReply } from 'fastify'
import { expect, onTestFinished, test } from 'vitest'
import { replyRaw, sendReplies } from '../../../../src/routes/http/raw-reply.ts'

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

import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

/** An endpoint for `chute consume --http`, for the length of a test. */
export interface NdjsonEndpoint {
  readonly url: string
  /** What it was sent, in order. */
  readonly requests: readonly { readonly request: IncomingMessage; readonly lines: readonly string[] }[]
  /** All lines of all requests. */
  readonly lines: () => string[]
}

/** Starts an endpoint that keeps the lines that it is sent, and answers as the test says: `count` is 1 for the first request. */
export async function startNdjsonEndpoint(
  answer: (count: number, response: ServerResponse) => void,
): Promise<NdjsonEndpoint> {
  const requests: { request: IncomingMessage; lines: string[] }[] = []
  const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks = (await request.toArray()) as Buffer[]
    requests.push({ request, lines: Buffer.concat(chunks).toString().split('\n').filter(Boolean) })
    answer(requests.length, response)
  }
  const server = createServer((request, response) => void take(request, response)).listen(0, '127.0.0.1')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { requests, url: `http://127.0.0.1:${port}/in`, lines: () => requests.flatMap((each) => each.lines) }
}

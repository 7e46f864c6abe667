import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { hasBalancers, startHaproxy, startNginx } from '../support/balancers.ts'
import { freePorts } from '../support/free-ports.ts'

/** A server in the place of a gateway, which answers with the header fields that came. */
async function startEcho(): Promise<number> {
  const server = createServer((request, response) => response.end(JSON.stringify(request.headers)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

describe.skipIf(!hasBalancers)('the balancers of docs/deploy.md', () => {
  test.each(['HAProxy', 'nginx'])(
    '%s takes away what a client says of itself, and adds the address of the client',
    async (balancer) => {
      const gateways = [await startEcho(), await startEcho()] as const
      const [port] = await freePorts(1)
      if (balancer === 'nginx') await startNginx(port!, gateways)
      else await (await startHaproxy(port!, gateways))()
      const reply = await fetch(`http://127.0.0.1:${port}/`, {
        headers: {
          'x-forwarded-host': 'evil.example.com',
          forwarded: 'for=198.51.100.1;host=evil.example.com',
          'x-forwarded-for': '198.51.100.1',
        },
      })
      const headers = (await reply.json()) as IncomingHttpHeaders
      expect(headers).not.toHaveProperty('x-forwarded-host')
      expect(headers).not.toHaveProperty('forwarded')
      expect(headers.host).toBe(`127.0.0.1:${port}`)
      // The gateway counts from the end, so what the client has sent does not matter.
      expect(headers['x-forwarded-for']).toMatch(/(?:^|, ?)127\.0\.0\.1$/)
    },
  )
})

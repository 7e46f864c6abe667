import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { hasBalancers, hasEnvoy, startEnvoy, startHaproxy, startNginx } from '../support/balancers.ts'
import { freePorts } from '../support/free-ports.ts'

const balancers = ['HAProxy', 'nginx', 'Envoy'] as const

/** A server in the place of a gateway, which answers with the header fields that came. */
async function startEcho(): Promise<{ port: number; end: () => void }> {
  const server = createServer((request, response) =>
    request.resume().once('end', () => response.end(JSON.stringify(request.headers))),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const end = () => {
    server.closeAllConnections()
    server.close()
  }
  onTestFinished(end)
  return { port: (server.address() as AddressInfo).port, end }
}

/** A balancer on a free port, before gateways on these ports. @returns its address. */
async function startBalancer(
  balancer: (typeof balancers)[number],
  gateways: readonly number[],
): Promise<string> {
  const [port] = await freePorts(1)
  if (balancer === 'nginx') await startNginx(port!, gateways)
  else if (balancer === 'Envoy') await startEnvoy(port!, gateways)
  else await (await startHaproxy(port!, gateways))()
  return `http://127.0.0.1:${port}`
}

describe.skipIf(!hasBalancers)('the balancers of docs/load-balancers.md', () => {
  test('nginx writes no key to its access log: neither a query nor a user', async () => {
    const { port: gateway } = await startEcho()
    const [port] = await freePorts(1)
    const log = join(mkdtempSync(join(tmpdir(), 'chute-nginx-')), 'access.log')
    onTestFinished(() => rmSync(dirname(log), { recursive: true }))
    await startNginx(port!, [gateway, gateway], log)
    await fetch(`http://127.0.0.1:${port}/v1/beacon/web.gif?key=chk_secret`, {
      headers: { authorization: `Basic ${btoa('chk_secret:')}` },
    })
    await expect.poll(() => readFileSync(log, 'utf8')).toMatch(/"GET \/v1\/beacon\/web\.gif" 200 /)
    expect(readFileSync(log, 'utf8')).not.toContain('chk_secret')
  })

  test.for(balancers)(
    '%s takes away what a client says of itself, and adds the address of the client',
    async (balancer, { skip }) => {
      skip(balancer === 'Envoy' && !hasEnvoy, 'Envoy is not installed')
      const gateways = [await startEcho(), await startEcho()]
      const url = await startBalancer(
        balancer,
        gateways.map(({ port }) => port),
      )
      const reply = await fetch(url, {
        headers: {
          'x-forwarded-host': 'evil.example.com',
          forwarded: 'for=198.51.100.1;host=evil.example.com',
          'x-forwarded-for': '198.51.100.1',
        },
      })
      const headers = (await reply.json()) as IncomingHttpHeaders
      expect(headers).not.toHaveProperty('x-forwarded-host')
      expect(headers).not.toHaveProperty('forwarded')
      expect(headers.host).toBe(new URL(url).host)
      // The gateway counts from the end, so what the client has sent does not matter.
      // In place of 127.0.0.1 Envoy writes an address of this machine.
      const own = Object.values(networkInterfaces()).flatMap((each) =>
        (each ?? []).map(({ address }) => address),
      )
      expect(own).toContain(String(headers['x-forwarded-for']).split(/, ?/).at(-1))
    },
  )

  test.for(balancers)(
    '%s sends a POST to another gateway where one refuses the connection, and no client notices',
    async (balancer, { skip }) => {
      skip(balancer === 'Envoy' && !hasEnvoy, 'Envoy is not installed')
      const gateways = [await startEcho(), await startEcho(), await startEcho()]
      const url = await startBalancer(
        balancer,
        gateways.map(({ port }) => port),
      )
      const post = async () => (await fetch(url, { method: 'POST', body: '{}' })).status
      for (let nth = 0; nth < 6; nth++) expect(await post()).toBe(200)
      // As after kill -9: no health check has noticed yet.
      gateways[1]!.end()
      for (let nth = 0; nth < 6; nth++) expect(await post()).toBe(200)
    },
  )
})

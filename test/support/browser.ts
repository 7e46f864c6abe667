import { existsSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { chromium, type Browser } from 'playwright-core'

/**
 * A real Chromium, headless. `CHROMIUM_PATH` names it where it is not in Debian's place.
 * @param flags of Chromium's command line, beside those that every test needs.
 * @param without flags that Playwright gives.
 */
export async function launchChromium(
  flags: readonly string[] = [],
  without: readonly string[] = [],
): Promise<Browser> {
  const executablePath = process.env['CHROMIUM_PATH'] ?? '/usr/bin/chromium'
  if (!existsSync(executablePath)) {
    throw new Error(`no Chromium at ${executablePath}: apt-get install chromium, or set CHROMIUM_PATH`)
  }
  const quiet = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
  return await chromium.launch({
    executablePath,
    ignoreDefaultArgs: [...without],
    args: ['--no-sandbox', ...quiet, '--disable-component-update', '--disable-sync', ...flags],
  })
}

/**
 * An empty page at each path of an origin of its own. Whoever asks for it closes it.
 * @param head gives what stands in its head, at each request.
 * @param gatewayUrl gives the gateway that this origin hands its own requests to, as a proxy does; null: there is none.
 */
export async function servePage(
  head: () => string = () => '',
  gatewayUrl: () => string | null = () => null,
): Promise<{ readonly origin: string; close(): void }> {
  const server = createServer((incoming, response) => {
    const { url = '', method, headers } = incoming
    const gateway = gatewayUrl()
    if (gateway !== null && (url.startsWith('/v1/') || url === '/chute.js')) {
      const onwards = request(gateway + url, { method, headers }, (reply) => {
        response.writeHead(reply.statusCode ?? 502, reply.headers)
        reply.pipe(response)
      })
      onwards.on('error', () => response.destroy())
      incoming.pipe(onwards)
      return
    }
    response
      .setHeader('content-type', 'text/html')
      .end(`<!doctype html><title>a page of a shop</title>${head()}`)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => void server.close(),
  }
}

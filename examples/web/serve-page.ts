import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** The page of the example, on an origin of its own, as a shop and its gateway are. */
export interface PageServer {
  readonly url: string
  close(): void
}

/** Serves the page on a port of localhost. It has the client of the gateway at `gatewayUrl`, and `web-vitals` of node_modules. */
export async function servePage(port: number, gatewayUrl: string): Promise<PageServer> {
  const html = readFileSync(new URL('index.html', import.meta.url), 'utf8').replace('GATEWAY', gatewayUrl)
  const script = readFileSync(new URL('page.js', import.meta.url), 'utf8')
  const webVitals = readFileSync(fileURLToPath(import.meta.resolve('web-vitals')), 'utf8')
  const policy = [
    "default-src 'self'",
    "img-src 'self' data:",
    `script-src 'self' ${gatewayUrl}`,
    `connect-src 'self' ${gatewayUrl}`,
    `report-uri ${gatewayUrl}/v1/streams/reports`,
  ].join('; ')
  const server = createServer(({ url = '' }, response) => {
    const isScript = url.endsWith('.js')
    response
      .setHeader('content-type', isScript ? 'text/javascript' : 'text/html; charset=utf-8')
      .setHeader('content-security-policy', policy)
      .end(url === '/page.js' ? script : url === '/web-vitals.js' ? webVitals : html)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: originOf(port),
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** The origin of the page, which the gateway has to allow. */
export function originOf(port: number): string {
  return `http://localhost:${port}`
}

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import type { Transport } from './edge-telemetry.ts'
import type { Readiness } from './health.ts'

/** Events by how they came in. */
type ByTransport = Readonly<Record<Transport, number>>

/** What the page shows, read anew at each poll. */
export interface LivePageOptions {
  readonly version: string
  /** Plain objects: what JSON does not see is not shown. */
  readonly streams: () => readonly ProducerStats[]
  readonly edge: () => { readonly accepted: ByTransport; readonly rejected: ByTransport }
  /** As `GET /readyz` answers. */
  readonly readiness: () => Readiness
}

/**
 * `GET /`: a page that shows what the gateway is doing, and `GET /live.json`, which it polls. The page is one file that
 * loads nothing from anywhere, under a Content-Security-Policy that allows its own script and style by their hashes.
 */
export function registerLivePage(app: FastifyInstance, options: LivePageOptions): void {
  const { html, contentSecurityPolicy } = assemblePage()
  app.get('/', (_request, reply) =>
    reply
      .headers({
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': contentSecurityPolicy,
        'cache-control': 'no-cache',
        'referrer-policy': 'no-referrer',
        'x-content-type-options': 'nosniff',
      })
      .send(html),
  )
  app.get('/live.json', (_request, reply) => {
    return reply.header('cache-control', 'no-store').send({
      nowMs: Date.now(),
      uptimeSeconds: Math.round(process.uptime()),
      version: options.version,
      ...options.readiness(),
      edge: options.edge(),
      streams: options.streams(),
    })
  })
}

/** Puts the three files of the page together, once at start. */
function assemblePage(): { html: string; contentSecurityPolicy: string } {
  const style = readAsset('live.css')
  const script = readAsset('live.js')
  const html = readAsset('live.html')
    .replace('<link rel="stylesheet" href="live.css" />', () => `<style>${style}</style>`)
    .replace(
      '<script type="module" src="live.js"></script>',
      () => `<script type="module">${script}</script>`,
    )
  const contentSecurityPolicy = [
    "default-src 'none'",
    `script-src '${hashSource(script)}'`,
    `style-src '${hashSource(style)}'`,
    "connect-src 'self'",
    // The icon is in the page too.
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
  return { html, contentSecurityPolicy }
}

/** The path is the same from src/routes and from dist/routes. */
function readAsset(name: string): string {
  return readFileSync(new URL(`../../public/${name}`, import.meta.url), 'utf8')
}

/** CSP 3, section 2.3.1: the hash of an inline element's text. */
function hashSource(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}

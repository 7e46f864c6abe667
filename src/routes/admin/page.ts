import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { acceptsGzip } from '../http/text-reply.ts'

const compress = promisify(gzip)

/** Where a page is, and what it is made of. */
export interface PageParts {
  readonly url: string
  /** The page is put together of `public/NAME.html`, `.css` and `.js`. */
  readonly name: string
  /** Where the page's script may send requests to (`connect-src` of CSP). */
  readonly connect: string
  /** Finds a library's style and script, which go in front of the page's own. */
  readonly library?: () => { readonly style: URL; readonly script: URL }
}

/**
 * Registers `GET url`: a page of one file that loads nothing from anywhere, under a Content-Security-Policy that allows
 * the scripts and the style in it by their hashes. The page is put together when it is first asked for: a gateway whose
 * pages nobody opens reads and keeps none of them.
 */
export function registerPage(app: FastifyInstance, parts: PageParts): void {
  let page: ReturnType<typeof assemblePage> | null = null
  let zipped: Promise<Buffer> | null = null
  app.get(parts.url, async (request, reply) => {
    page ??= assemblePage(parts)
    reply.headers({
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': page.contentSecurityPolicy,
      'cache-control': 'no-cache',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      vary: 'Accept-Encoding',
    })
    if (!acceptsGzip(request.headers['accept-encoding'])) return reply.send(page.html)
    zipped ??= compress(page.html)
    return reply.header('content-encoding', 'gzip').send(await zipped)
  })
}

function assemblePage({ name, connect, library }: PageParts): {
  html: Buffer
  contentSecurityPolicy: string
} {
  const files = library?.()
  const ownStyle = readFileSync(ownFile(`${name}.css`), 'utf8')
  const ownScript = readFileSync(ownFile(`${name}.js`), 'utf8')
  const style = files === undefined ? ownStyle : readFileSync(files.style, 'utf8') + ownStyle
  const libraryScript = files === undefined ? null : readFileSync(files.script, 'utf8')
  const html = readFileSync(ownFile(`${name}.html`), 'utf8')
    .replace(`<link rel="stylesheet" href="${name}.css" />`, () => `<style>${style}</style>`)
    .replace(
      `<script type="module" src="${name}.js"></script>`,
      () =>
        `${libraryScript === null ? '' : `<script>${libraryScript}</script>`}<script type="module">${ownScript}</script>`,
    )
  const scripts = libraryScript === null ? [ownScript] : [ownScript, libraryScript]
  const contentSecurityPolicy = [
    "default-src 'none'",
    `script-src ${scripts.map(hashSource).join(' ')}`,
    `style-src ${hashSource(style)}`,
    `connect-src ${connect}`,
    // Icons are in the page too.
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
  return { html: Buffer.from(html), contentSecurityPolicy }
}

/** A file of `public/`. The path is the same from src/routes and from dist/routes. */
function ownFile(name: string): URL {
  return new URL(`../../../public/${name}`, import.meta.url)
}

/** CSP 3, section 2.3.1: the hash of an inline element's text. */
function hashSource(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

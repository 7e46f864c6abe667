import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { acceptsGzip } from '../http/text-reply.ts'

const compress = promisify(gzip)

/** The address of a page, and its parts. Read this file of the folder first: `admin/` has what operators see. `app.ts` registers its pages. */
export interface PageParts {
  readonly url: string
  /** The page is made of `public/NAME.html`, `.css` and `.js`. */
  readonly name: string
  /** The addresses to which the page's script may send requests (`connect-src` of CSP). */
  readonly connect: string
  /** Finds the style and the script of a library. They go in front of the page's own. */
  readonly library?: () => { readonly style: URL; readonly script: URL }
}

/**
 * Registers `GET url`: a page in one file that loads no other file. Its Content-Security-Policy allows its scripts and its style by their hashes.
 * The page is made at the first request, so a gateway whose pages nobody opens does not read them.
 *
 * To add a page: a file beside this one calls this function (as `live-page.ts` does), `app.ts` registers that file, and
 * `dev/openapi-operations.ts` has its path. Tests then name the rest: CONTRIBUTING.md ("An admin page").
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
    // The icons are in the page, too.
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')
  return { html: Buffer.from(html), contentSecurityPolicy }
}

/** A file of `public/`. The relative path is the same from src/routes/admin and from dist/routes/admin. */
function ownFile(name: string): URL {
  return new URL(`../../../public/${name}`, import.meta.url)
}

/** The hash of the text of an inline element (CSP 3, section 2.3.1). */
function hashSource(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'

/**
 * Registers `GET url`: a page that is put together of `public/NAME.html`, `.css` and `.js` once at start. It is one file
 * that loads nothing from anywhere, under a Content-Security-Policy that allows its own script and style by their
 * hashes.
 * @param options.connect where its script may send requests to (`connect-src` of CSP).
 */
export function registerPage(
  app: FastifyInstance,
  options: { url: string; name: string; connect: string },
): void {
  const { html, contentSecurityPolicy } = assemblePage(options.name, options.connect)
  app.get(options.url, (_request, reply) =>
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
}

function assemblePage(name: string, connect: string): { html: string; contentSecurityPolicy: string } {
  const style = readAsset(`${name}.css`)
  const script = readAsset(`${name}.js`)
  const html = readAsset(`${name}.html`)
    .replace(`<link rel="stylesheet" href="${name}.css" />`, () => `<style>${style}</style>`)
    .replace(
      `<script type="module" src="${name}.js"></script>`,
      () => `<script type="module">${script}</script>`,
    )
  const contentSecurityPolicy = [
    "default-src 'none'",
    `script-src '${hashSource(script)}'`,
    `style-src '${hashSource(style)}'`,
    `connect-src ${connect}`,
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
  return readFileSync(new URL(`../../../public/${name}`, import.meta.url), 'utf8')
}

/** CSP 3, section 2.3.1: the hash of an inline element's text. */
function hashSource(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}

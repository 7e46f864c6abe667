import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { constants, gzip } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { GatewayError } from '../errors.ts'
import { acceptsGzip } from './http/text-reply.ts'

const compress = promisify(gzip)

/** The script, and what its replies need. */
interface Script {
  readonly text: Buffer
  readonly zipped: Buffer
  /** Sixteen characters of its SHA-256, which can stand in a URL. */
  readonly hash: string
}

/**
 * `GET /chute.js`: the browser client, for the script tags of other origins. Pages ask for it again after five minutes, so that they
 * get the script of a new version. `GET /chute.HASH.js` is the same script under a name that is only its own: browsers keep it for a
 * year. `Content-Location` of `/chute.js` tells that name. `Access-Control-Allow-Origin: *` lets a page check `integrity` (SRI), and
 * `Cross-Origin-Resource-Policy` lets a page with COEP load it. The script has no secret, so it needs no key.
 */
export function registerClientScript(app: FastifyInstance): void {
  let made: Promise<Script> | null = null
  const script = async (): Promise<Script> => {
    made ??= makeScript()
    try {
      return await made
    } catch (error) {
      // There may have been no descriptor for the file. The next request tries again.
      made = null
      throw error
    }
  }

  app.get('/chute.js', async (request, reply) => {
    const current = await script()
    reply.header('content-location', `/chute.${current.hash}.js`)
    return send(request, reply, current, 'public, max-age=300')
  })
  app.get<{ Params: { hash: string } }>('/chute.:hash.js', async (request, reply) => {
    const current = await script()
    if (request.params.hash !== current.hash) {
      const detail = `this is the script of another version; the one of this version is /chute.${current.hash}.js`
      throw new GatewayError('not_found', detail)
    }
    return send(request, reply, current, 'public, max-age=31536000, immutable')
  })
}

/** An ETag is weak, since the script has the same one with gzip and without (RFC 9110, section 8.8.1). */
function send(
  request: FastifyRequest,
  reply: FastifyReply,
  { text, zipped, hash }: Script,
  caching: string,
): FastifyReply {
  const tag = `W/"${hash}"`
  reply.headers({
    'access-control-allow-origin': '*',
    'cache-control': caching,
    'cross-origin-resource-policy': 'cross-origin',
    etag: tag,
    vary: 'Accept-Encoding',
  })
  if (request.headers['if-none-match']?.includes(`"${hash}"`) === true) return reply.code(304).send()
  reply.headers({ 'content-type': 'text/javascript; charset=utf-8', 'x-content-type-options': 'nosniff' })
  if (!acceptsGzip(request.headers['accept-encoding'])) return reply.send(text)
  return reply.header('content-encoding', 'gzip').send(zipped)
}

/** `dev/client.ts` makes the file. The relative path is the same from src/routes and from dist/routes. */
async function makeScript(): Promise<Script> {
  const text = readFileSync(new URL('../../public/chute.js', import.meta.url))
  const hash = createHash('sha256').update(text).digest('base64url').slice(0, 16)
  return { text, hash, zipped: await compress(text, { level: constants.Z_BEST_COMPRESSION }) }
}

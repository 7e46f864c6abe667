import type { FastifyInstance } from 'fastify'
import { GatewayError } from '../errors.ts'
import type { Cors } from './policy/cors.ts'

/**
 * Answers requests that no route takes: with 405 and `Allow` if the path has other methods (RFC 9110, section 15.5.6), else with 404. To be
 * registered before the routes, since it makes a list of them.
 * @param cors lets pages read the answer.
 */
export function registerNoRoute(app: FastifyInstance, cors: Cors | null): void {
  const resources: { readonly pattern: RegExp; readonly url: string; readonly methods: Set<string> }[] = []

  app.addHook('onRoute', ({ url, method }) => {
    let resource = resources.find((known) => known.url === url)
    if (resource === undefined) {
      resource = { url, pattern: toPattern(url), methods: new Set() }
      resources.push(resource)
    }
    for (const one of [method].flat()) resource.methods.add(one)
  })

  app.setNotFoundHandler((request, reply) => {
    cors?.letRead(request, reply)
    const [path = ''] = request.url.split('?')
    const methods = resources
      .filter(({ pattern }) => pattern.test(path))
      .flatMap((found) => [...found.methods])
    if (methods.length === 0)
      throw new GatewayError('not_found', whereToLook(resources.map(({ url }) => url)))
    const allow = [...new Set(methods)].join(', ')
    reply.raw.setHeader('allow', allow)
    throw new GatewayError('method_not_allowed', `this resource takes ${allow}`)
  })
}

/** Names the routes that exist. With `ADMIN_PORT` the server that takes events has no docs. */
function whereToLook(urls: readonly string[]): string {
  if (urls.includes('/docs')) return 'GET /docs lists what there is'
  return `there is ${urls.filter((url) => !url.includes('*')).join(', ')}`
}

/** A path pattern of Fastify as a regular expression. A parameter stands for one part of the path. */
function toPattern(url: string): RegExp {
  const source = url.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll(/:\w+/g, '[^/]+')
  return new RegExp(`^${source}$`)
}

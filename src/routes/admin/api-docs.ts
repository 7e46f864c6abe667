import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { parse } from 'yaml'
import { registerPage } from './page.ts'

/**
 * `GET /openapi.yaml` and `/openapi.json`: the contract. `GET /docs`: a page to read and try it, which may send requests
 * to any gateway, since with `ADMIN_PORT` the one to try is not where the page is.
 */
export function registerApiDocs(app: FastifyInstance): void {
  const yaml = readFileSync(new URL('../../../openapi.yaml', import.meta.url), 'utf8')
  const json = JSON.stringify(parse(yaml))
  app.get('/openapi.yaml', (_request, reply) => reply.header('content-type', 'application/yaml').send(yaml))
  app.get('/openapi.json', (_request, reply) => reply.header('content-type', 'application/json').send(json))
  registerPage(app, { url: '/docs', name: 'docs', connect: '*' })
}

import { existsSync, readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { parse } from 'yaml'
import { registerPage } from './page.ts'

/**
 * `GET /openapi.yaml` and `/openapi.json`: the contract. `GET /docs`: Swagger UI, to read the contract and to try it. The page may send
 * requests to any address, since with `ADMIN_PORT` the routes for events are at another address than the page.
 */
export function registerApiDocs(app: FastifyInstance): void {
  const yaml = readFileSync(new URL('../../../openapi.yaml', import.meta.url), 'utf8')
  let json: string | null = null
  app.get('/openapi.yaml', (_request, reply) => reply.header('content-type', 'application/yaml').send(yaml))
  app.get('/openapi.json', (_request, reply) => {
    // Parsing the YAML takes as long as the rest of a start, so it is done at the first request.
    json ??= JSON.stringify(parse(yaml))
    return reply.header('content-type', 'application/json').send(json)
  })
  registerPage(app, {
    url: '/docs',
    name: 'docs',
    connect: '*',
    library: swaggerUi,
  })
}

/**
 * The two files of Swagger UI. `npm run build` (package.json) copies them into dist/, so that the package of Chute has them without a
 * dependency. If the sources run, the files are those of the development dependency.
 */
function swaggerUi(): { style: URL; script: URL } {
  const built = new URL('../../', import.meta.url)
  const script = new URL('swagger-ui-bundle.js', built)
  if (existsSync(script)) return { style: new URL('swagger-ui.css', built), script }
  return {
    style: new URL(import.meta.resolve('@fastify/swagger-ui/static/swagger-ui.css')),
    script: new URL(import.meta.resolve('@fastify/swagger-ui/static/swagger-ui-bundle.js')),
  }
}

import type { FastifyInstance } from 'fastify'

/** What readiness is made of, asked for at each look. */
export interface Readiness {
  readonly ready: boolean
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[]
}

/** `GET /livez`: the process answers. `GET /readyz`: 200 or 503, and what each check saw. */
export function registerHealth(app: FastifyInstance, readiness: () => Readiness): void {
  app.get('/livez', (_request, reply) => {
    void reply.header('cache-control', 'no-store').send({ status: 'ok' })
  })
  app.get('/readyz', (_request, reply) => {
    const state = readiness()
    void reply
      .code(state.ready ? 200 : 503)
      .header('cache-control', 'no-store')
      .send(state)
  })
}

import type { FastifyInstance } from 'fastify'
import type { Readiness } from '../../readiness.ts'

/** How the gateway is, asked for at each look. */
export interface Health {
  readonly readiness: () => Readiness | Promise<Readiness>
  /** Workers that have been silent for too long; left out where the process that answers is the only one. */
  readonly stuckWorkers?: () => Promise<readonly number[]>
}

/** `GET /livez`: the process answers, and so does every other. `GET /readyz`: 200 or 503, and what each check saw. */
export function registerHealth(app: FastifyInstance, { readiness, stuckWorkers }: Health): void {
  app.get('/livez', async (_request, reply) => {
    const stuck = (await stuckWorkers?.()) ?? []
    return reply
      .code(stuck.length === 0 ? 200 : 503)
      .header('cache-control', 'no-store')
      .send(stuck.length === 0 ? { status: 'ok' } : { status: 'stuck', workers: stuck })
  })
  app.get('/readyz', async (_request, reply) => {
    const state = await readiness()
    return reply
      .code(state.ready ? 200 : 503)
      .header('cache-control', 'no-store')
      .send(state)
  })
}

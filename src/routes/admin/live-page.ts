import type { FastifyInstance } from 'fastify'
import type { MetricsSnapshot } from '../../metrics/metrics.ts'
import type { Readiness } from '../../readiness.ts'
import { registerPage } from './page.ts'
import { replyWritten } from '../http/text-reply.ts'

/** The content of the page. It is sent as JSON. */
export interface LiveLook {
  readonly metrics: Pick<MetricsSnapshot, 'streams' | 'edge'>
  /** As `GET /readyz` answers. */
  readonly readiness: Readiness
  readonly uptimeSeconds: number
}

/**
 * `GET /`: a page that shows what the gateway is doing, and `GET /live.json`, which it polls.
 * @param options.look resolves to a function that reads all numbers in one turn of the event loop.
 */
export function registerLivePage(
  app: FastifyInstance,
  options: {
    readonly version: string
    /** Whether `/live/events` shows events. */
    readonly hasEvents: boolean
    readonly look: () => Promise<() => LiveLook>
  },
): void {
  registerPage(app, { url: '/', name: 'live', connect: "'self'" })
  app.get('/live.json', async (request, reply) => {
    const look = await options.look()
    reply.headers({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      vary: 'Accept-Encoding',
    })
    return await replyWritten(request, reply, writeJson(look, options))
  })
}

/** The text of `/live.json`. Kinds of refusals that did not occur are left out. */
function* writeJson(
  look: () => LiveLook,
  { version, hasEvents }: { readonly version: string; readonly hasEvents: boolean },
): Generator<string> {
  const { metrics, readiness, uptimeSeconds } = look()
  const edge = { ...metrics.edge, refused: metrics.edge.refused.filter(({ requests }) => requests > 0) }
  const head = { nowMs: Date.now(), uptimeSeconds, version, hasEvents, ...readiness, edge }
  yield `${JSON.stringify(head).slice(0, -1)},"streams":[`
  for (const [index, stats] of metrics.streams.entries()) {
    yield `${index === 0 ? '' : ','}${JSON.stringify(stats)}`
  }
  yield ']}'
}

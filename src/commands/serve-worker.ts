import type { Logger } from 'pino'
import { buildGateway, type Gateway } from '../app.ts'
import { collectProcessMetrics } from '../metrics/process-metrics.ts'
import { PrimaryLink } from '../workers/primary-link.ts'
import { lossesOf } from '../kafka/producer/account-log.ts'
import { createLogger } from './process-log.ts'
import { describeListenError, findKafkaMs, logEnd } from './serve-log.ts'

/**
 * `chute serve` in a worker: a whole gateway that is told by its primary when to begin and when to end. Signals are the
 * primary's: Ctrl-C and service managers send them to every process of the group, and a drain must begin once.
 * @returns the exit code.
 */
export async function serveAsWorker(): Promise<number> {
  process.on('SIGTERM', ignore).on('SIGINT', ignore)
  const link: PrimaryLink = new PrimaryLink(async (scope) =>
    gateway.report(scope === 'all' ? await collectProcessMetrics() : null),
  )
  const { worker, config } = await link.started
  const logger = createLogger(config, worker)
  const gateway = buildGateway(config, logger, {
    view: async (scope) => await link.view(scope),
    countRequest: async (address) => await link.countRequest(address),
  })
  const report = async () => await link.send({ type: 'report', request: null, report: gateway.report() })
  // Of a worker that throws, unlike one that is killed, nothing remains unknown.
  process.on('uncaughtExceptionMonitor', () => void report())
  try {
    await gateway.start(findKafkaMs)
  } catch (error) {
    gateway.abort()
    await link.send({ type: 'failed', message: describeListenError(error, config) })
    return 1
  }
  await report()
  const { server, adminServer } = gateway
  await link.send({
    type: 'listening',
    url: server.listeningOrigin,
    adminUrl: adminServer?.listeningOrigin ?? null,
  })
  // What the primary knows of a worker that crashes is at most so old.
  const reporting = setInterval(() => void report(), reportEveryMs)
  const why = await Promise.race([link.drain, link.abort.then(() => 'aborted' as const)])
  clearInterval(reporting)
  // Who is told to leave hears when the delay is over. A worker without a primary has lost the port already.
  const delay = why === 'delayed' ? link.delayOver : null
  return await drain(gateway, link, { logger, orphaned: why === 'orphaned', delay })
}

async function drain(
  gateway: Gateway,
  link: PrimaryLink,
  { logger, orphaned, delay }: { logger: Logger; orphaned: boolean; delay: Promise<boolean> | null },
): Promise<number> {
  if (orphaned) logger.warn({}, 'the primary process is gone: draining')
  const lostBefore = lossesOf(gateway.stats)
  const end = await Promise.race([gateway.stop(delay), link.abort.then(() => 'aborted' as const)])
  if (end === 'aborted') gateway.abort()
  const lost = lossesOf(gateway.stats) - lostBefore
  await link.send({ type: 'ended', report: gateway.report(), lost })
  // Where there is a primary, the account is its to log.
  if (orphaned) return logEnd({ stats: gateway.stats, lost, interrupted: false }, logger)
  return lost === 0 ? 0 : 1
}

function ignore(): void {}

const reportEveryMs = 1_000

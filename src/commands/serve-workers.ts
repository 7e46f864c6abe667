import type { Logger } from 'pino'
import type { Gateway } from '../app.ts'
import type { Config } from '../config/config.ts'
import { lossesOf } from '../kafka/producer/account-log.ts'
import { collectProcessMetrics } from '../metrics/process-metrics.ts'
import { DataFolderError } from '../spool/data-folder.ts'
import { takeGroupFolder } from '../spool/worker-folders.ts'
import { PrimaryLink } from '../workers/primary-link.ts'
import { WorkerGroup } from '../workers/worker-group.ts'
import { buildWhenFree } from './build-when-free.ts'
import { ConfigReloader, type FilesRead } from './reload-config.ts'
import { createLogger, drainDelayMs, type HangUps, StopSignals } from './process.ts'
import { describeListenError, findKafkaMs, logEnd, logStart } from './serve-log.ts'

/**
 * `chute serve` with `WORKERS` above 1, in the process that was started, the primary. It writes the log of the gateway, takes
 * the signals, and has the exit code. The workers take the requests.
 * @returns the exit code, as with one process.
 */
export async function serveAsPrimary(
  config: Config,
  { files, env, hangUps }: { files: FilesRead; env: NodeJS.ProcessEnv; hangUps: HangUps },
): Promise<number> {
  const logger = createLogger(config)
  hangUps.logTo(logger)
  try {
    // It is held until the process ends. Each worker has a folder of its own in it.
    if (config.dataDir !== null) takeGroupFolder(config.dataDir, logger)
  } catch (error) {
    if (!(error instanceof DataFolderError)) throw error
    process.stderr.write(`${error.message}\n`)
    return 1
  }
  const group = new WorkerGroup(config, logger)
  const signals = new StopSignals()
  let signal: NodeJS.Signals | null = null
  const first = signals.next().then((name) => (signal = name))
  let reloader: ConfigReloader | null = null
  try {
    // A worker may wait for its folder for as long as the shutdown of an earlier one takes.
    const listening = await Promise.race([group.start(), first.then(() => null)])
    if (listening !== null) {
      logStart(config, { ...listening, workers: group.workers }, logger)
      reloader = new ConfigReloader({ config, files, env, target: group, logger, hangUps })
    }
  } catch (error) {
    await group.abort()
    // Ctrl-C in a terminal goes to the workers too. A worker that has just been started does not ignore it yet, and ends.
    if (signal !== null) return logEnd({ stats: group.stats, lost: 0, interrupted: false }, logger)
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
  const delayMs = drainDelayMs(await first, config)
  reloader?.close()
  logger.info({ signal, drainDelayMs: delayMs, shutdownTimeoutMs: config.shutdownTimeoutMs }, 'draining')
  const delay = delayMs === 0 ? null : signals.pauseUnlessNext(delayMs)
  const drained = group.drain(delay)
  await delay
  const interrupted = signals.next().then(() => 'interrupted' as const)
  const end = await Promise.race([drained, interrupted])
  if (end === 'interrupted') await group.abort()
  const { lost } = await drained
  return logEnd({ stats: group.stats, lost, interrupted: end === 'interrupted' }, logger)
}

/**
 * `chute serve` in a worker: a whole gateway, which its primary starts and ends. A worker ignores signals: Ctrl-C and service
 * managers send them to every process of the group, and the primary begins the drain of all workers at once.
 * @returns the exit code.
 */
export async function serveAsWorker(): Promise<number> {
  process.on('SIGTERM', ignore).on('SIGINT', ignore)
  const link: PrimaryLink = new PrimaryLink(async (scope) =>
    gateway.report(scope === 'all' ? await collectProcessMetrics() : null),
  )
  const { worker, config, ticketSecret } = await link.started
  const logger = createLogger(config, worker)
  const built = buildWhenFree(config, logger, {
    worker,
    view: async (scope) => await link.view(scope),
    limits: link,
    events: link.events,
    ticketSecret,
    port: {
      turn: link.portTurn,
      leave: async () => {
        await link.send({ type: 'port-left' })
        await link.portClosed
      },
    },
  })
  let gateway: Gateway
  try {
    const ended = Promise.race([link.drain, link.abort]).then(() => null)
    const found = await Promise.race([built, ended])
    if (found === null) return 1
    gateway = found
  } catch (error) {
    if (!(error instanceof DataFolderError)) throw error
    await link.send({ type: 'failed', message: error.message })
    return 1
  }
  link.onCertificates((certificates) => gateway.renew(certificates))
  if (gateway.live !== null) link.tellEvents(gateway.live)
  link.onReload(async (next) => {
    const prepared = await gateway.prepareReload(next)
    return {
      discard: prepared.discard,
      commit() {
        prepared.commit()
        logger.level = next.logLevel
      },
    }
  })
  const report = async () => await link.send({ type: 'report', request: null, report: gateway.report() })
  // A worker that ends by an exception reports once more, so the primary's account lacks nothing. One that is killed cannot.
  process.on('uncaughtExceptionMonitor', () => void report())
  try {
    // Without its primary a worker never comes to listen, and its folder has to be free for the next one.
    const isOrphaned = await Promise.race([
      gateway.start(findKafkaMs).then(() => false),
      link.orphaned.then(() => true),
    ])
    if (isOrphaned) {
      gateway.abort()
      return 1
    }
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
  // When a worker crashes, the primary goes by its last report, which is at most this old.
  const reporting = setInterval(() => void report(), reportEveryMs)
  const why = await Promise.race([link.drain, link.abort.then(() => 'aborted' as const)])
  clearInterval(reporting)
  // The primary tells a worker when the delay is over. A worker without a primary has lost the port already.
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
  // Without a primary, the next one may be starting already, and its worker waits for the data folder.
  const stopped = gateway.stop(delay, { spoolWanted: link.orphaned })
  const end = await Promise.race([stopped, link.abort.then(() => 'aborted' as const)])
  if (end === 'aborted') gateway.abort()
  const lost = lossesOf(gateway.stats) - lostBefore
  await link.send({ type: 'ended', report: gateway.report(), lost })
  // The primary logs the account, where there is a primary.
  if (orphaned) return logEnd({ stats: gateway.stats, lost, interrupted: false }, logger)
  return lost === 0 ? 0 : 1
}

function ignore(): void {}

const reportEveryMs = 1_000

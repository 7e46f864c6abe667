import cluster from 'node:cluster'
import type { Logger } from 'pino'
import type { Gateway } from '../app.ts'
import type { Config } from '../config/config.ts'
import { DataFolderError } from '../spool/data-folder.ts'
import { lossesOf } from '../kafka/producer/account-log.ts'
import { buildWhenFree } from './build-when-free.ts'
import { createLogger, drainDelayMs, type HangUps, StopSignals, takeHangUps } from './process.ts'
import { ConfigReloader, FilesRead } from './reload-config.ts'
import { readCommandLine, readNoWords } from './command-line.ts'
import { readConfig } from './check-command.ts'
import { describeListenError, findKafkaMs, logEnd, logStart } from './serve-log.ts'

const serveUsage = `usage: chute serve

The gateway, until SIGTERM or Ctrl-C. It takes no options: PORT, KAFKA_BROKERS and the other settings come from the
environment, streams from the file in CHUTE_CONFIG. docs/configuration.md has all of them; chute check says what is in force.
`

/**
 * `chute serve`: the gateway, until SIGTERM or SIGINT. After the signal it takes requests for `DRAIN_DELAY_MS` more, and then
 * drains. A second signal ends the delay, and a signal during the drain ends the process at once. The last line of the log is
 * the account of every stream. With `WORKERS` above 1 this process starts the workers, which run the same command.
 *
 * What a signal does: `process.ts` receives it and knows the delay. `stop` of `app.ts` has the order of the steps, and
 * `routes/http/connections.ts` closes the connections. With workers, `workers/worker-group.ts` tells all of them.
 * @returns the exit code of the process: 0 after a clean drain; 1 if it could not start, or if the shutdown lost accepted
 * records; 2 for a wrong command line.
 */
export async function runServeCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, serveUsage, readNoWords)
  if (typeof commandLine === 'number') return commandLine
  const hangUps = takeHangUps()
  if (cluster.isWorker) return await (await import('./serve-workers.ts')).serveAsWorker()
  const files = new FilesRead()
  const config = readConfig(env, files.read)
  if (config === null) return 1
  if (config.workers > 1)
    return await (await import('./serve-workers.ts')).serveAsPrimary(config, { files, env, hangUps })
  return await serveAlone(config, { files, env, hangUps })
}

async function serveAlone(
  config: Config,
  { files, env, hangUps }: { files: FilesRead; env: NodeJS.ProcessEnv; hangUps: HangUps },
): Promise<number> {
  const logger = createLogger(config)
  hangUps.logTo(logger)
  // Before the gateway is built: for process 1 of a container the kernel throws away a signal that nobody listens to.
  const signals = new StopSignals()
  const stopped = signals.next()
  const gateway = await Promise.race([build(config, logger), stopped])
  if (gateway === null) return 1
  // Nothing was taken yet.
  if (typeof gateway === 'string') return 0
  try {
    await gateway.start(findKafkaMs)
  } catch (error) {
    gateway.abort()
    process.stderr.write(`${describeListenError(error, config)}\n`)
    return 1
  }
  const { server, adminServer } = gateway
  const where = { url: server.listeningOrigin, adminUrl: adminServer?.listeningOrigin ?? null }
  logStart(config, where, logger)
  const reloader = new ConfigReloader({ config, files, env, target: gateway, logger, hangUps })
  const signal = await stopped
  reloader.close()
  const delayMs = drainDelayMs(signal, config)
  logger.info({ signal, drainDelayMs: delayMs, shutdownTimeoutMs: config.shutdownTimeoutMs }, 'draining')
  const delay = delayMs === 0 ? null : signals.pauseUnlessNext(delayMs)
  return await drain(gateway, logger, { delay, signals })
}

/** Builds a gateway. @returns null if the data folder cannot be used; stderr then has the reason. */
export async function build(config: Config, logger: Logger): Promise<Gateway | null> {
  try {
    return await buildWhenFree(config, logger)
  } catch (error) {
    if (!(error instanceof DataFolderError)) throw error
    process.stderr.write(`${error.message}\n`)
    return null
  }
}

async function drain(
  gateway: Gateway,
  logger: Logger,
  { delay, signals }: { delay: Promise<boolean> | null; signals: StopSignals },
): Promise<number> {
  const lostBefore = lossesOf(gateway.stats)
  const stopped = gateway.stop(delay)
  await delay
  const interrupted = signals.next().then(() => 'interrupted' as const)
  const end = await Promise.race([stopped, interrupted])
  if (end === 'interrupted') gateway.abort()
  const lost = lossesOf(gateway.stats) - lostBefore
  return logEnd({ stats: gateway.stats, lost, interrupted: end === 'interrupted' }, logger)
}

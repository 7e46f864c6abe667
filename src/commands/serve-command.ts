import { pino, type Logger } from 'pino'
import { buildGateway, type Gateway } from '../app.ts'
import type { Config } from '../config/config.ts'
import { version } from '../version.ts'
import { accountOf, lossesOf } from './account-log.ts'
import { readConfig } from './read-config.ts'

/**
 * `chute serve`: the gateway, until SIGTERM or SIGINT, which drains it. The last line of the log is the account of every
 * stream. A second signal ends at once.
 * @returns the process's exit code: 0 after a clean drain; 1 if it could not start, or if the shutdown cost records that
 * had been accepted.
 */
export async function runServeCommand(env: NodeJS.ProcessEnv): Promise<number> {
  const config = readConfig(env)
  if (config === null) return 1
  // Written at once: a line that waits in a buffer is lost with the process, and the last one matters most.
  const logger = pino(
    {
      level: config.logLevel,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    pino.destination({ sync: true }),
  )
  const gateway = buildGateway(config, logger)
  const signals = stopSignals()
  try {
    await gateway.start()
  } catch (error) {
    gateway.abort()
    process.stderr.write(`${describeListenError(error, config)}\n`)
    return 1
  }
  logStart(config, gateway, logger)
  const signal = await signals.first
  logger.info({ signal, shutdownTimeoutMs: config.shutdownTimeoutMs }, 'draining')
  return await drain(gateway, logger, signals.second)
}

async function drain(gateway: Gateway, logger: Logger, secondSignal: Promise<unknown>): Promise<number> {
  const lostBefore = lossesOf(gateway.stats)
  const interrupted = secondSignal.then(() => 'interrupted' as const)
  const end = await Promise.race([gateway.stop(), interrupted])
  if (end === 'interrupted') gateway.abort()
  const lost = lossesOf(gateway.stats) - lostBefore
  const account = accountOf(gateway.stats)
  if (end !== 'interrupted' && lost === 0) {
    logger.info({ account }, 'stopped: all that was left was sent, and confirmed where the stream confirms')
    return 0
  }
  const how = end === 'interrupted' ? 'ended at once by a second signal' : 'stopped'
  logger.error({ account, lost }, `${how}: ${lost} accepted records were dropped or are suspected lost`)
  return 1
}

/**
 * The first and the second SIGTERM or SIGINT from now on. One listener serves both: between two listeners a signal would
 * meet Node's own way, which ends the process without a word.
 */
function stopSignals(): { first: Promise<NodeJS.Signals>; second: Promise<NodeJS.Signals> } {
  const waiting: ((signal: NodeJS.Signals) => void)[] = []
  const next = async (): Promise<NodeJS.Signals> => await new Promise((resolve) => waiting.push(resolve))
  const signals = { first: next(), second: next() }
  const onSignal = (signal: NodeJS.Signals): void => waiting.shift()?.(signal)
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
  return signals
}

function logStart(config: Config, gateway: Gateway, logger: Logger): void {
  const [url, adminUrl] = [gateway.server, gateway.adminServer].map((server) => server?.listeningOrigin)
  const streams = config.streams.map(({ name, topic, delivery, producer }) => ({
    name,
    topic,
    delivery,
    acks: producer.acks === -1 ? 'all' : producer.acks,
  }))
  logger.info({ version, url, adminUrl, brokers: config.kafka.brokers, streams }, `listening on ${url}`)
  if (config.dataDir !== null) {
    logger.warn(
      { dataDir: config.dataDir },
      'CHUTE_DATA_DIR is set, and this version keeps nothing there yet',
    )
  }
  for (const { name, delivery } of config.streams) {
    if (delivery !== 'at-least-once') continue
    logger.warn(
      { stream: name },
      'a 202 of this stream is answered from memory: it survives an outage of Kafka while buffer.memory lasts, and no crash of the gateway',
    )
  }
}

function describeListenError(error: unknown, { http }: Config): string {
  const { code, port } = error as NodeJS.ErrnoException & { readonly port?: number }
  const variable = port !== undefined && port === http.adminPort ? 'ADMIN_PORT' : 'PORT'
  switch (code) {
    case 'EADDRINUSE':
      return `Port ${port} is taken by another process. Stop that one, or set ${variable} to a free port.`
    case 'EACCES':
      return `Port ${port} may not be used by this user. Set ${variable} to a port above 1023.`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `${http.host} is not an address of this machine. Set HOST to one, or to 0.0.0.0 for all.`
    default:
      return `The gateway could not start: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
  }
}

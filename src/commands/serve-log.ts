import { resends, type Config, type StreamConfig } from '../config/config.ts'
import { eventTopics } from '../config/record-sources.ts'
import { warningsOfConfig } from '../config/warnings.ts'
import type { Logger } from '../logger.ts'
import type { ProducerStats } from '../kafka/producer/producer.ts'
import { ephemeralFolder, warningOfFolder } from '../spool/ephemeral-folder.ts'
import { version } from '../version.ts'
import { accountOf, spooledOf } from '../kafka/producer/account-log.ts'

/** Logs that the gateway listens, and what an operator should know of its configuration. */
export function logStart(
  config: Config,
  where: { url: string; adminUrl: string | null; workers?: readonly object[] },
  logger: Logger,
): void {
  const streams = config.streams.map(({ name, topic, topics, delivery, producer }) => ({
    name,
    topic: topics === null ? topic : eventTopics({ topic, topics }),
    delivery,
    acks: producer.acks === -1 ? 'all' : producer.acks,
  }))
  logger.info({ version, ...where, brokers: config.kafka.brokers, streams }, `listening on ${where.url}`)
  for (const warning of warningsOfConfig(config)) logger.warn({}, warning)
  logDedupe(config, logger)
  const { dataDir } = config
  const warning = warningOfFolder(config)
  if (warning !== null) logger.warn({ dataDir }, warning)
  const isEphemeral = dataDir !== null && ephemeralFolder(dataDir) !== null
  for (const { name, delivery, spool } of config.streams) {
    if (!resends[delivery]) continue
    if (spool === null) {
      logger.warn(
        { stream: name },
        'a 202 of this stream is answered from memory: it survives an outage of Kafka while buffer.memory lasts, and no crash of the gateway; CHUTE_DATA_DIR makes it durable',
      )
      continue
    }
    const { fsync, maxBytes } = spool
    const end = isEphemeral
      ? 'a crash of the gateway, and nothing that takes the folder away'
      : fsync
        ? 'a crash and a power cut'
        : 'a crash of the gateway, and no power cut (fsync: off)'
    logger.info(
      { stream: name, dataDir, fsync, spoolMaxBytes: maxBytes },
      `a 202 of this stream is answered from disk: it survives ${end}`,
    )
  }
}

/** A gateway cannot know whether it is alone. So it logs what happens where several gateways take the events of a stream. */
function logDedupe({ streams, workers, dedupeStore }: Config, logger: Logger): void {
  if (dedupeStore !== null) return
  const names = (some: readonly StreamConfig[]): string[] => some.map(({ name }) => name)
  const alone = names(streams.filter(({ dedupe }) => dedupe !== null))
  if (alone.length > 0)
    logger.warn(
      { streams: alone },
      'duplicates of these streams are told by this gateway alone: where several gateways take their events, a retry at another one is written again; CHUTE_DEDUPE_REDIS_URL makes them share what they know',
    )
  const untold = names(streams.filter((each) => each.dedupe === null && resends[each.delivery]))
  if (workers > 1 && untold.length > 0)
    logger.warn(
      { streams: untold, workers },
      'duplicates of these streams are not told: each worker would know only what it accepted itself; CHUTE_DEDUPE_REDIS_URL, a store for all of them, lets dedupe be on',
    )
}

/**
 * Writes the last line of the log: the account of every stream, and the records that the shutdown cost.
 * @returns the exit code of the process.
 */
export function logEnd(
  end: { stats: readonly ProducerStats[]; lost: number; interrupted: boolean },
  logger: Logger,
): number {
  const { lost, interrupted } = end
  const account = accountOf(end.stats)
  if (!interrupted && lost === 0) {
    const spooled = spooledOf(end.stats)
    logger.info(
      { account, ...(spooled > 0 && { spooled }) },
      spooled === 0
        ? 'stopped: all that was left was sent, and confirmed where the stream confirms'
        : `stopped: ${spooled} accepted records are on disk and go after the next start; the rest of what was left was sent, and confirmed where the stream confirms`,
    )
    return 0
  }
  const how = interrupted ? 'ended at once by a second signal' : 'stopped'
  logger.error({ account, lost }, `${how}: ${lost} accepted records were dropped or are suspected lost`)
  return 1
}

/**
 * Longest time to look for Kafka before the gateway listens, in milliseconds. Without Kafka it would answer 503. A proxy that
 * does not ask `/readyz` sends requests to every open port, and none to a closed one. In the same way the other workers take
 * the connections of a worker that starts again. If Kafka is away for longer, the gateway listens all the same.
 */
export const findKafkaMs = 2_000

/** The reason why a gateway cannot listen, and what would be right. */
export function describeListenError(error: unknown, { http }: Config): string {
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

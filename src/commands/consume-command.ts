import type { FastifyInstance } from 'fastify'
import { ConfigError, type ConsumerConfig } from '../config/config.ts'
import { describeConsumer } from '../config/describe-config.ts'
import { loadConsumerConfig } from '../config/load-config.ts'
import type { Consumer, ConsumerStats } from '../kafka/consumer/consumer.ts'
import { GroupConsumer } from '../kafka/consumer/group-consumer.ts'
import type { Logger } from '../logger.ts'
import { ConsumerMetrics } from '../metrics/consumer-metrics.ts'
import type { Readiness } from '../readiness.ts'
import { serveAdminRoutes } from '../routes/admin/admin-server.ts'
import { execSink } from '../sinks/exec-sink.ts'
import { httpSink } from '../sinks/http-sink.ts'
import type { Sink } from '../sinks/sink.ts'
import { streamSink } from '../sinks/stream-sink.ts'
import { version } from '../version.ts'
import { readCommandLine } from './command-line.ts'
import { consumeUsage, readConsumeArguments, type SinkChoice } from './consume-arguments.ts'
import { createLogger } from './process-log.ts'
import { StopSignals, surviveHangUp } from './stop-signals.ts'

/**
 * `chute consume`: reads a topic as a member of a group until SIGTERM or SIGINT, which ends what is polled as the delivery
 * says and leaves the group. The last line of the log is the account. A second signal ends at once.
 * @returns the process's exit code: 0 after a clean stop; 1 if it could not start, if the place where records go ended,
 * or if stopping lost records; 2 for a command line that is wrong.
 */
export async function runConsumeCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, consumeUsage, readConsumeArguments)
  if (typeof commandLine === 'number') return commandLine
  let config: ReturnType<typeof loadConsumerConfig>
  try {
    config = loadConsumerConfig(commandLine.consumer, env)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    return 1
  }
  const logger = createLogger(config, null, 'stderr')
  surviveHangUp().logTo(logger)
  const signals = new StopSignals()
  const { topic, groupId: group, delivery } = config.consumer
  const metrics = new ConsumerMetrics({ group, topic })
  const sink = openSink(commandLine.sink, config.consumer)
  const consumer = new GroupConsumer({ ...config, process: sink.process, logger, telemetry: metrics })
  metrics.observe(() => consumer.stats)
  let server: FastifyInstance | null = null
  if (commandLine.metrics !== null) {
    try {
      server = await serveAdminRoutes(metrics, {
        ...commandLine.metrics,
        readiness: () => readinessOf(consumer),
      })
    } catch (error) {
      process.stderr.write(`--metrics-port: ${(error as Error).message}\n`)
      return 1
    }
  }
  const metricsUrl = server === null ? null : `${server.listeningOrigin}/metrics`
  const settings = describeConsumer(config.consumer)
  logger.info(
    { version, brokers: config.kafka.brokers, topic, group, delivery, settings, metricsUrl },
    `consuming ${topic}`,
  )
  warnOf(config.consumer, logger)
  consumer.start()

  const signalled = signals.next().then((signal) => ({ signal, reason: null }))
  const ended = sink.ended.then((reason) => ({ signal: null, reason }))
  const failed = consumer.failed.then(({ message }) => ({ signal: null, reason: message }))
  const end = await Promise.race([signalled, ended, failed])
  if (end.reason === null)
    logger.info({ signal: end.signal, shutdownTimeoutMs: config.shutdownTimeoutMs }, 'stopping')
  else logger.error({ reason: end.reason }, 'cannot go on')
  return await stop(
    { consumer, sink, server, logger, end, timeoutMs: config.shutdownTimeoutMs },
    signals.next(),
  )
}

interface Running {
  readonly consumer: Consumer
  readonly sink: Sink
  readonly server: FastifyInstance | null
  readonly logger: Logger
  /** Why it stops: null for a signal. */
  readonly end: { readonly reason: string | null }
  readonly timeoutMs: number
}

async function stop(
  { consumer, sink, server, logger, end, timeoutMs }: Running,
  again: Promise<unknown>,
): Promise<number> {
  const lostBefore = consumer.stats.lost
  const limit = AbortSignal.timeout(timeoutMs)
  const stopped = consumer
    .stop(timeoutMs)
    .then(async () => await sink.close(limit))
    .then(() => 'stopped' as const)
  const how = await Promise.race([stopped, again.then(() => 'ended at once by a second signal' as const)])
  const { stats } = consumer
  const account = accountOf(stats)
  const lost = stats.lost + stats.pending - lostBefore
  await server?.close()
  if (how === 'stopped' && end.reason === null && lost === 0) {
    logger.info({ account }, 'stopped: what was polled was processed')
    return 0
  }
  logger.error({ account, lost }, `${how}: ${lost} records were committed or polled, and not processed`)
  return 1
}

/** The account as the log states it: consumed = processed + lost + returned + pending. */
function accountOf(stats: ConsumerStats): object {
  const { consumed, committed, processed, lost, returned, pending, repeated } = stats
  return { consumed, committed, processed, lost, returned, pending, repeated }
}

function openSink(choice: SinkChoice, { delivery }: ConsumerConfig): Sink {
  switch (choice.kind) {
    case 'stdout':
      return streamSink(process.stdout)
    case 'exec':
      return execSink(choice.command, { acknowledged: delivery === 'at-least-once' })
    case 'http':
      return httpSink(choice.url, choice)
  }
}

function warnOf({ delivery, autoOffsetReset }: ConsumerConfig, logger: Logger): void {
  if (delivery === 'auto-commit') {
    const message =
      'auto-commit is not recommended: it commits by the clock, so a crash repeats what was processed since the last commit and loses what was committed before it was processed. --delivery at-most-once never repeats, at-least-once never loses'
    logger.warn({ delivery }, message)
  }
  if (delivery === 'at-most-once' && autoOffsetReset === 'earliest') {
    const message =
      'a group whose offsets have expired (offsets.retention.minutes) begins at the start of the topic again, which repeats what is still there: auto.offset.reset=latest does not'
    logger.warn({ 'auto.offset.reset': autoOffsetReset }, message)
  }
}

/** Ready while the member is in its group. */
function readinessOf({ stats }: Consumer): Readiness {
  const detail = stats.joined
    ? `partitions ${stats.partitions.map(({ partition }) => partition).join(', ') || 'none'}`
    : 'Kafka or the topic was not found yet, or the group is rebalancing'
  return { ready: stats.joined, checks: [{ name: 'group', ok: stats.joined, detail }] }
}

import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { FastifyInstance } from 'fastify'
import { autoOffsetResets, type ConsumerConfig, type ConsumerDelivery } from '../config/consumer-config.ts'
import { describeConsumer } from '../config/describe-config.ts'
import { type ConsumeArguments, loadConsumerConfig } from '../config/load-config.ts'
import type { Consumer, ConsumerStats } from '../kafka/consumer/consumer.ts'
import { GroupConsumer } from '../kafka/consumer/group-consumer.ts'
import type { Logger } from '../logger.ts'
import { ConsumerMetrics } from '../metrics/consumer-metrics.ts'
import type { Readiness } from '../readiness.ts'
import { serveAdminRoutes } from '../routes/admin/operations.ts'
import { execSink } from '../sinks/exec-sink.ts'
import { httpSink } from '../sinks/http-sink.ts'
import type { Sink } from '../sinks/sink.ts'
import { streamSink } from '../sinks/stream-sink.ts'
import { version } from '../version.ts'
import {
  configOrExitCode,
  readCommandLine,
  readMetricsAddress,
  wholeNumber,
  type MetricsAddress,
} from './command-line.ts'
import { createLogger, StopSignals, takeHangUps } from './process.ts'

/**
 * `chute consume`: reads a topic as a member of a group until SIGTERM or SIGINT. Then it finishes the polled records as the
 * delivery says, and leaves the group. The last line of the log is the account. A second signal ends the process at once.
 * @returns the exit code of the process: 0 after a clean stop; 1 if it could not start, if the sink ended, if the stop lost
 * records, or if Kafka did not answer at the stop; 2 for a wrong command line, settings of `--set` included.
 */
export async function runConsumeCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, consumeUsage, readConsumeArguments)
  if (typeof commandLine === 'number') return commandLine
  const config = configOrExitCode(() => loadConsumerConfig(commandLine.consumer, env))
  if (typeof config === 'number') return config
  const logger = createLogger(config, null, 'stderr')
  takeHangUps().logTo(logger)
  const signals = new StopSignals()
  const { topic, groupId: group, delivery } = config.consumer
  const metrics = new ConsumerMetrics({ group, topic })
  const sink = openSink(commandLine.sink, config.consumer, logger)
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
  warnOfChoices(config.consumer, logger)
  consumer.start()

  const signalled = signals.next().then((signal) => ({ signal, reason: null, isSinkGone: false }))
  const ended = sink.ended.then((reason) => ({ signal: null, reason, isSinkGone: true }))
  const failed = consumer.failed.then(({ message }) => ({ signal: null, reason: message, isSinkGone: false }))
  const end = await Promise.race([signalled, ended, failed])
  if (end.reason === null)
    logger.info({ signal: end.signal, shutdownTimeoutMs: config.shutdownTimeoutMs }, 'stopping')
  else logger.error({ reason: end.reason }, 'cannot go on')
  return await stop(
    {
      consumer,
      sink,
      server,
      logger,
      end,
      timeoutMs: config.shutdownTimeoutMs,
      // kafkajs waits for the fetch that is under way.
      goodbyeMs: goodbyeMs + config.consumer.fetchMaxWaitMs,
    },
    signals.next(),
  )
}

interface Running {
  readonly consumer: Consumer
  readonly sink: Sink
  readonly server: FastifyInstance | null
  readonly logger: Logger
  /** Why the process stops; `reason` is null for a signal. `isSinkGone`: the sink takes no more records. */
  readonly end: { readonly reason: string | null; readonly isSinkGone: boolean }
  readonly timeoutMs: number
  /** How long Kafka may take to answer behind that. */
  readonly goodbyeMs: number
}

async function stop(
  { consumer, sink, server, logger, end, timeoutMs, goodbyeMs: answerMs }: Running,
  secondSignal: Promise<unknown>,
): Promise<number> {
  const lostBefore = consumer.stats.lost
  const limit = AbortSignal.timeout(timeoutMs)
  const stopped = consumer
    .stop(end.isSinkGone ? 0 : timeoutMs)
    .then(async () => await sink.close(limit))
    .then(() => 'stopped' as const)
  const how = await Promise.race([
    stopped,
    secondSignal.then(() => 'ended at once by a second signal' as const),
    // kafkajs waits for answers of its own, each for half a minute.
    pause(Math.min(timeoutMs + answerMs, longestTimerMs), 'ended before Kafka had answered' as const, {
      ref: false,
    }),
  ])
  // A command of `--exec` must not outlive the consumer: the next one would have it beside its own.
  if (how !== 'stopped') await Promise.race([sink.close(AbortSignal.abort()), pause(killWithinMs)])
  const { stats } = consumer
  const account = accountOf(stats)
  const lost = stats.lost + stats.pending - lostBefore
  await server?.close()
  const why = end.reason === null ? '' : `, since ${end.reason}`
  const message = `${how}${why}: ${whatBecameOf(stats, lostBefore)}`
  if (how !== 'stopped' || end.reason !== null || lost > 0) {
    logger.error({ account, lost }, message)
    return 1
  }
  if (stats.lost > 0) logger.warn({ account }, message)
  else logger.info({ account }, message)
  return 0
}

/** What became of the polled records, in words. @param lostBefore records that were lost before the stop began. */
export function whatBecameOf(stats: ConsumerStats, lostBefore: number): string {
  const { consumed, processed, lost, returned, pending, delivery } = stats
  if (consumed === 0) return 'no record was polled'
  if (processed === consumed) return 'what was polled was processed'
  const parts = [
    [lostBefore, 'were lost while it ran'],
    [lost - lostBefore, 'were lost as it stopped'],
    [returned, 'were given back: the group polls them again'],
    [pending, `were under way: ${deliveryTraits[delivery].fateOfPending}`],
  ] as const
  const told = parts.flatMap(([count, fate]) => (count === 0 ? [] : [`${count} ${fate}`]))
  return [`${processed} of ${consumed} polled records were processed`, ...told].join('; ')
}

/** A command that is killed is gone by then. */
const killWithinMs = 300
/** To leave a group takes a moment, once nothing is under way. */
const goodbyeMs = 2_000
/** A longer time overflows a timer of Node, which then ends at once. */
const longestTimerMs = 2 ** 31 - 1

/** The account as the log states it. In it consumed = processed + lost + returned + pending. */
function accountOf(stats: ConsumerStats): object {
  const { consumed, committed, processed, lost, returned, pending, repeated } = stats
  return { consumed, committed, processed, lost, returned, pending, repeated }
}

function openSink(choice: SinkChoice, { delivery }: ConsumerConfig, logger: Logger): Sink {
  switch (choice.kind) {
    case 'stdout':
      return streamSink(process.stdout)
    case 'exec':
      return execSink(choice.command, {
        acknowledged: deliveryTraits[delivery].awaitsSink,
        onSilence: (silentMs) => {
          const message =
            'the command does not answer: it must write one line to its standard output, and flush it, for each record that it has processed. Nothing is committed until then'
          logger.warn({ delivery, silentMs }, message)
        },
      })
    case 'http':
      return httpSink(choice.url, choice)
  }
}

function warnOfChoices({ delivery, autoOffsetReset }: ConsumerConfig, logger: Logger): void {
  const { isRecommended, mayRepeat } = deliveryTraits[delivery]
  if (!isRecommended) {
    const message =
      'auto-commit is not recommended: it commits by the clock, so a crash repeats what was processed since the last commit and loses what was committed before it was processed. --delivery at-most-once never repeats, at-least-once never loses'
    logger.warn({ delivery }, message)
  }
  if (!mayRepeat && autoOffsetResets[autoOffsetReset].fromBeginning) {
    const message =
      'a group whose offsets have expired (offsets.retention.minutes) begins at the start of the topic again, which repeats what is still there: auto.offset.reset=latest does not'
    logger.warn({ 'auto.offset.reset': autoOffsetReset }, message)
  }
}

/**
 * What the command does by delivery. `kafka/consumer/deliveries.ts` has the order of committing and processing.
 * `awaitsSink`: a record is processed when the command behind `--exec` has answered. `mayRepeat`: a record may be processed twice.
 * `fateOfPending`: what becomes of records that were being committed or processed when the process ended.
 */
const deliveryTraits = {
  'at-most-once': {
    awaitsSink: false,
    isRecommended: true,
    mayRepeat: false,
    fateOfPending: 'they may be lost',
  },
  'at-least-once': {
    awaitsSink: true,
    isRecommended: true,
    mayRepeat: true,
    fateOfPending: 'the group polls them again',
  },
  'auto-commit': {
    awaitsSink: false,
    isRecommended: false,
    mayRepeat: true,
    fateOfPending: 'they may be lost',
  },
} satisfies Record<
  ConsumerDelivery,
  { awaitsSink: boolean; isRecommended: boolean; mayRepeat: boolean; fateOfPending: string }
>

/** Ready while the consumer is a member of its group. */
function readinessOf({ stats }: Consumer): Readiness {
  const detail = stats.joined
    ? `partitions ${stats.partitions.map(({ partition }) => partition).join(', ') || 'none'}`
    : 'Kafka or the topic was not found yet, or the group is rebalancing'
  return { ready: stats.joined, checks: [{ name: 'group', ok: stats.joined, detail }] }
}

/** The sink that the command line names. */
export type SinkChoice =
  | { readonly kind: 'stdout' }
  | { readonly kind: 'exec'; readonly command: string }
  | { readonly kind: 'http'; readonly url: string; readonly timeoutMs: number }

/** The command line of `chute consume`. */
export interface ConsumeCommandLine {
  readonly consumer: ConsumeArguments
  readonly sink: SinkChoice
  readonly metrics: MetricsAddress | null
}

/** How `chute consume` is called. */
const consumeUsage = `usage: chute consume --topic T --group G [--stdout | --exec CMD | --http URL]

  --delivery D          at-most-once (the default), at-least-once or auto-commit
  --stdout              a record a line to standard output (the default)
  --exec CMD            the same to the standard input of one command, which runs as long as the consumer. At least once, the
                        command answers each record with one line on its standard output
  --http URL            each poll as one request, application/x-ndjson
  --http-timeout-ms N   longest wait for its answer (10000)
  --set KEY=VALUE       a setting of Kafka's consumer, such as max.poll.records=100; as often as needed
  --metrics-port N      serves /metrics, /livez and /readyz there; 0: any free port
  --metrics-host H      on this address (127.0.0.1)

Kafka is reached as the gateway reaches it: KAFKA_BROKERS and the other KAFKA_ variables.
`

/** Reads the command line. @throws Error that says what is wrong with it. */
export function readConsumeArguments(argv: readonly string[]): ConsumeCommandLine {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      topic: { type: 'string' },
      group: { type: 'string' },
      delivery: { type: 'string' },
      set: { type: 'string', multiple: true, default: [] },
      stdout: { type: 'boolean' },
      exec: { type: 'string' },
      http: { type: 'string' },
      'http-timeout-ms': { type: 'string' },
      'metrics-port': { type: 'string' },
      'metrics-host': { type: 'string' },
    },
  })
  const { topic, group, delivery, set } = values
  return {
    consumer: { topic, group, delivery, set },
    sink: readSink(values),
    metrics: readMetricsAddress(values),
  }
}

function readSink(values: {
  readonly stdout?: boolean | undefined
  readonly exec?: string | undefined
  readonly http?: string | undefined
  readonly 'http-timeout-ms'?: string | undefined
}): SinkChoice {
  const { exec, http, 'http-timeout-ms': timeout } = values
  const given = (['stdout', 'exec', 'http'] as const).filter((name) => values[name] !== undefined)
  if (given.length > 1) throw new Error(`--${given.join(' and --')} are given: records go to one place`)
  if (timeout !== undefined && http === undefined)
    throw new Error('--http-timeout-ms is given without --http')
  if (exec !== undefined) {
    if (exec.trim() === '') throw new Error('--exec is empty')
    return { kind: 'exec', command: exec }
  }
  if (http === undefined) return { kind: 'stdout' }
  const url = URL.canParse(http) ? new URL(http) : null
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new Error(`--http must be an http(s) URL, got ${http}`)
  // fetch takes no user in a URL, and quotes the whole URL when it says so.
  if (url.username !== '' || url.password !== '')
    throw new Error('--http has a user in it. An endpoint that needs a user: --exec, with curl and --netrc')
  return {
    kind: 'http',
    url: url.href,
    timeoutMs: wholeNumber('--http-timeout-ms', timeout ?? '10000', 1, 2 ** 31 - 1),
  }
}

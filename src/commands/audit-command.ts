import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { json as jsonOf } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import type { FastifyInstance } from 'fastify'
import { loadReaderConfig, type ReaderProcessConfig } from '../config/load-config.ts'
import { parseDurationMs } from '../config/setting.ts'
import { flawOfTopic } from '../config/topic-settings.ts'
import { leave } from '../disk-calls.ts'
import { type AuditReport, totalsOf } from '../kafka/audit/audit-report.ts'
import { compareAccount, type StreamAccount } from '../kafka/audit/compare-account.ts'
import { SessionBook, type ClientReport, type SessionBookOptions } from '../kafka/audit/session-book.ts'
import { TopicAudit } from '../kafka/audit/topic-audit.ts'
import { type PartitionRange, TopicReader, type WentBack } from '../kafka/audit/topic-reader.ts'
import { describeReadFailure } from '../kafka/network/describe-failure.ts'
import { keptOutcomes, outcomeTraits } from '../kafka/producer/outcome.ts'
import type { Logger } from '../logger.ts'
import { AuditMetrics } from '../metrics/audit-metrics.ts'
import { auditHtml } from '../reports/audit-html.ts'
import { auditText } from '../reports/audit-text.ts'
import { clientAuditHtml, clientAuditText } from '../reports/client-audit.ts'
import { serveAdminRoutes } from '../routes/admin/operations.ts'
import { adminKey, AskError, askGateway, readGatewayUrl, whyNoAnswer, whyRefused } from './ask-gateway.ts'
import {
  configOrExplain,
  type MetricsAddress,
  readCommandLine,
  readMetricsAddress,
  wholeNumber,
} from './command-line.ts'
import { createLogger, StopSignals, writeOut } from './process.ts'

/**
 * `chute audit`: reads a topic to its end, and reports how many records of each writer are lost, duplicated or reordered. It
 * finds this from the topic alone. With `--gateway` it also compares the account of each gateway with the topic.
 * @returns the exit code of the process: 0 when a report was made and every account agrees; 1 when an account differs, when the
 * topic or a gateway could not be read, or when the report could not be written; 2 for a wrong command line, such as an output that cannot be written.
 */
export async function runAuditCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, auditUsage, readAuditArguments)
  if (typeof commandLine === 'number') return commandLine
  const config = configOrExplain(() => loadReaderConfig(env))
  if (config === null) return 1
  try {
    const key = commandLine.gateways.length === 0 ? null : adminKey(env)
    if (commandLine.clients !== null) {
      const clients = await auditClients(commandLine, commandLine.clients, config)
      await write(clients, commandLine, clientAuditText, clientAuditHtml)
      return 0
    }
    const report = await audit(commandLine, config, key)
    await write(report, commandLine, auditText, auditHtml)
    return report.comparisons.every(({ verdict }) => verdict === 'agrees') ? 0 : 1
  } catch (error) {
    const { topic } = commandLine
    if (error instanceof OutputError) {
      process.stderr.write(`The report cannot be written: ${error.message}\n`)
      return 1
    }
    if (error instanceof AskError) {
      process.stderr.write(`The topic ${topic} cannot be audited: ${error.message}\n`)
      return 1
    }
    const cause = describeReadFailure(error, { kafka: config.kafka, topic, group: 'chute-audit-*' })
    process.stderr.write(`The topic ${topic} cannot be audited: ${cause}\n`)
    return 1
  }
}

async function audit(
  commandLine: AuditCommandLine,
  config: ReaderProcessConfig,
  key: string | null,
): Promise<AuditReport> {
  const { topic, gateways, follow } = commandLine
  const logger = createLogger(config, null, 'stderr')
  const reader = new TopicReader(config.kafka, topic)
  try {
    // The accounts are read before the end offsets, so every record that they count as arrived is before those offsets.
    let accounts = follow ? [] : await accountsOf(gateways, key)
    let ranges = await reader.connect()
    let found = new TopicAudit(topic, lowsOf(ranges))
    await reader.start({
      onRecord: (record) => found.take(record),
      onWentBack: (wentBack, now) => {
        found = new TopicAudit(topic, lowsOf(now))
        tellWentBack(logger, topic, wentBack)
      },
    })
    if (follow) {
      await followUntilSignal(commandLine, logger, {
        metrics: AuditMetrics.ofTopic(() => found.findings),
        totals: () => ({ ...totalsOf(found.findings) }),
        failed: reader.failed,
      })
      accounts = await accountsOf(gateways, key)
      ranges = await reader.ranges()
    }
    await reader.readTo(ranges)
    return reportOf(found, accounts)
  } finally {
    await reader.stop()
  }
}

/** Reads the topic to its end, and finds what was lost on the way from the pages. */
async function auditClients(
  commandLine: AuditCommandLine,
  options: SessionBookOptions,
  config: ReaderProcessConfig,
): Promise<ClientReport> {
  const { topic, follow } = commandLine
  const logger = createLogger(config, null, 'stderr')
  const reader = new TopicReader(config.kafka, topic)
  try {
    let ranges = await reader.connect()
    let book = new SessionBook(topic, lowsOf(ranges), options)
    await reader.start({
      onRecord: (record) => book.take(record),
      onWentBack: (wentBack, now) => {
        book = new SessionBook(topic, lowsOf(now), options)
        tellWentBack(logger, topic, wentBack)
      },
    })
    if (follow) {
      const findings = () => book.findings(Date.now())
      await followUntilSignal(commandLine, logger, {
        metrics: AuditMetrics.ofClients(findings),
        totals: () => ({ ...findings().totals }),
        failed: reader.failed,
      })
      ranges = await reader.ranges()
    }
    await reader.readTo(ranges)
    return book.report(Date.now())
  } finally {
    await reader.stop()
  }
}

/** Offset of the first record that the log still has, by partition. */
function lowsOf(ranges: ReadonlyMap<number, PartitionRange>): ReadonlyMap<number, number> {
  return new Map(Array.from(ranges, ([partition, { low }]) => [partition, low]))
}

function tellWentBack(logger: Logger, topic: string, partitions: readonly WentBack[]): void {
  const message =
    'logs went back behind what was read of them: the cluster has lost records, and the audit begins again'
  logger.warn({ topic, partitions }, message)
}

type Accounts = readonly { gateway: string; streams: Awaited<ReturnType<typeof fetchAccount>> }[]

async function accountsOf(gateways: readonly string[], key: string | null): Promise<Accounts> {
  return await Promise.all(
    gateways.map(async (gateway) => ({ gateway, streams: await fetchAccount(gateway, key) })),
  )
}

/**
 * Goes on until a signal. Meanwhile it serves the metrics, where they are asked for, and logs the totals. A second signal ends the process
 * at once: what comes after the first waits for Kafka and for gateways.
 */
async function followUntilSignal(
  { topic, metrics: address }: AuditCommandLine,
  logger: Logger,
  { metrics, totals, failed }: { metrics: AuditMetrics; totals: () => object; failed: Promise<never> },
): Promise<void> {
  const signals = new StopSignals()
  let server: FastifyInstance | null = null
  if (address !== null) {
    const readiness = () => ({ ready: true, checks: [] })
    server = await serveAdminRoutes(metrics, { ...address, readiness })
    logger.info({ metricsUrl: `${server.listeningOrigin}/metrics` }, `auditing ${topic}`)
  }
  let logged = ''
  const timer = setInterval(() => {
    const found = totals()
    const text = JSON.stringify(found)
    if (text !== logged) logger.info(found, 'read so far')
    logged = text
  }, logEveryMs)
  try {
    // A reader that has ended for good would leave the last numbers in the metrics.
    const stop = signals.next()
    await Promise.race([stop, failed]).catch((error: unknown) => {
      // The end of the reader can take as long as Kafka is away.
      void stop.then(async () => await leave(1))
      throw error
    })
    void leaveAtNext(signals, logger)
  } finally {
    clearInterval(timer)
    await server?.close()
  }
}

async function leaveAtNext(signals: StopSignals, logger: Logger): Promise<void> {
  const signal = await signals.next()
  logger.error({ signal }, 'ended at once by a second signal: there is no report')
  await leave(1)
}

function reportOf(found: TopicAudit, accounts: Accounts): AuditReport {
  const { findings } = found
  const streams = accounts.flatMap(({ gateway, streams: each }) =>
    each.map((stream) => ({ gateway, stream })),
  )
  const known = new Set(streams.flatMap(({ stream }) => stream.audit.map(({ instance }) => instance)))
  const comparisons = streams.flatMap(({ gateway, stream }) => {
    const comparison = compareAccount(stream, found)
    return comparison === null ? [] : [{ gateway, ...comparison }]
  })
  const instances = [...new Set(findings.writers.map(({ instance }) => instance))]
  return {
    ...findings,
    readAtMs: Date.now(),
    totals: totalsOf(findings),
    gateways: accounts.map(({ gateway }) => ({
      gateway,
      stamped: comparisons.reduce((sum, each) => sum + (each.gateway === gateway ? each.stamped : 0), 0),
    })),
    comparisons,
    unknownWriters: instances.filter((instance) => !known.has(instance)),
  }
}

async function write<T>(
  report: T,
  { json, html }: AuditCommandLine,
  text: (report: T) => string,
  page: (report: T) => string,
): Promise<void> {
  const outputs = [
    { option: '--json', file: json, make: () => `${JSON.stringify(report, null, 2)}\n` },
    { option: '--html', file: html, make: () => page(report) },
  ]
  for (const { option, file, make } of outputs) {
    if (file === null || file === '-') continue
    await writeFile(file, make()).catch((error: Error) => {
      throw new OutputError(`${option}: ${error.message}`, { cause: error })
    })
  }
  const onStdout = outputs.find(({ file }) => file === '-')?.make ?? (() => text(report))
  await writeOut(onStdout())
}

/** A file of the report cannot be written. The message names its option. */
class OutputError extends Error {}

/** Finds a file that cannot be written before a topic is read for it. Leaves a file that is there as it is. @throws OutputError */
function refuseUnwritable(option: string, file: string | null): void {
  if (file === null || file === '-') return
  try {
    const folder = dirname(file)
    const isThere = existsSync(file)
    if (isThere && statSync(file).isDirectory()) throw new Error('it is a folder')
    if (!isThere && !statSync(folder).isDirectory()) throw new Error(`${folder} is no folder`)
    accessSync(isThere ? file : folder, constants.W_OK)
  } catch (error) {
    const { message } = error as Error
    throw new OutputError(`${option} ${file} cannot be written: ${message}`, { cause: error })
  }
}

const logEveryMs = 10_000

/** The command line of `chute audit`. */
interface AuditCommandLine {
  readonly topic: string
  /** Base URLs of the gateways whose accounts are compared with the topic. */
  readonly gateways: readonly string[]
  /** The files of the report as JSON and as a page. null: no such file. `-` is standard output, in place of the text. */
  readonly json: string | null
  readonly html: string | null
  readonly follow: boolean
  readonly metrics: MetricsAddress | null
  /** How the sessions of browsers are read (`--clients`). null: the records' own numbers are audited. */
  readonly clients: SessionBookOptions | null
}

/** How `chute audit` is called. */
const auditUsage = `usage: chute audit --topic T [--gateway URL]… [--json FILE] [--html FILE] [--follow]
       chute audit --clients --topic T [--session-gap D] [--json FILE] [--html FILE] [--follow]

  --gateway URL         compares with the account of a gateway (its ADMIN_PORT where it has one); one for each
  --json FILE           the report as JSON; - for standard output
  --html FILE           the report as a page with a plot over time; - for standard output
  --follow              goes on reading until Ctrl-C; the report comes then
  --metrics-port N      serves /metrics there while it follows; 0: any free port
  --metrics-host H      on this address (127.0.0.1)

  --clients             loss from the pages to the topic, by the numbers that the browser client gives to events
  --session-gap 30m     a session without an event for so long is closed
  --max-sessions N      remembers so many sessions (100000)
  --key-header NAME     the record header that has the key's name (key)
  --ua-header NAME      the record header that has the user agent (userAgent)

Kafka is reached as the gateway reaches it: KAFKA_BROKERS and the other KAFKA_ variables.
Where the live page needs an admin key: CHUTE_ADMIN_KEY has it, or CHUTE_ADMIN_KEY_FILE names a file that has it.
A gateway with a certificate of an authority of your own: NODE_EXTRA_CA_CERTS names a file that has the authority.
`

/** Reads the command line. @throws Error that says what is wrong with it. */
function readAuditArguments(argv: readonly string[]): AuditCommandLine {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      topic: { type: 'string' },
      gateway: { type: 'string', multiple: true, default: [] },
      json: { type: 'string' },
      html: { type: 'string' },
      follow: { type: 'boolean', default: false },
      'metrics-port': { type: 'string' },
      'metrics-host': { type: 'string' },
      clients: { type: 'boolean', default: false },
      'session-gap': { type: 'string' },
      'max-sessions': { type: 'string' },
      'key-header': { type: 'string' },
      'ua-header': { type: 'string' },
    },
  })
  const { topic, gateway: gateways, json = null, html = null, follow } = values
  if (topic === undefined) throw new Error('--topic is missing')
  const flaw = flawOfTopic(topic)
  if (flaw !== null) throw new Error(`--topic ${flaw.problem}. ${flaw.remedy}`)
  for (const url of gateways) readGatewayUrl('--gateway', url)
  if (json === '-' && html === '-') throw new Error('--json and --html cannot both go to standard output')
  refuseUnwritable('--json', json)
  refuseUnwritable('--html', html)
  const metrics = readMetricsAddress(values)
  if (metrics !== null && !follow) throw new Error('--metrics-port is given without --follow')
  if (values.clients && gateways.length > 0) throw new Error('--gateway is given with --clients')
  return { topic, gateways, json, html, follow, metrics, clients: readClientOptions(values) }
}

const clientOptions = ['session-gap', 'max-sessions', 'key-header', 'ua-header'] as const

function readClientOptions(
  values: { readonly clients: boolean } & Partial<Record<(typeof clientOptions)[number], string>>,
): SessionBookOptions | null {
  if (!values.clients) {
    const alone = clientOptions.find((name) => values[name] !== undefined)
    if (alone !== undefined) throw new Error(`--${alone} is given without --clients`)
    return null
  }
  const {
    'session-gap': gap = '30m',
    'max-sessions': most = '100000',
    'key-header': keyHeader = 'key',
    'ua-header': browserHeader = 'userAgent',
  } = values
  // A number without a unit would be in milliseconds, and 30 most often means 30 minutes.
  const sessionGapMs = /[a-z]$/.test(gap.trim()) ? parseDurationMs(gap) : null
  if (sessionGapMs === null || sessionGapMs === 0)
    throw new Error(`--session-gap must be a duration with its unit, such as 30m, 90s or 1h, got ${gap}`)
  return {
    sessionGapMs,
    maxSessions: wholeNumber('--max-sessions', most, 1, 10_000_000),
    keyHeader,
    browserHeader,
  }
}

/** The accounts of a gateway's streams, from its live page. @throws AskError if they cannot be read, with the reason and without the key. */
export async function fetchAccount(
  gateway: string,
  key: string | null = null,
): Promise<readonly StreamAccount[]> {
  const url = new URL('/live.json', gateway)
  const signal = AbortSignal.timeout(10_000)
  const shown = `${url.origin}${url.pathname}`
  let found: { readonly streams?: readonly StreamAccount[] }
  try {
    const reply = await askGateway(url, { key, signal })
    if (reply.statusCode !== 200) {
      const notFound = 'Where ADMIN_PORT is set, the live page is on that port.'
      throw new AskError(await whyRefused(url, reply, { key, wants: 'shows no account', notFound }))
    }
    found = (await jsonOf(reply)) as typeof found
  } catch (error) {
    if (error instanceof AskError) throw error
    if (error instanceof SyntaxError)
      throw new AskError(`${shown}: what it answers is no JSON`, { cause: error })
    const why = signal.aborted ? 'no answer within 10 s' : whyNoAnswer(error)
    const wayOut = 'Is the gateway there? --gateway names another one.'
    throw new AskError(`${shown}: ${why}\n${wayOut}`, { cause: error })
  }
  const { streams } = found
  if (streams === undefined || streams.some((stream) => stream.audit === undefined)) {
    throw new AskError(`${shown} is not of a gateway that can be compared with`)
  }
  return streams.map((stream) => ({ ...noRecords, ...stream }))
}

/** A gateway of an older version has no field for an outcome that it does not know, and no record with it. */
const noRecords = Object.fromEntries(keptOutcomes.map((outcome) => [outcomeTraits[outcome].field, 0]))

import { writeFile } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import { describeFailure } from '../kafka/network/describe-failure.ts'
import { ConfigError } from '../config/config.ts'
import { loadReaderConfig, type ReaderProcessConfig } from '../config/load-config.ts'
import { totalsOf, type AuditReport } from '../kafka/audit/audit-report.ts'
import { compareAccount } from '../kafka/audit/compare-account.ts'
import { TopicAudit } from '../kafka/audit/topic-audit.ts'
import { TopicReader } from '../kafka/audit/topic-reader.ts'
import type { Logger } from '../logger.ts'
import { AuditMetrics } from '../metrics/audit-metrics.ts'
import { auditHtml } from '../reports/audit-html.ts'
import { auditText } from '../reports/audit-text.ts'
import { serveAdminRoutes } from '../routes/admin/admin-server.ts'
import { auditUsage, readAuditArguments, type AuditCommandLine } from './audit-arguments.ts'
import { fetchAccount } from './gateway-account.ts'
import { readCommandLine } from './command-line.ts'
import { createLogger } from './process-log.ts'
import { StopSignals } from './stop-signals.ts'

/**
 * `chute audit`: reads a topic to its end, and says of each writer what is lost, duplicated or reordered, from the topic
 * alone; with `--gateway`, whether the gateway's account agrees.
 * @returns the process's exit code: 0 when a report was made and every account agrees; 1 when an account differs, or the
 * topic could not be read; 2 for a command line that is wrong.
 */
export async function runAuditCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, auditUsage, readAuditArguments)
  if (typeof commandLine === 'number') return commandLine
  let config: ReaderProcessConfig
  try {
    config = loadReaderConfig(env)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    return 1
  }
  try {
    const report = await audit(commandLine, config)
    await write(report, commandLine)
    return report.comparisons.every(({ verdict }) => verdict === 'agrees') ? 0 : 1
  } catch (error) {
    const { topic } = commandLine
    const cause = describeFailure(error, { kafka: config.kafka, topic, group: 'chute-audit-*' })
    process.stderr.write(`The topic ${topic} cannot be audited: ${cause}\n`)
    return 1
  }
}

async function audit(commandLine: AuditCommandLine, config: ReaderProcessConfig): Promise<AuditReport> {
  const { topic, gateways, follow } = commandLine
  const reader = new TopicReader(config.kafka, topic)
  let server: FastifyInstance | null = null
  try {
    // The accounts come first: what they say arrived has to be before the ends that are read to.
    let accounts = follow ? [] : await accountsOf(gateways)
    let ranges = await reader.connect()
    const found = new TopicAudit(
      topic,
      new Map(Array.from(ranges, ([partition, { low }]) => [partition, low])),
    )
    await reader.start((record) => found.take(record))
    if (follow) {
      const logger = createLogger(config, null, 'stderr')
      if (commandLine.metrics !== null) {
        const readiness = () => ({ ready: true, checks: [] })
        server = await serveAdminRoutes(new AuditMetrics(() => found.findings), {
          ...commandLine.metrics,
          readiness,
        })
        logger.info({ metricsUrl: `${server.listeningOrigin}/metrics` }, `auditing ${topic}`)
      }
      await followUntilSignal(found, logger)
      accounts = await accountsOf(gateways)
      ranges = await reader.ranges()
    }
    await reader.readTo(ranges)
    return reportOf(found, accounts)
  } finally {
    await server?.close()
    await reader.stop()
  }
}

type Accounts = readonly { gateway: string; streams: Awaited<ReturnType<typeof fetchAccount>> }[]

async function accountsOf(gateways: readonly string[]): Promise<Accounts> {
  return await Promise.all(
    gateways.map(async (gateway) => ({ gateway, streams: await fetchAccount(gateway) })),
  )
}

async function followUntilSignal(found: TopicAudit, logger: Logger): Promise<void> {
  let told = ''
  const timer = setInterval(() => {
    const totals = totalsOf(found.findings)
    const text = JSON.stringify(totals)
    if (text !== told) logger.info(totals, 'read so far')
    told = text
  }, tellEveryMs)
  await new StopSignals().next()
  clearInterval(timer)
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

async function write(report: AuditReport, { json, html }: AuditCommandLine): Promise<void> {
  const outputs = [
    { file: json, make: () => `${JSON.stringify(report, null, 2)}\n` },
    { file: html, make: () => auditHtml(report) },
  ]
  for (const { file, make } of outputs) if (file !== null && file !== '-') await writeFile(file, make())
  const onStdout = outputs.find(({ file }) => file === '-')?.make ?? (() => auditText(report))
  process.stdout.write(onStdout())
}

const tellEveryMs = 10_000

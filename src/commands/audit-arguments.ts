import { parseArgs } from 'node:util'
import { flawOfTopic } from '../config/stream-schema.ts'
import { readMetricsAddress, type MetricsAddress } from './consume-arguments.ts'

/** What was said on the command line of `chute audit`. */
export interface AuditCommandLine {
  readonly topic: string
  /** Base URLs of gateways whose accounts to compare with. */
  readonly gateways: readonly string[]
  /** Where the report goes as JSON and as a page; null: nowhere. `-` is standard output, in the place of the text. */
  readonly json: string | null
  readonly html: string | null
  readonly follow: boolean
  readonly metrics: MetricsAddress | null
}

/** How `chute audit` is called. */
export const auditUsage = `usage: chute audit --topic T [--gateway URL]… [--json FILE] [--html FILE] [--follow]

  --gateway URL         compares with the account of a gateway (its ADMIN_PORT where it has one); one for each
  --json FILE           the report as JSON; - for standard output
  --html FILE           the report as a page with a plot over time; - for standard output
  --follow              goes on reading until Ctrl-C; the report comes then
  --metrics-port N      serves /metrics there while it follows; 0: any free port
  --metrics-host H      on this address (127.0.0.1)

Kafka is reached as the gateway reaches it: KAFKA_BROKERS and the other KAFKA_ variables.
`

/** Reads the command line. @throws Error that says what is wrong with it. */
export function readAuditArguments(argv: readonly string[]): AuditCommandLine {
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
    },
  })
  const { topic, gateway: gateways, json = null, html = null, follow } = values
  if (topic === undefined) throw new Error('--topic is missing')
  const flaw = flawOfTopic(topic)
  if (flaw !== null) throw new Error(`--topic ${flaw.problem}. ${flaw.remedy}`)
  for (const url of gateways) {
    if (!URL.canParse(url) || !/^https?:/.test(url))
      throw new Error(`--gateway must be an http(s) URL, got ${url}`)
  }
  if (json === '-' && html === '-') throw new Error('--json and --html cannot both go to standard output')
  const metrics = readMetricsAddress(values)
  if (metrics !== null && !follow) throw new Error('--metrics-port is given without --follow')
  return { topic, gateways, json, html, follow, metrics }
}

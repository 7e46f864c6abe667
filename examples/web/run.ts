import { randomUUID } from 'node:crypto'
import { choosePort } from '../../dev/gateway-process.ts'
import { consume, type ConsumedRecord } from '../../src/kafka/consumer/consume.ts'
import { runExample, say } from '../stack.ts'
import { originOf, servePage } from './serve-page.ts'

/** An event of the client, or a report of the browser. */
interface WebEvent {
  readonly name?: string
  readonly 'csp-report'?: Readonly<Record<string, unknown>>
  readonly [field: string]: unknown
}

/** What `--once` waits for. */
const kinds: Readonly<Record<string, (event: WebEvent) => boolean>> = {
  view: ({ name }) => name === 'page.view',
  click: ({ name }) => name === 'clicked',
  form: ({ name }) => name === 'ordered',
  error: ({ name }) => name === 'error',
  vital: ({ name }) => name === 'LCP',
  report: (event) => event['csp-report'] !== undefined,
}

/**
 * A page with the browser client: its views, clicks, form, errors and Web Vitals go to Kafka, and a consumer prints what arrives. What the
 * page's policy refuses is reported by the browser itself. Runs until Ctrl-C; `--once` ends when one of each kind has arrived.
 */
const pagePort = await choosePort(Number(process.env['PAGE_PORT'] ?? 3000), say)
const env = { CORS_ORIGINS: originOf(pagePort) }

process.exitCode = await runExample(
  new URL('chute.yaml', import.meta.url),
  async ({ url, broker }, { once }) => {
    const page = await servePage(pagePort, url)
    const missing = new Set(Object.keys(kinds))
    let allSeen = (_shown: true): void => {}
    const isAllSeen = new Promise<true>((resolve) => (allSeen = resolve))
    const startedAtMs = Date.now()
    const print = (records: readonly ConsumedRecord[]): void => {
      for (const { topic, timestampMs, value } of records) {
        // A Kafka of your own may have records of an earlier run.
        if (value === null || timestampMs < startedAtMs) continue
        const event = JSON.parse(value.toString()) as WebEvent
        say(lineOf(topic, timestampMs, event))
        for (const [kind, isOf] of Object.entries(kinds)) if (isOf(event)) missing.delete(kind)
      }
      if (once && missing.size === 0) allSeen(true)
    }
    const group = `example-web-${randomUUID()}`
    const consumers = ['example-web', 'example-web-reports'].map((topic) =>
      consume({
        brokers: [broker],
        topic,
        group: `${group}-${topic}`,
        settings: { 'auto.offset.reset': 'earliest' },
        process: print,
      }),
    )
    say(`\nOpen ${page.url} and click. The gateway's live page is ${url}/. Ctrl-C ends the example.\n`)
    try {
      return await isAllSeen
    } finally {
      page.close()
      await Promise.all(consumers.map(async (consumer) => await consumer.stop(1_000)))
    }
  },
  env,
)

/** The time, the topic, the name, and the fields that say something about this one event. */
function lineOf(topic: string, timestampMs: number, event: WebEvent): string {
  const time = new Date(timestampMs).toISOString().slice(11, 23)
  const report = event['csp-report']
  if (report !== undefined) {
    const { 'effective-directive': directive, 'blocked-uri': blocked } = report
    return [time, topic, 'csp-report', JSON.stringify({ directive, blocked })].join('  ')
  }
  const {
    name,
    value,
    source: _source,
    session: _session,
    timestamp: _timestamp,
    stack: _stack,
    ...own
  } = event
  const fields = value === 1 ? own : { value, ...own }
  return [time, topic, name, JSON.stringify(fields)].join('  ')
}

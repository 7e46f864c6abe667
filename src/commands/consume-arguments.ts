import { parseArgs } from 'node:util'
import type { ConsumeArguments } from '../config/load-config.ts'
import { wholeNumber } from './command-line.ts'

/** Where records go. */
export type SinkChoice =
  | { readonly kind: 'stdout' }
  | { readonly kind: 'exec'; readonly command: string }
  | { readonly kind: 'http'; readonly url: string; readonly timeoutMs: number }

/** What was said on the command line. */
export interface ConsumeCommandLine {
  readonly consumer: ConsumeArguments
  readonly sink: SinkChoice
  readonly metrics: MetricsAddress | null
}

/** Where a process that is no gateway shows its metrics. */
export interface MetricsAddress {
  readonly host: string
  readonly port: number
}

/** How `chute consume` is called. */
export const consumeUsage = `usage: chute consume --topic T --group G [--stdout | --exec CMD | --http URL]

  --delivery D          at-most-once (the default), at-least-once or auto-commit
  --stdout              a record a line to standard output (the default)
  --exec CMD            the same to the standard input of one command, which runs as long as the consumer
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

/** Reads `--metrics-port` and `--metrics-host`. */
export function readMetricsAddress(values: {
  readonly 'metrics-port'?: string | undefined
  readonly 'metrics-host'?: string | undefined
}): MetricsAddress | null {
  const { 'metrics-port': port, 'metrics-host': host = '127.0.0.1' } = values
  if (port !== undefined) return { host, port: wholeNumber('--metrics-port', port, 0, 65_535) }
  if (values['metrics-host'] !== undefined) throw new Error('--metrics-host is given without --metrics-port')
  return null
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
  return {
    kind: 'http',
    url: url.href,
    timeoutMs: wholeNumber('--http-timeout-ms', timeout ?? '10000', 1, 2 ** 31 - 1),
  }
}

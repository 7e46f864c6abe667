import { setTimeout as sleep } from 'node:timers/promises'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import type { ProducerStats } from '../src/kafka/producer/producer.ts'
import { readTopic } from '../test/support/independent-reader.ts'
import type { StreamTraffic } from './demo-traffic.ts'
import { alignTable } from '../src/reports/text-table.ts'

/** What became of the demo's events. */
export interface Summary {
  readonly rows: readonly (readonly string[])[]
  /** Every accepted event was found in its topic. */
  readonly complete: boolean
}

/** Waits until every record has its outcome, then holds what was accepted against what a consumer reads. */
export async function summarize(
  url: string,
  broker: string,
  traffic: readonly StreamTraffic[],
): Promise<Summary> {
  const stats = await untilSettled(url)
  const rows: string[][] = []
  let complete = true
  for (const { stream, accepted, replyMs, startedAtMs, endedAtMs } of traffic) {
    const account = stats.find((each) => each.stream === stream)!
    const landed = (await readTopic(broker, account.topic)).length
    complete &&= landed === accepted && account.accepted === accepted
    replyMs.sort((a, b) => a - b)
    rows.push([
      stream,
      String(accepted),
      String(landed),
      String(account.confirmed + account.acked),
      `${Math.round((1000 * accepted) / (endedAtMs - startedAtMs))}/s`,
      `${Math.round(account.batchSizeAvg)} B`,
      `${quantile(replyMs, 0.5).toFixed(1)} ms`,
      `${quantile(replyMs, 0.99).toFixed(1)} ms`,
    ])
  }
  return { rows, complete }
}

/** The table, and one sentence on it. */
export function printSummary({ rows, complete }: Summary, say: (text: string) => void): void {
  const head = ['stream', 'accepted', 'landed', 'confirmed', 'rate', 'batch', 'reply p50', 'reply p99']
  say('')
  for (const line of alignTable([head, ...rows])) say(line)
  say(complete ? '\nEvery accepted event is in its topic.' : '\nNOT every accepted event is in its topic.')
}

/** Lines to copy. */
export function printLinesToTry(url: string, kafka: LocalKafka, say: (text: string) => void): void {
  const stream = `${url}/v1/streams/metrics-realtime`
  say(`
Try it:
  one event     curl -d '{"name":"room.temp","value":21.5}' ${stream}
  an array      curl -d '[{"name":"a","value":1},{"name":"b","value":2}]' ${stream}
  NDJSON        printf '{"name":"a","value":1}\\n{"name":"b","value":2}\\n' | curl -H 'Content-Type: application/x-ndjson' --data-binary @- ${stream}
  a bad event   curl -d '{"name":"room.temp","value":"warm"}' ${stream}
  wait for it   curl -H 'Prefer: wait=5' -d '{"name":"kill","value":1}' ${url}/v1/streams/metrics-critical
  consume       KAFKA_BROKERS=${kafka.brokers[0]} npx tsx src/main.ts consume --topic metrics-realtime --group demo --set auto.offset.reset=earliest
  Kafka's own   java -cp '${kafka.classpath}' org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server ${kafka.brokers[0]} --topic metrics-realtime --from-beginning --max-messages 5

Look at it:
  live page     ${url}/
  metrics       ${url}/metrics
  docs          ${url}/docs
  health        ${url}/livez and ${url}/readyz
  from a page   npm run example:web, with the browser client (docs/browser.md)`)
}

/** Waits until every accepted record has its outcome. @returns the accounts. */
export async function untilSettled(url: string): Promise<readonly ProducerStats[]> {
  for (;;) {
    const { streams } = (await (await fetch(`${url}/live.json`)).json()) as { streams: ProducerStats[] }
    if (streams.every(({ spooled, buffered, inFlight }) => spooled + buffered + inFlight === 0))
      return streams
    await sleep(50)
  }
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
}

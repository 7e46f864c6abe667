import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { untilSettled } from '../../dev/demo-summary.ts'
import { alignTable } from '../../src/reports/text-table.ts'
import { readTopic } from '../../test/support/independent-reader.ts'
import { runExample, say, type Stack } from '../stack.ts'
import { forward, type Forwarded } from './forward.ts'

/**
 * Log streaming: forwards a real log file line by line through the `logs` preset, again and again until 30 MB were sent,
 * and shows what that makes of it on the wire. `--file` names the file; without it, it is the log of the local Kafka.
 *
 * Exits with 1 if a line that was accepted and confirmed is missing, or one is there twice.
 */
process.exitCode = await runExample(new URL('chute.yaml', import.meta.url), async (stack, flags) => {
  const file = flags.file ?? kafkaLog(stack)
  say(`forwarding ${file}`)
  const forwarded = await forward(`${stack.url}/v1/streams/app-logs`, linesOf(file), 30_000_000)
  return await judge(stack, forwarded)
})

function kafkaLog({ kafka }: Stack): string {
  if (kafka === null) throw new Error('with a Kafka of your own, name a log file: --file /var/log/app.log')
  return join(dirname(kafka.nodes[0]!.dataDir), 'kafka.log')
}

function linesOf(file: string): string[] {
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  if (lines.length === 0) throw new Error(`${file} has no lines`)
  return lines
}

async function judge({ url, broker }: Stack, { lines, bytes, seconds }: Forwarded): Promise<boolean> {
  const account = (await untilSettled(url)).find(({ stream }) => stream === 'app-logs')!
  const ids = (await readTopic(broker, account.topic)).map(({ value }) => idOf(value))
  const landed = new Set(ids).size
  const { batches, wireBytes } = await batchesOf(url)
  const megabytes = (of: number): string => `${(of / 1e6).toFixed(1)} MB`
  say('')
  const rows = [
    ['lines accepted', String(lines)],
    ['lines landed', String(landed)],
    ['lines confirmed', String(account.confirmed)],
    ['rate', `${Math.round(lines / seconds)} lines/s, ${megabytes(bytes / seconds)}/s`],
    ['event bytes', megabytes(bytes)],
    ['bytes on the wire (lz4)', `${megabytes(wireBytes)}, ${(bytes / wireBytes).toFixed(1)} times less`],
    ['batches', String(batches)],
    ['batch, before lz4', `${Math.round(bytes / batches)} B on average`],
    ['batch, on the wire', `${Math.round(wireBytes / batches)} B on average`],
  ]
  for (const line of alignTable([['logs preset', ''], ...rows])) say(line)
  return landed >= account.confirmed && ids.length === landed && account.accepted === lines
}

async function batchesOf(url: string): Promise<{ batches: number; wireBytes: number }> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const value = (part: string): number =>
    Number(
      new RegExp(`^kafka_producer_batch_size_bytes_${part}{.*stream="app-logs".*} (.*)$`, 'm').exec(
        text,
      )?.[1],
    )
  return { batches: value('count'), wireBytes: value('sum') }
}

function idOf(value: Buffer): number {
  return (JSON.parse(value.toString()) as { n: number }).n
}

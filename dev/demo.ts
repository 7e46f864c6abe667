import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { LocalKafkaError } from '../src/local-kafka/kafka-jars.ts'
import { startKafka, type LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { printLinesToTry, printSummary, summarize } from './demo-summary.ts'
import { sendTraffic } from './demo-traffic.ts'
import { choosePort, startGatewayProcess, type GatewayProcess } from './gateway-process.ts'

/**
 * The main job on a bare machine: a local Kafka, the real `chute serve`, sample telemetry over HTTP, and what an
 * independent consumer finds in the topics. Stays up until Ctrl-C; `--once` exits after the summary, with 1 if a record
 * is unaccounted for.
 */
const { values: flags } = parseArgs({
  options: { once: { type: 'boolean', default: false }, events: { type: 'string', default: '10000' } },
})

process.exitCode = await demo()

async function demo(): Promise<number> {
  const eventCount = Number(flags.events)
  if (!Number.isInteger(eventCount) || eventCount < 100) {
    say('--events takes a whole number, 100 at least')
    return 2
  }
  const interrupted = nextSignal()
  say('packages are there')
  const port = await choosePort(Number(process.env['PORT'] ?? 8080), say)
  let kafka: LocalKafka
  try {
    kafka = await startKafka({
      onProgress: say,
      ...(process.env['KAFKA_PORT'] ? { port: Number(process.env['KAFKA_PORT']) } : {}),
    })
  } catch (error) {
    if (!(error instanceof LocalKafkaError)) throw error
    say(error.message)
    return 1
  }
  let gateway: GatewayProcess | null = null
  const dataDir = mkdtempSync(join(tmpdir(), 'chute-demo-'))
  try {
    say(`Kafka answers on ${kafka.brokers[0]}; starting the gateway, which creates the topics`)
    // A 202 of metrics-critical is answered from disk.
    const env =
      process.env['CHUTE_DATA_DIR'] === undefined
        ? { CHUTE_DATA_DIR: dataDir, CHUTE_DATA_DIR_EPHEMERAL: 'true' }
        : {}
    gateway = startGatewayProcess({ port, broker: kafka.brokers[0]!, env, say })
    const { url } = gateway
    await Promise.race([gateway.untilReady(), interrupted.then(stopHere)])
    say(`the gateway is up on ${url}`)
    const traffic = await Promise.race([
      sendTraffic(url, eventCount, bar('sending events', eventCount)),
      interrupted.then(stopHere),
    ])
    say('reading the topics back with an independent consumer')
    const summary = await summarize(url, kafka.brokers[0]!, traffic)
    printSummary(summary, say)
    printLinesToTry(url, kafka, say)
    if (flags.once) return (await gateway.stop()) === 0 && summary.complete ? 0 : 1
    say('\nThe demo stays up. Ctrl-C drains the gateway and stops Kafka.')
    await Promise.race([interrupted, once(gateway.process, 'exit')])
    return await gateway.stop()
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error
    return 130
  } finally {
    await gateway?.stop()
    rmSync(dataDir, { recursive: true, force: true })
    say('stopping Kafka and removing its data')
    await kafka.stop()
    say('nothing is left behind')
  }
}

/** Shows progress: a bar in place on a terminal, some lines elsewhere. */
function bar(label: string, total: number): (done: number) => void {
  const { isTTY } = process.stdout
  let shown = -1
  return (done) => {
    const tenths = Math.floor((10 * done) / total)
    if (isTTY) {
      const filled = Math.round((30 * done) / total)
      process.stdout.write(`\r${label} [${'#'.repeat(filled)}${' '.repeat(30 - filled)}] ${done}/${total}`)
      if (done === total) process.stdout.write('\n')
    } else if (tenths > shown && tenths % 2 === 0) {
      say(`${label}: ${done}/${total}`)
      shown = tenths
    }
  }
}

class Interrupted extends Error {}

function stopHere(): never {
  throw new Interrupted()
}

async function nextSignal(): Promise<void> {
  await new Promise<void>((resolve) => {
    process.on('SIGINT', () => resolve())
    process.on('SIGTERM', () => resolve())
  })
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

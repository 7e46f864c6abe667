import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { LocalKafkaError } from '../src/local-kafka/local-kafka-error.ts'
import { startKafka, type LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { printLinesToTry, printSummary, summarize } from './demo-summary.ts'
import { sendTraffic } from './demo-traffic.ts'

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
  const port = await choosePort(Number(process.env['PORT'] ?? 8080))
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
  let gateway: ChildProcess | null = null
  try {
    say(`Kafka answers on ${kafka.brokers[0]}; starting the gateway, which creates the topics`)
    gateway = serve(port, kafka.brokers[0]!)
    const url = `http://127.0.0.1:${port}`
    await Promise.race([untilReady(url, gateway), interrupted.then(stopHere)])
    say(`the gateway is up on ${url}`)
    const traffic = await Promise.race([
      sendTraffic(url, eventCount, bar('sending events', eventCount)),
      interrupted.then(stopHere),
    ])
    say('reading the topics back with an independent consumer')
    const summary = await summarize(url, kafka.brokers[0]!, traffic)
    printSummary(summary, say)
    printLinesToTry(url, kafka, say)
    if (flags.once) return (await stopGateway(gateway)) === 0 && summary.complete ? 0 : 1
    say('\nThe demo stays up. Ctrl-C drains the gateway and stops Kafka.')
    await Promise.race([interrupted, once(gateway, 'exit')])
    return await stopGateway(gateway)
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error
    return 130
  } finally {
    if (gateway !== null) await stopGateway(gateway)
    say('stopping Kafka and removing its data')
    await kafka.stop()
    say('nothing is left behind')
  }
}

function serve(port: number, broker: string): ChildProcess {
  const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', main, 'serve'], {
    env: {
      ...process.env,
      HOST: '127.0.0.1',
      PORT: String(port),
      KAFKA_BROKERS: broker,
      KAFKA_CREATE_TOPICS: 'true',
      KAFKA_TOPIC_PARTITIONS: '3',
      LOG_LEVEL: 'info',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
    // Ctrl-C reaches the whole process group; the gateway is told by us, once.
    detached: true,
  })
  // The log of the gateway is for whoever runs one; here its last line is retold.
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { msg, account } = JSON.parse(line) as { msg: string; account?: object }
    if (account === undefined) return
    say(`\nthe gateway ${msg}`)
    for (const [stream, booked] of Object.entries(account)) say(`  ${stream}: ${JSON.stringify(booked)}`)
  })
  return child
}

async function stopGateway(gateway: ChildProcess): Promise<number> {
  if (gateway.exitCode === null && gateway.signalCode === null) {
    say('\ndraining the gateway')
    const exit = once(gateway, 'exit')
    gateway.kill('SIGTERM')
    await exit
  }
  return gateway.exitCode ?? 1
}

async function untilReady(url: string, gateway: ChildProcess): Promise<void> {
  while (gateway.exitCode === null) {
    const status = await fetch(`${url}/readyz`).then(
      (reply) => reply.status,
      () => 0,
    )
    if (status === 200) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`the gateway ended with ${gateway.exitCode}`)
}

/** The port, or the next one that is free. */
async function choosePort(wanted: number): Promise<number> {
  for (let port = wanted; ; port++) {
    const server = createServer()
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    server.close()
    if (isFree) return port
    say(`port ${port} is taken; trying the next one`)
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

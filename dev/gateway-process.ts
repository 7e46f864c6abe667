import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { spawnWatched } from '../src/local-kafka/kafka-node.ts'

/** The real `chute serve` in a process of its own, for the demo and the examples. Whoever starts it stops it. */
export interface GatewayProcess {
  readonly url: string
  readonly process: ChildProcess
  /** Waits until it takes requests. @throws Error if the process ends before. */
  untilReady(): Promise<void>
  /** Drains and ends it, once; a second call only waits. @returns its exit code. */
  stop(): Promise<number>
}

/**
 * Starts a gateway for `broker` on `port` of 127.0.0.1.
 * @param options.env what else to set, over what this process has.
 * @param options.say is told the account of every stream when the gateway has ended.
 */
export function startGatewayProcess(options: {
  port: number
  broker: string
  env?: NodeJS.ProcessEnv
  say: (text: string) => void
}): GatewayProcess {
  const { port, broker, env = {}, say } = options
  const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))
  const child = spawnWatched(process.execPath, ['--import', 'tsx', main, 'serve'], {
    env: {
      ...process.env,
      HOST: '127.0.0.1',
      PORT: String(port),
      KAFKA_BROKERS: broker,
      KAFKA_CREATE_TOPICS: 'true',
      KAFKA_TOPIC_PARTITIONS: '3',
      LOG_LEVEL: 'info',
      // Who sends is told before it is stopped.
      DRAIN_DELAY_MS: '0',
      ...env,
    },
    // Ctrl-C does not reach it: it is told by us, once.
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  // The log of the gateway is for whoever runs one; here its last line is retold.
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const { msg, account } = JSON.parse(line) as { msg: string; account?: object }
    if (account === undefined) return
    say(`\nthe gateway ${msg}`)
    for (const [stream, booked] of Object.entries(account)) say(`  ${stream}: ${JSON.stringify(booked)}`)
  })
  const url = `http://127.0.0.1:${port}`
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null
  return {
    url,
    process: child,
    async untilReady() {
      while (!hasEnded()) {
        const status = await fetch(`${url}/readyz`).then(
          (reply) => reply.status,
          () => 0,
        )
        if (status === 200) return
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      throw new Error(`the gateway ended with ${child.exitCode ?? child.signalCode}`)
    },
    async stop() {
      if (!hasEnded()) {
        say('\ndraining the gateway')
        const exit = once(child, 'exit')
        child.kill('SIGTERM')
        await exit
      }
      return child.exitCode ?? 1
    },
  }
}

/** The port, or the next one that is free. */
export async function choosePort(wanted: number, say: (text: string) => void): Promise<number> {
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

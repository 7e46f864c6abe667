import { setTimeout as pause } from 'node:timers/promises'
import type { ProducerStats } from '../../../src/kafka/producer/producer.ts'
import { parseExposition, sumOf } from '../../support/parse-exposition.ts'
import { serveGateway, type ServedGateway } from '../../support/served-gateway.ts'
import type { LoggedAccount } from './subject.ts'

/** One process of a gateway, from its start to its end. */
export interface Life {
  /** As `A-3`: the third process of gateway A. */
  readonly name: string
  readonly gateway: ServedGateway
  isStopped: boolean
  /** Ended by SIGKILL: its account died with it. */
  wasKilled: boolean
  /** Of each stream, from the last line of its log; null while it lives, and if it was killed. */
  account: Readonly<Record<string, LoggedAccount>> | null
  exitCode: number | null
}

/** A gateway that is started again and again on one data folder. */
export class ChaosGateway {
  readonly name: string
  readonly lives: Life[] = []
  readonly #env: NodeJS.ProcessEnv

  constructor(name: string, env: NodeJS.ProcessEnv) {
    this.name = name
    this.#env = env
  }

  /** The process that runs, or ran last. */
  get life(): Life {
    return this.lives.at(-1)!
  }

  /** @throws Error where the process ends before it listens. */
  async start(): Promise<void> {
    const gateway = await serveGateway(this.#env)
    const name = `${this.name}-${this.lives.length + 1}`
    const life = { name, gateway, isStopped: false, wasKilled: false, account: null, exitCode: null }
    this.lives.push(life)
  }

  async kill(): Promise<void> {
    this.life.wasKilled = true
    this.life.gateway.signal('SIGKILL')
    await this.life.gateway.ended()
  }

  /** SIGTERM. @returns milliseconds until the process was gone. */
  async end(): Promise<number> {
    const { life } = this
    const startMs = performance.now()
    life.gateway.signal('SIGTERM')
    life.exitCode = await life.gateway.ended()
    const { account } = life.gateway.lines.at(-1) as unknown as Pick<Life, 'account'>
    life.account = account ?? null
    return performance.now() - startMs
  }

  stop(): void {
    this.life.isStopped = true
    this.life.gateway.signal('SIGSTOP')
  }

  goOn(): void {
    this.life.gateway.signal('SIGCONT')
    this.life.isStopped = false
  }

  /** Waits until Kafka has all that was accepted and Redis was told of it. @throws Error after two minutes. */
  async settled(): Promise<void> {
    const deadlineMs = performance.now() + settleLimitMs
    for (;;) {
      const families = parseExposition(await this.#metrics(), 'prometheus')
      const pending = sumOf(families, 'chute_records_pending')
      const waiting = sumOf(families, 'chute_dedupe_store_waiting')
      if (pending === 0 && waiting === 0) return
      if (performance.now() > deadlineMs)
        throw new Error(
          `${this.life.name}: ${pending} records have no outcome, ${waiting} keys wait for Redis`,
        )
      await pause(100)
    }
  }

  /** accepted + recovered − pending − outcomes over all streams at one scrape; null where it does not answer. */
  async imbalance(): Promise<number | null> {
    let text: string
    try {
      text = await this.#metrics()
    } catch {
      return null
    }
    const families = parseExposition(text, 'prometheus')
    const [accepted, recovered, pending, outcomes] = [
      'chute_records_accepted_total',
      'chute_records_recovered_total',
      'chute_records_pending',
      'chute_records_total',
    ].map((name) => sumOf(families, name))
    return accepted! + recovered! - pending! - outcomes!
  }

  /** The accounts of the streams at this moment. */
  async stats(): Promise<readonly ProducerStats[]> {
    const reply = await fetch(`${this.life.gateway.url}/live.json`)
    return ((await reply.json()) as { streams: ProducerStats[] }).streams
  }

  async #metrics(): Promise<string> {
    const reply = await fetch(`${this.life.gateway.url}/metrics`, { signal: AbortSignal.timeout(2_000) })
    return await reply.text()
  }
}

/** Looks at the sums of gateways twice a second. */
export class Scraping {
  readonly open: string[] = []
  readonly #done: Promise<void>[]
  #isOver = false

  constructor(gateways: readonly ChaosGateway[]) {
    this.#done = gateways.map(async (gateway) => {
      while (!this.#isOver) {
        const { name } = gateway.life
        const imbalance = await gateway.imbalance()
        if (imbalance !== null && imbalance !== 0) this.open.push(`${name}: the sums are off by ${imbalance}`)
        await pause(500)
      }
    })
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#done)
  }
}

const settleLimitMs = 120_000

import { readFileSync } from 'node:fs'
import http from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import type { ProducerStats } from '../../../src/kafka/producer/producer.ts'
import { parseExposition, sumOf } from '../../support/parse-exposition.ts'
import { sumOfOutcomes } from '../../support/producer-stats.ts'

/** What a gateway said of itself at one instant. */
export interface Scrape {
  readonly atMs: number
  readonly streams: readonly ProducerStats[]
  readonly edge: { readonly accepted: number; readonly rejected: number }
  /** Resident memory of its process; null where the system does not tell. */
  readonly rssBytes: number | null
}

/** Looks at a gateway ten times a second, and checks both sums of the account each time. */
export class Scraper {
  readonly scrapes: Scrape[] = []
  /** Sums that did not hold; none, if the gateway tells the truth. */
  readonly open: string[] = []
  readonly #url: string
  readonly #pid: number
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  #stopped = false

  constructor(url: string, pid: number) {
    this.#url = url
    this.#pid = pid
  }

  /** Scrapes until {@link stop}, or until the gateway is gone. */
  async run(): Promise<void> {
    for (let count = 0; !this.#stopped; count++) {
      try {
        await this.scrape()
        if (count % 10 === 0) this.#checkMetrics(await this.#get('/metrics'))
      } catch {
        // A gateway that goes answers no more; what it said last is in its log.
      }
      await pause(intervalMs)
    }
  }

  /** One look, checked and kept. */
  async scrape(): Promise<Scrape> {
    const { streams, edge } = JSON.parse(await this.#get('/live.json')) as {
      readonly streams: readonly ProducerStats[]
      readonly edge: Record<'accepted' | 'rejected', Record<string, number>>
    }
    const scrape = {
      atMs: performance.now(),
      streams,
      edge: { accepted: sum(edge.accepted), rejected: sum(edge.rejected) },
      rssBytes: rssOf(this.#pid),
    }
    this.scrapes.push(scrape)
    this.#check(scrape)
    return scrape
  }

  stop(): void {
    this.#stopped = true
    this.#agent.destroy()
  }

  #check({ streams, edge }: Scrape): void {
    for (const stats of streams) {
      const { accepted, buffered, inFlight, bufferAvailableBytes, bufferTotalBytes } = stats
      if (accepted !== buffered + inFlight + sumOfOutcomes(stats))
        this.open.push(`/live.json: ${JSON.stringify(stats)}`)
      if (bufferAvailableBytes < 0 || bufferAvailableBytes > bufferTotalBytes)
        this.open.push(`${bufferAvailableBytes} of ${bufferTotalBytes} bytes are available`)
    }
    const accepted = streams.reduce((total, stats) => total + stats.accepted, 0)
    if (accepted !== edge.accepted)
      this.open.push(`/live.json: ${edge.accepted} at the edge, ${accepted} in the streams`)
  }

  #checkMetrics(text: string): void {
    const families = parseExposition(text, 'prometheus')
    const accepted = sumOf(families, 'chute_records_accepted_total')
    const told = sumOf(families, 'chute_records_pending') + sumOf(families, 'chute_records_total')
    const atEdge = sumOf(families, 'chute_events_total', { result: 'accepted' })
    const rejected = sumOf(families, 'chute_events_total', { result: 'rejected' })
    const byCode = sumOf(families, 'chute_events_rejected_total')
    if (accepted !== told || accepted !== atEdge || rejected !== byCode)
      this.open.push(`/metrics: ${JSON.stringify({ accepted, told, atEdge, rejected, byCode })}`)
  }

  async #get(path: string): Promise<string> {
    return await new Promise((resolve, reject) => {
      const request = http.get(`${this.#url}${path}`, { agent: this.#agent }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (text += chunk))
        response.once('end', () => resolve(text))
        response.once('error', reject)
      })
      request.once('error', reject)
    })
  }
}

function sum(numbers: Readonly<Record<string, number>>): number {
  return Object.values(numbers).reduce((total, each) => total + each, 0)
}

/** Linux only: elsewhere memory is not judged. */
function rssOf(pid: number): number | null {
  if (process.platform !== 'linux') return null
  try {
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
  } catch {
    return null
  }
}

const intervalMs = 100

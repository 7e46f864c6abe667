import { Agent, request } from 'node:http'
import { onTestFinished } from 'vitest'

/** What became of one event, as its sender knows it. */
export type SentAs = 'accepted' | 'refused' | 'unanswered'

/**
 * Senders that each have a key and send one request after the other, so that the order of a key is known: `n` counts up,
 * over all of their lives. What got no answer is not sent again: it may have landed.
 */
export class KeyedLoad {
  readonly stream: string
  readonly prefix: string
  /** By `key:n`. */
  readonly sent = new Map<string, SentAs>()
  /** Codes of the refusals, and how often each. */
  readonly refusals = new Map<string, number>()
  /** Requests that were not answered with 202. */
  readonly failures: FailedRequest[] = []
  /** Milliseconds that each 202 took. */
  readonly latenciesMs: number[] = []
  readonly #next = new Map<string, number>()
  readonly #keys: readonly string[]
  readonly #eventsPerRequest: number
  readonly #padding: string
  #running: Promise<void>[] = []
  #stopped = true

  /** @param options.prefix of the keys. */
  constructor(options: {
    stream: string
    keys: number
    prefix?: string
    eventsPerRequest?: number
    eventBytes?: number
  }) {
    this.stream = options.stream
    this.prefix = options.prefix ?? 'key'
    this.#keys = Array.from({ length: options.keys }, (_, nth) => `${this.prefix}-${nth}`)
    this.#eventsPerRequest = options.eventsPerRequest ?? 3
    this.#padding = 'x'.repeat(Math.max(0, (options.eventBytes ?? 100) - 60))
  }

  /** The ids of what was sent, by what became of it. */
  as(end: SentAs): string[] {
    return [...this.sent].filter(([, each]) => each === end).map(([id]) => id)
  }

  /** Sends until {@link stop}, or until the test ends: the load of a test that failed would take processors from all later ones. @param pauseMs between two requests of a key. */
  start(url: string, pauseMs = 0): void {
    this.#stopped = false
    onTestFinished(() => void (this.#stopped = true))
    const agent = new Agent({ keepAlive: true, maxSockets: this.#keys.length })
    this.#running = this.#keys.map(async (key) => {
      while (!this.#stopped) {
        await this.send(url, key, agent)
        if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs))
      }
    })
  }

  /** Waits for the last answers. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
  }

  /** One request. */
  async send(url: string, key: string, agent?: Agent): Promise<void> {
    const first = this.#next.get(key) ?? 0
    this.#next.set(key, first + this.#eventsPerRequest)
    const numbers = Array.from({ length: this.#eventsPerRequest }, (_, nth) => first + nth)
    const body = numbers
      .map((n) => `{"name":"e","value":${n},"source":"${key}","p":"${this.#padding}"}\n`)
      .join('')
    const startedMs = performance.now()
    const { status, code } = await post(`${url}/v1/streams/${this.stream}`, body, agent)
    const end = status === 202 ? 'accepted' : undecided.has(status) ? 'unanswered' : 'refused'
    if (end !== 'accepted') this.failures.push({ key, status, code, startedMs, endedMs: performance.now() })
    if (end === 'accepted') this.latenciesMs.push(performance.now() - startedMs)
    if (end === 'refused') this.refusals.set(code, (this.refusals.get(code) ?? 0) + 1)
    for (const n of numbers) this.sent.set(`${key}:${n}`, end)
  }
}

/** A request that was not answered with 202. The times are those of `performance.now()`. */
export interface FailedRequest {
  readonly key: string
  /** 0: no whole answer came. */
  readonly status: number
  readonly code: string
  readonly startedMs: number
  readonly endedMs: number
}

/** Nobody knows what became of these: no answer came, or a balancer got none. */
const undecided: ReadonlySet<number> = new Set([0, 502, 504])

/** @returns status 0 where no whole answer came. */
async function post(url: string, body: string, agent?: Agent): Promise<{ status: number; code: string }> {
  return await new Promise((resolve) => {
    const none = (): void => resolve({ status: 0, code: '' })
    const outgoing = request(
      url,
      {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        ...(agent === undefined ? {} : { agent }),
      },
      (reply) => {
        let text = ''
        reply.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
        })
        reply.once('error', none)
        reply.once('end', () => {
          const code = /"code":"(\w+)"/.exec(text)?.[1] ?? ''
          resolve({ status: reply.complete ? (reply.statusCode ?? 0) : 0, code })
        })
      },
    )
    outgoing.once('error', none)
    outgoing.end(body)
  })
}

/** What a reader found in a topic, by `key:n`, held against what was sent. */
export interface Landing {
  /** Answered with 202 and not there. */
  readonly lost: string[]
  /** There and never sent, or refused. */
  readonly ghosts: string[]
  /** There more than once: each further time. */
  readonly duplicates: string[]
  /** Keys whose first records are not in the order in which they were sent. */
  readonly reordered: string[]
  readonly landed: number
}

/** Compares. @param values of the records in the order of their partitions. */
export function landingOf(
  load: KeyedLoad,
  records: readonly { readonly key: string | null; readonly value: Buffer }[],
): Landing {
  const seen = new Set<string>()
  const duplicates: string[] = []
  const ghosts: string[] = []
  const last = new Map<string, number>()
  const reordered = new Set<string>()
  for (const { key, value } of records) {
    const { value: n } = JSON.parse(value.toString()) as { value: number }
    const id = `${key}:${n}`
    const sent = load.sent.get(id)
    if (sent === undefined || sent === 'refused') ghosts.push(id)
    if (seen.has(id)) {
      duplicates.push(id)
      continue
    }
    seen.add(id)
    if ((last.get(key!) ?? -1) > n) reordered.add(key!)
    last.set(key!, n)
  }
  const lost = load.as('accepted').filter((id) => !seen.has(id))
  return { lost, ghosts, duplicates, reordered: [...reordered], landed: seen.size }
}

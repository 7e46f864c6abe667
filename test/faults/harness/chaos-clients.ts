import http from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import type { Life } from './chaos-gateway.ts'

/** How clients of one stream behave. */
export interface ClientsOptions {
  readonly stream: string
  readonly clients: number
  /** Pause of a client behind each of its requests, in milliseconds. */
  readonly pauseMs: number
  /** What is not answered, or refused for now, is sent again until it is accepted. Without: each request is sent once. */
  readonly retries: boolean
  /** Requests carry an `Idempotency-Key`, or their events an `id`, or both. */
  readonly keyed: boolean
  /** The gateways that are there, whether they answer or not: each try goes to one of them. */
  readonly gateways: () => readonly Life[]
  readonly random: () => number
}

/** One try of a request. Status 0: no answer came; the code says why, and `ECONNREFUSED` that nothing was sent. */
export interface Try {
  readonly atMs: number
  readonly life: Life
  readonly status: number
  readonly code: string
}

/** One request, and what its client knows of it. */
export interface SentRequest {
  /** Numbers of its events: from this one on. */
  readonly first: number
  readonly count: number
  readonly tries: Try[]
  /** `none`: nobody knows whether it was accepted. */
  answer: 'none' | 'accepted' | 'refused'
}

/**
 * Clients of one stream that send numbered events to several gateways. Every other client's events have a `source`, which is
 * the key of their records; the others' have none.
 */
export class ChaosClients {
  readonly stream: string
  readonly requests: SentRequest[] = []
  /** Answers that no fault explains. */
  readonly surprises: string[] = []
  readonly #options: ClientsOptions
  readonly #agent = new http.Agent({ keepAlive: true })
  #running: Promise<void>[] = []
  #nextEvent = 0
  #endsAtMs = Infinity
  #givesUpAtMs = Infinity

  constructor(options: ClientsOptions) {
    this.stream = options.stream
    this.#options = options
  }

  /** Events sent so far; their numbers are below this. */
  get sent(): number {
    return this.#nextEvent
  }

  start(): void {
    this.#running = Array.from({ length: this.#options.clients }, async (_, nth) => await this.#send(nth))
  }

  /** Begins no request any more, and waits until each is answered: `limitMs` at the most. */
  async stop(limitMs: number): Promise<void> {
    this.#endsAtMs = performance.now()
    this.#givesUpAtMs = this.#endsAtMs + limitMs
    await Promise.all(this.#running)
    this.#agent.destroy()
  }

  async #send(nth: number): Promise<void> {
    const { random, pauseMs } = this.#options
    for (let round = 0; performance.now() < this.#endsAtMs; round++) {
      const count = 1 + Math.floor(random() * 3)
      const request: SentRequest = { first: this.#nextEvent, count, tries: [], answer: 'none' }
      this.#nextEvent += count
      this.requests.push(request)
      await this.#untilAnswered(request, this.#headers(nth, round), this.#body(nth, request))
      await pause(pauseMs * (0.5 + random()))
    }
  }

  async #untilAnswered(request: SentRequest, headers: http.OutgoingHttpHeaders, body: string): Promise<void> {
    const { retries, gateways, random } = this.#options
    for (;;) {
      const lives = gateways()
      const life = lives[Math.floor(random() * lives.length)]!
      const atMs = performance.now()
      const reply = await this.#post(life.gateway.url, headers, body)
      request.tries.push({ atMs, life, status: reply.status, code: reply.code })
      // 200: it waited for the outcome, and the records are in Kafka.
      if (reply.status === 202 || reply.status === 200) {
        request.answer = 'accepted'
        if (reply.accepted !== request.count) this.#surprise(request, `accepted ${reply.accepted}`)
        return
      }
      if (reply.status === 0 && reply.code === 'ECONNREFUSED' && performance.now() < this.#givesUpAtMs) {
        // Nobody was there: whoever sends once sends it to another.
        await pause(5 + random() * 20)
        continue
      }
      const isForNow = reply.status === 503 || (reply.status === 409 && reply.code === 'request_in_progress')
      if (reply.status !== 0 && !isForNow) this.#surprise(request, `${reply.status} ${reply.code}`)
      // Refused: nothing of it was accepted. A client that sends once leaves it at that.
      if (!retries || (reply.status !== 0 && !isForNow)) {
        if (reply.status !== 0) request.answer = 'refused'
        return
      }
      if (performance.now() > this.#givesUpAtMs) return
      await pause(30 + random() * 100)
    }
  }

  #headers(nth: number, round: number): http.OutgoingHttpHeaders {
    const headers: http.OutgoingHttpHeaders = { 'content-type': 'application/x-ndjson' }
    if (!this.#options.keyed) return headers
    if (nth % 3 !== 1) headers['idempotency-key'] = `"${this.stream}-${nth}-${round}"`
    // Some want to know what became of the records: they are under way for longer.
    if (round % 4 === 0) headers['prefer'] = 'wait=2'
    return headers
  }

  #body(nth: number, { first, count }: SentRequest): string {
    const hasIds = this.#options.keyed && nth % 3 !== 0
    return Array.from({ length: count }, (_, index) =>
      JSON.stringify({
        name: 'chaos',
        value: first + index,
        ...(nth % 2 === 0 && { source: `client-${nth}` }),
        ...(hasIds && { id: `${this.stream}-${first + index}` }),
      }),
    ).join('\n')
  }

  #surprise(request: SentRequest, what: string): void {
    this.surprises.push(`${this.stream}: events from ${request.first} on: ${what}`)
  }

  async #post(
    url: string,
    headers: http.OutgoingHttpHeaders,
    body: string,
  ): Promise<{ status: number; code: string; accepted: number }> {
    return await new Promise((resolve) => {
      const none = (error?: NodeJS.ErrnoException): void =>
        resolve({ status: 0, code: error?.code ?? '', accepted: 0 })
      const request = http.request(
        `${url}/v1/streams/${this.stream}`,
        {
          method: 'POST',
          agent: this.#agent,
          headers: { ...headers, 'content-length': Buffer.byteLength(body) },
        },
        (response) => {
          let text = ''
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
          response.once('error', none)
          response.once('end', () => {
            if (!response.complete) return none()
            const { code = '', accepted = 0 } = parsed(text)
            resolve({ status: response.statusCode ?? 0, code, accepted })
          })
        },
      )
      request.setTimeout(patienceMs, () => request.destroy())
      request.once('error', none)
      request.end(body)
    })
  }
}

function parsed(text: string): { code?: string; accepted?: number } {
  try {
    return JSON.parse(text) as { code?: string; accepted?: number }
  } catch {
    return { code: `not JSON: ${text.slice(0, 100)}` }
  }
}

/** How long a client waits for an answer, in milliseconds. */
const patienceMs = 4_000

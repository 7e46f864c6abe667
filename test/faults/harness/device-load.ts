import http from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { onTestFinished } from 'vitest'

/** What devices send, and how fast. */
export interface DeviceLoadOptions {
  readonly url: string
  readonly stream: string
  /** Each device is a key and a connection. */
  readonly devices: number
  /** Requests a second in all, whether or not the gateway keeps up (open loop); null: each device as fast as it is answered. */
  readonly requestsPerSecond: number | null
  readonly eventsPerRequest: number
  readonly eventBytes: number
}

/** One reply, by the clock of `performance.now()`. */
export interface Reply {
  readonly askedAtMs: number
  readonly tookMs: number
  /** 0: there was none. */
  readonly status: number
  readonly retryAfter: string | null
}

/** How an event was answered. `none`: the connection ended without a reply, and nobody knows. */
export type Answer = 'none' | 'accepted' | 'refused'

/**
 * Devices that send numbered events over HTTP. A device has one request under way at a time, so the order in which the
 * events of its key were accepted is known; what is due meanwhile waits, and its waiting counts as time to reply.
 */
export class DeviceLoad {
  readonly replies: Reply[] = []
  readonly #options: DeviceLoadOptions
  readonly #agent: http.Agent
  readonly #answers: Answer[] = []
  readonly #target: URL
  readonly #devices: Device[]
  #requestsPerSecond: number | null
  #underWay = 0
  #stopped = false
  #onIdle: (() => void) | null = null

  constructor(options: DeviceLoadOptions) {
    this.#options = options
    this.#requestsPerSecond = options.requestsPerSecond
    this.#agent = new http.Agent({ keepAlive: true, maxSockets: options.devices })
    this.#target = new URL(`/v1/streams/${options.stream}`, options.url)
    this.#devices = Array.from({ length: options.devices }, (_, index) => ({
      key: `device-${index}`,
      due: [],
      isBusy: false,
    }))
  }

  /** Events sent so far; their numbers are below this. */
  get sent(): number {
    return this.#answers.length
  }

  /** How the event of this number was answered. */
  answerOf(number: number): Answer {
    return this.#answers[number] ?? 'none'
  }

  /** Events with this answer. */
  count(answer: Answer): number {
    return this.#answers.reduce((sum, each) => (each === answer ? sum + 1 : sum), 0)
  }

  /** The most events that were accepted within so many milliseconds, since some moment: devices that had to wait send all at once. */
  mostAccepted(withinMs: number, sinceMs: number): number {
    const times = this.replies
      .filter(({ status, askedAtMs }) => status === 202 && askedAtMs >= sinceMs)
      .map(({ askedAtMs, tookMs }) => askedAtMs + tookMs)
      .toSorted((one, other) => one - other)
    let first = 0
    let most = 0
    for (const [index, time] of times.entries()) {
      while (times[first]! < time - withinMs) first++
      most = Math.max(most, index - first + 1)
    }
    return most * this.#options.eventsPerRequest
  }

  /** Waits until a request was refused: what a fault is to bring about. @throws Error after a minute. */
  async untilRefused(): Promise<void> {
    const deadlineMs = performance.now() + refusalLimitMs
    while (!this.replies.some(({ status }) => status >= 400)) {
      if (performance.now() > deadlineMs) throw new Error(`${this.#options.stream} refuses nothing`)
      await pause(20)
    }
  }

  /** Starts to send; ends with {@link stop}, or with the test: the load of a test that failed would take processors from all later ones. */
  start(): void {
    onTestFinished(() => void (this.#stopped = true))
    if (this.#requestsPerSecond === null) for (const device of this.#devices) void this.#goOn(device)
    else void this.#pace()
  }

  /** From now on, more or less. Only where the load is paced. */
  set requestsPerSecond(requestsPerSecond: number) {
    this.#requestsPerSecond = requestsPerSecond
  }

  /** Sends nothing more, and waits for the replies that are due, for some seconds at most. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const device of this.#devices) device.due.length = 0
    if (this.#underWay > 0)
      await Promise.race([new Promise<void>((resolve) => (this.#onIdle = resolve)), pause(replyLimitMs)])
    this.#agent.destroy()
  }

  async #pace(): Promise<void> {
    let due = 0
    let lastMs = performance.now()
    for (let next = 0; !this.#stopped; await pause(tickMs)) {
      const nowMs = performance.now()
      due += ((nowMs - lastMs) / 1000) * this.#requestsPerSecond!
      lastMs = nowMs
      for (; due >= 1; due--) {
        const device = this.#devices[next++ % this.#devices.length]!
        device.due.push(nowMs)
        if (!device.isBusy) void this.#serve(device)
      }
    }
  }

  /** What is due of a device, one after the other. */
  async #serve(device: Device): Promise<void> {
    device.isBusy = true
    for (let due = device.due.shift(); due !== undefined; due = device.due.shift())
      await this.#ask(device.key, due)
    device.isBusy = false
  }

  async #goOn(device: Device): Promise<void> {
    while (!this.#stopped) {
      const { status } = await this.#ask(device.key, performance.now())
      if (status !== 202) await pause(refusedPauseMs)
    }
  }

  async #ask(key: string, askedAtMs: number): Promise<Reply> {
    const { eventsPerRequest } = this.#options
    const first = this.#answers.length
    const lines: string[] = []
    for (let i = 0; i < eventsPerRequest; i++) {
      lines.push(this.#event(first + i, key))
      this.#answers.push('none')
    }
    this.#underWay++
    const { status, retryAfter } = await this.#post(lines.join('\n'))
    this.#underWay--
    if (status !== 0)
      this.#answers.fill(status === 202 ? 'accepted' : 'refused', first, first + eventsPerRequest)
    const reply = { askedAtMs, tookMs: performance.now() - askedAtMs, status, retryAfter }
    this.replies.push(reply)
    if (this.#underWay === 0) this.#onIdle?.()
    return reply
  }

  #event(number: number, key: string): string {
    const event = `{"name":"fault","value":${number},"source":"${key}","id":"${this.#options.stream}-${number}","pad":"`
    return `${event.padEnd(this.#options.eventBytes - 2, 'x')}"}`
  }

  async #post(body: string): Promise<{ status: number; retryAfter: string | null }> {
    return await new Promise((resolve) => {
      const none = (): void => resolve({ status: 0, retryAfter: null })
      const request = http.request(
        this.#target,
        {
          method: 'POST',
          agent: this.#agent,
          headers: { 'content-type': 'application/x-ndjson', 'content-length': Buffer.byteLength(body) },
        },
        (response) => {
          response.resume()
          const { statusCode = 0, headers } = response
          response.once('end', () =>
            resolve({ status: statusCode, retryAfter: headers['retry-after'] ?? null }),
          )
          response.once('error', none)
        },
      )
      request.once('error', none)
      request.end(body)
    })
  }
}

interface Device {
  readonly key: string
  /** When the requests that wait were due. */
  readonly due: number[]
  isBusy: boolean
}

const tickMs = 2
/** A client that was refused does not come back at once. */
const refusedPauseMs = 100
const replyLimitMs = 10_000
const refusalLimitMs = 60_000

import { setTimeout as pause } from 'node:timers/promises'
import type * as Redis from '@redis/client'
import { CircuitBreaker } from './circuit-breaker.ts'
import type { Logger } from './logger.ts'

/**
 * A connection of this process to a Redis, for `dedupe/` or for `limits/`. It is opened again whenever it ends, and no command waits for it: while Redis is
 * away, a command fails at once. A command that has no answer in time, or an unexpected one, ends the connection, and all
 * commands on the connection fail. No other file knows the client of Redis.
 */
export class RedisLink<Script extends string> {
  readonly #options: RedisLinkOptions<Script>
  readonly #breaker = new CircuitBreaker()
  readonly #stores = new Set<RedisLinkUser>()
  readonly #shas = new Map<Script, string>()
  readonly #beat: NodeJS.Timeout
  #client: RedisClient | null = null
  #retryTimer: NodeJS.Timeout | undefined
  /** The clock of Redis minus the clock of this process, less the time that an answer takes. */
  #clockOffsetMs = 0
  #isUp = false
  /** Until then a command that was sent may still run, by `performance.now()`. */
  #lastDeadlineMs = 0
  /** Why the last connection ended. Commands on it fail with this error. */
  #endedBy: Error | null = null
  #isClosed = false
  /** Since when Redis is away; null: it is not away, or no connection has failed yet. */
  #awaySinceMs: number | null = null
  #toldAwayAtMs = -Infinity
  #isAwayTold = false

  constructor(options: RedisLinkOptions<Script>) {
    this.#options = options
    this.#beat = setInterval(() => this.#measureClock(), beatIntervalMs).unref()
  }

  /** Redis answers, and has been told what it missed while it was away. */
  get isUp(): boolean {
    return this.#isUp
  }

  /** Adds a store, to a link that is up, too: a reload may bring one. {@link leave} takes it out again. */
  use(store: RedisLinkUser): void {
    this.#stores.add(store)
    // A failure has ended the connection, and the next one resumes all stores.
    if (this.#isUp) store.resume().catch(() => {})
  }

  /** Takes a store out that is needed no more. */
  leave(store: RedisLinkUser): void {
    this.#stores.delete(store)
  }

  /** Connects in the background, now and whenever the connection ends. */
  start(): void {
    void this.#connect()
  }

  /**
   * Runs a script. Fails at once while Redis is away, and within the time-out in any case. A script that has failed may have run. It
   * does not run after the time-out.
   */
  async run(script: Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const deadlineMs = Math.floor(performance.now() + this.#clockOffsetMs + this.#options.timeoutMs)
    const lastDeadlineMs = performance.now() + this.#options.timeoutMs
    const client = this.#client
    const command = [
      'EVALSHA',
      this.#shas.get(script) ?? '',
      String(keys.length),
      ...keys,
      String(deadlineMs),
    ]
    if (client !== null) this.#lastDeadlineMs = lastDeadlineMs
    const reply = await this.#send(command.concat(args))
    if (reply !== null) return reply
    const late = new Error('Redis came to a command too late')
    this.#end(client, late)
    throw late
  }

  /** Ends the connection for good. */
  close(): void {
    this.#isClosed = true
    clearInterval(this.#beat)
    clearTimeout(this.#retryTimer)
    this.#end(this.#client, new Error('the gateway is shutting down'))
  }

  async #connect(): Promise<void> {
    const { url, timeoutMs, scripts, probe } = this.#options
    library ??= import('@redis/client')
    const client = newClient(await library, url, timeoutMs)
    if (this.#isClosed) return
    client.on('error', (error: Error) => this.#end(client, error))
    this.#client = client
    const timer = setTimeout(() => this.#end(client, unanswered(timeoutMs)), timeoutMs)
    const earlierMs = this.#lastDeadlineMs
    try {
      await client.connect()
      // A connection that was given up meanwhile may still be made.
      if (this.#client !== client) return client.destroy()
      for (const [name, text] of Object.entries<string>(scripts)) {
        this.#shas.set(name as Script, String(await this.#send(['SCRIPT', 'LOAD', text])))
      }
      this.#clockOffsetMs = clockOffsetMs(await this.#send(['TIME']))
      clearTimeout(timer)
      // A replica, or a Redis without room, answers but takes no write.
      await this.run(probe.script, probe.keys, probe.args)
      // A connection that was given up can still bring commands to Redis. They must not run behind those of this one.
      if (this.#stores.size > 0) await pause(Math.max(0, earlierMs - performance.now()))
      if (this.#client !== client) return
      for (const store of this.#stores) await store.resume()
      if (this.#client === client) this.#up()
    } catch (error) {
      this.#end(client, error as Error)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Sends a command. Redis answers in order, so a late answer holds up all answers behind it. */
  async #send(command: string[]): Promise<unknown> {
    const client = this.#client
    if (client === null) throw new Error('Redis is away')
    const { timeoutMs } = this.#options
    let isPending = true
    // The answer may have come while this process was busy. It is read in the next turn of the event loop.
    const timer = setTimeout(() => {
      setImmediate(() => isPending && this.#end(client, unanswered(timeoutMs)))
    }, timeoutMs)
    try {
      return await client.sendCommand(command)
    } catch (error) {
      // Redis may have no room, be a replica by now, or have lost the scripts. A new connection checks and loads everything again.
      this.#end(client, error as Error)
      throw this.#endedBy ?? error
    } finally {
      isPending = false
      clearTimeout(timer)
    }
  }

  #up(): void {
    this.#isUp = true
    this.#breaker.succeeded()
    if (this.#isAwayTold) {
      const awayMs = Math.round(performance.now() - (this.#awaySinceMs ?? 0))
      this.#options.logger.info({ awayMs }, this.#options.says.back)
    }
    this.#isAwayTold = false
    this.#awaySinceMs = null
  }

  #end(client: RedisClient | null, error: Error): void {
    if (client === null || this.#client !== client) return
    this.#endedBy = error
    this.#client = null
    this.#isUp = false
    for (const store of this.#stores) store.suspend()
    client.destroy()
    if (this.#isClosed) return
    this.#breaker.failed()
    this.#retryTimer = setTimeout(() => void this.#connect(), this.#breaker.waitMs).unref()
    this.#tellAway(error)
  }

  /** Logs that Redis is away: once an outage, and every 10 s at most if Redis comes and goes. */
  #tellAway(error: Error): void {
    const nowMs = performance.now()
    this.#awaySinceMs ??= nowMs
    if (this.#isAwayTold || nowMs - this.#toldAwayAtMs < quietMs) return
    this.#isAwayTold = true
    this.#toldAwayAtMs = nowMs
    this.#options.logger.warn({ cause: causeOf(error) }, this.#options.says.away)
  }

  /** Asks Redis for its time. That also finds a connection that has died while it was not used. */
  #measureClock(): void {
    if (!this.#isUp) return
    this.#send(['TIME']).then(
      (reply) => (this.#clockOffsetMs = clockOffsetMs(reply)),
      () => {},
    )
  }
}

/** A store on a {@link RedisLink}. */
export interface RedisLinkUser {
  /** The connection is there: tells Redis what it missed. The link is up when all stores have done so. */
  resume(): Promise<void>
  /** The connection has ended. Commands without an answer fail after this call. */
  suspend(): void
}

/** See {@link RedisLink}. */
export interface RedisLinkOptions<Script extends string> {
  /** `redis:` or `rediss:`, with the credentials. */
  readonly url: string
  /** Longest wait for an answer, and for a connection. */
  readonly timeoutMs: number
  /** Each one begins with {@link unlessLate}. */
  readonly scripts: Readonly<Record<Script, string>>
  /** What a new connection runs to see whether Redis takes writes. */
  readonly probe: {
    readonly script: Script
    readonly keys: readonly string[]
    readonly args: readonly string[]
  }
  /** The lines of the log. */
  readonly says: { readonly away: string; readonly back: string }
  readonly logger: Logger
}

/**
 * The beginning of each script. The first argument is always the time at which the caller gives up, in milliseconds of Redis's own clock. A
 * script that Redis comes to later (it was stopped, or the network held the command back) has no effect, and answers nil.
 */
export const unlessLate = `local now = redis.call('TIME')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[1]) then return false end`

type RedisClient = ReturnType<typeof newClient>

/**
 * Redis's client. It is loaded when a gateway first connects to Redis: loading it takes a third of the CPU time of a gateway's
 * start, and most gateways have no Redis.
 */
let library: Promise<typeof Redis> | null = null

/** Makes a client that connects once. It sends neither HELLO nor CLIENT SETINFO, which older servers and proxies do not know. */
function newClient({ createClient }: typeof Redis, url: string, timeoutMs: number) {
  return createClient({
    url,
    RESP: 2,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    disableOfflineQueue: true,
    // The link times commands itself: the client's own time-out ends when a command is written.
    commandOptions: { timeout: 0 },
    socket: { connectTimeout: timeoutMs, reconnectStrategy: false },
  })
}

function unanswered(timeoutMs: number): Error {
  return new Error(`no answer within ${timeoutMs} ms`)
}

/** The text of an error. For a host with several addresses, the client's error holds one error for each address, and has no message. */
function causeOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(causeOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}

/** @param reply the answer to TIME: seconds, and microseconds of the second. */
function clockOffsetMs(reply: unknown): number {
  const [seconds, micros] = reply as readonly [string, string]
  return Number(seconds) * 1000 + Number(micros) / 1000 - performance.now()
}

const beatIntervalMs = 5_000
const quietMs = 10_000

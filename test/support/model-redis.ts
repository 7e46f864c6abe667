import { hash } from 'node:crypto'
import { redisScripts, type RedisScript } from '../../src/dedupe/redis-scripts.ts'

/**
 * A Redis in memory, under a virtual clock: it knows the commands that Chute sends, does what the scripts do, and fails in
 * the ways that a test asks for. It keeps what it answered, as one does that writes an append-only file.
 * `test/integration/model-redis.test.ts` holds it to a real one.
 */
export class ModelRedis {
  state: 'up' | 'stopped' | 'down' = 'up'
  /** From a command's arrival to its execution, and from there to the client. */
  serviceMs = 0.2
  answerMs = 0.5
  readonly #values = new Map<string, { readonly value: string; readonly untilMs: number }>()
  readonly #scripts = new Map<string, RedisScript>()
  readonly #clients = new Set<ModelRedisClient>()

  /** In the place of `createClient` of the real client. */
  connect(): ModelRedisClient {
    const client = new ModelRedisClient(this)
    this.#clients.add(client)
    return client
  }

  /** SIGSTOP: commands wait, even if their sender has gone. */
  stop(): void {
    if (this.state === 'up') this.state = 'stopped'
  }

  /** SIGCONT. */
  goOn(): void {
    if (this.state !== 'stopped') return
    this.state = 'up'
    for (const client of this.#clients) client.serve()
  }

  /** SIGKILL: commands that were not executed never are. */
  kill(): void {
    this.state = 'down'
    this.cut()
  }

  /** After {@link kill}. */
  start(): void {
    if (this.state === 'down') this.state = 'up'
  }

  /** Ends all connections. Commands on them may have been executed, and are not executed any more. */
  cut(): void {
    for (const client of this.#clients) client.cut()
    this.#clients.clear()
  }

  /** The present connections carry no answers any more. Commands on them are executed, and their senders do not learn of it. */
  mute(): void {
    for (const client of this.#clients) client.isMute = true
  }

  /** Executes a command. @throws Error as Redis answers one. */
  execute([name, ...args]: readonly string[]): unknown {
    switch (name) {
      case 'TIME': {
        const nowMs = this.#nowMs()
        return [String(Math.floor(nowMs / 1000)), String(Math.floor((nowMs % 1000) * 1000))]
      }
      case 'SCRIPT': {
        const text = args[1]!
        const script = Object.entries(redisScripts).find(([, each]) => each === text)
        if (script === undefined) throw new Error('the model knows no such script')
        const sha = hash('sha1', text)
        this.#scripts.set(sha, script[0] as RedisScript)
        return sha
      }
      case 'EVALSHA': {
        const [sha, count, ...rest] = args as [string, string, ...string[]]
        const script = this.#scripts.get(sha)
        if (script === undefined) throw new Error('NOSCRIPT No matching script.')
        const keys = rest.slice(0, Number(count))
        const [deadlineMs, ...more] = rest.slice(Number(count)) as [string, ...string[]]
        if (this.#nowMs() > Number(deadlineMs)) return null
        return script === 'claim' ? this.#claim(keys, more) : this.#write(keys, more)
      }
      default:
        throw new Error(`the model knows no command ${name}`)
    }
  }

  /** @param args what a claim's value begins with, the lease, how many of the keys it claims, and their fingerprints. */
  #claim(keys: readonly string[], [mark, leaseMs, count, ...fingerprints]: readonly string[]): string[] {
    let isFree = mark !== ''
    const found = keys.map((key, nth) => {
      const value = this.#get(key)
      if (value === null) return 'new'
      const [, state, fingerprint] = /^(.):[^:]*:[^:]*:(.*)$/s.exec(value) ?? []
      const isSame = fingerprint === fingerprints[nth]
      const kept = isSame ? 'seen' : 'reused'
      const claimed = isSame ? 'busy' : 'contested'
      const what = state === 'k' ? kept : claimed
      isFree &&= what === 'seen' || (what === 'reused' && nth >= Number(count))
      return what
    })
    keys.slice(0, Number(count)).forEach((key, nth) => {
      if (isFree && found[nth] === 'new') this.#set(key, mark! + fingerprints[nth]!, leaseMs!)
    })
    return found
  }

  #write(keys: readonly string[], args: readonly string[]): number {
    keys.forEach((key, nth) => {
      const [what, one, other] = args.slice(3 * nth, 3 * nth + 3) as [string, string, string]
      const value = this.#get(key)
      switch (what) {
        case 'keep':
          return this.#set(key, one, other)
        case 'learn':
          return value === null || value.startsWith('c:') ? this.#set(key, one, other) : undefined
        case 'renew':
          return value === null || value === one ? this.#set(key, one, other) : undefined
        default:
          // `release`: of one claim, whatever has become of it.
          if (value?.slice(1).startsWith(one) === true) this.#values.delete(key)
      }
    })
    return 1
  }

  #get(key: string): string | null {
    const found = this.#values.get(key)
    if (found === undefined || found.untilMs <= this.#nowMs()) return null
    return found.value
  }

  #set(key: string, value: string, ttlMs: string): void {
    this.#values.set(key, { value, untilMs: this.#nowMs() + Number(ttlMs) })
  }

  /** Its own clock: no step of a gateway's touches it. */
  #nowMs(): number {
    return 1_600_000_000_000 + performance.now()
  }
}

/** What `RedisLink` uses of the real client. */
export class ModelRedisClient {
  readonly #redis: ModelRedis
  isMute = false
  #sent: Sent[] = []
  /** Executed, and never answered. */
  #unheard: Sent[] = []
  #isServing = false
  /** Nobody reads answers any more. */
  #isGone = false
  #onError: (error: Error) => void = () => {}

  constructor(redis: ModelRedis) {
    this.#redis = redis
  }

  on(_name: 'error', listener: (error: Error) => void): void {
    this.#onError = listener
  }

  /** A process that is stopped has its connections accepted by the kernel. */
  async connect(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, this.#redis.answerMs))
    if (this.#redis.state === 'down') throw new Error('connect ECONNREFUSED')
    if (this.#isGone) throw new Error('the client is closed')
  }

  async sendCommand(command: string[]): Promise<unknown> {
    return await new Promise((resolve, reject) => {
      if (this.#isGone) return reject(new Error('the client is closed'))
      this.#sent.push({ command, resolve, reject, isAnswered: false })
      this.serve()
    })
  }

  /** What was sent is executed all the same. */
  destroy(): void {
    this.#isGone = true
    for (const sent of [...this.#unheard, ...this.#sent]) this.#fail(sent)
  }

  /** The other side is gone. */
  cut(): void {
    const sent = [...this.#unheard, ...this.#sent.splice(0)]
    if (this.#isGone) return
    this.#isGone = true
    setTimeout(() => {
      for (const each of sent) this.#fail(each)
      this.#onError(new Error('Socket closed unexpectedly'))
    }, 1)
  }

  serve(): void {
    if (this.#isServing || this.#sent.length === 0) return
    this.#isServing = true
    setTimeout(() => {
      this.#isServing = false
      const [sent] = this.#sent
      if (sent === undefined || this.#redis.state !== 'up') return
      this.#sent.shift()
      this.#answer(sent)
      this.serve()
    }, this.#redis.serviceMs)
  }

  #answer(sent: Sent): void {
    let reply: unknown = null
    let error: Error | null = null
    try {
      reply = this.#redis.execute(sent.command)
    } catch (thrown) {
      error = thrown as Error
    }
    if (this.isMute) {
      this.#unheard.push(sent)
      return
    }
    setTimeout(() => {
      if (this.#isGone) return this.#fail(sent)
      sent.isAnswered = true
      if (error === null) sent.resolve(reply)
      else sent.reject(error)
    }, this.#redis.answerMs)
  }

  #fail(sent: Sent): void {
    if (sent.isAnswered) return
    sent.isAnswered = true
    sent.reject(new Error('the connection is gone'))
  }
}

interface Sent {
  readonly command: readonly string[]
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: Error) => void
  isAnswered: boolean
}

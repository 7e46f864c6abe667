import { readFileSync } from 'node:fs'
import { createContext, runInContext } from 'node:vm'

const script = readFileSync(new URL('../../../public/chute.js', import.meta.url), 'utf8')

/** Where the client of a fake page sends to. Its backlog has the same name in localStorage. */
export const endpoint = 'https://in.example.com/v1/beacon/web'

/** An event, as the client sends it. */
interface Sent {
  readonly name: string
  readonly id: string
}

/** A `fetch` of the page. It has no reply until the test gives one. */
interface Request {
  readonly names: string[]
  reply(status: number, headers?: Readonly<Record<string, string>>): Promise<void>
  fail(): Promise<void>
}

interface Timer {
  readonly run: () => void
  readonly at: number
}

interface Client {
  (name: string, fields?: object): void
  vital(metric?: unknown): void
  error(error?: unknown): void
  page(): void
  flush(): void
}

/** What a fake page begins with. */
interface Start {
  /** The origin's localStorage, which pages share. Null: it has no room. */
  readonly storage?: Record<string, string>
  readonly isOnline?: boolean
  readonly isHidden?: boolean
  /** Properties of `window` that are others than usual. */
  readonly others?: object
}

/** Waits for all that the page has done by now. Promises of the client need no more than a turn of the event loop. */
export const settled = async (): Promise<void> => await new Promise((resolve) => void setImmediate(resolve))

const namesOf = (body: string): string[] => (JSON.parse(body) as Sent[]).map(({ name }) => name)

/**
 * `public/chute.js` in a page whose network, storage and time are the test's. The time of `performance` and that of `Date` are two clocks.
 * The page has no CompressionStream, so that bodies can be read.
 */
export class FakePage {
  readonly chute: Client
  readonly requests: Request[] = []
  /** The names in each body that went as a beacon. */
  readonly beacons: string[][] = []
  /** The delays of the timers that were set. */
  readonly delays: number[] = []
  readonly warnings: unknown[][] = []
  readonly storage: Record<string, string>
  readonly date = { now: 1_700_000_000_000 }
  #now = 0
  #timers = new Map<number, Timer>()
  #timerCount = 0
  readonly #listeners: Record<string, ((event: object) => void)[]> = {}
  readonly #document = {
    URL: 'https://shop.example.com/',
    title: 'a shop',
    referrer: '',
    hidden: false,
    currentScript: { src: 'https://in.example.com/chute.js', dataset: {} },
  }
  readonly #navigator: { onLine: boolean; sendBeacon(url: string, body: string): boolean }

  constructor({ storage = {}, isOnline = true, isHidden = false, others = {} }: Start = {}) {
    this.storage = storage
    this.#document.hidden = isHidden
    this.#navigator = {
      onLine: isOnline,
      sendBeacon: (_, body) => {
        this.beacons.push(namesOf(body))
        return true
      },
    }
    const { date } = this
    const window: Record<string, unknown> = {
      document: this.#document,
      navigator: this.#navigator,
      localStorage: storage,
      sessionStorage: {},
      console: { warn: (...given: unknown[]) => this.warnings.push(given) },
      crypto: globalThis.crypto,
      URL,
      queueMicrotask,
      // Time passes while code runs.
      performance: { now: () => (this.#now += 0.125) },
      Date: class extends Date {
        static override now = (): number => date.now
      },
      AbortSignal: { timeout: (afterMs: number) => this.#signal(afterMs) },
      fetch: async (_: string, init: { body: string; signal?: EventTarget }) => await this.#fetch(init),
      setTimeout: (run: () => void, afterMs = 0) => this.#setTimeout(run, afterMs),
      clearTimeout: (timer: number) => void this.#timers.delete(timer),
      addEventListener: (type: string, listener: (event: object) => void) =>
        (this.#listeners[type] ??= []).push(listener),
      ...others,
    }
    window['window'] = window
    runInContext(script, createContext(window))
    this.chute = window['chute'] as Client
  }

  /** The last request. */
  get request(): Request {
    return this.requests.at(-1)!
  }

  /** The names in the backlog. */
  get kept(): string[] {
    const backlog = this.storage[endpoint]
    return backlog === undefined ? [] : namesOf(`[${backlog.split('\n').join()}]`)
  }

  /** Calls the client, and lets it do what it does at the end of the task. */
  async send(...names: string[]): Promise<void> {
    for (const name of names) this.chute(name)
    await settled()
  }

  async flush(): Promise<void> {
    this.chute.flush()
    await settled()
  }

  /** Lets time pass, and runs the timers whose time comes meanwhile, in their order. */
  async pass(ms: number): Promise<void> {
    await settled()
    const end = this.#now + ms
    for (let runs = 0; ; runs++) {
      const [due] = [...this.#timers]
        .filter(([, { at }]) => at <= end)
        .toSorted(([, a], [, b]) => a.at - b.at)
      if (due === undefined) break
      if (runs > 1_000) throw new Error('timers without end')
      const [nth, { run, at }] = due
      this.#timers.delete(nth)
      this.#now = Math.max(this.#now, at)
      run()
      await settled()
    }
    this.#now = end
  }

  async hide(): Promise<void> {
    this.#document.hidden = true
    await this.#dispatch('visibilitychange')
  }

  async show(): Promise<void> {
    this.#document.hidden = false
    await this.#dispatch('visibilitychange')
  }

  /** The page ends. */
  async leave(): Promise<void> {
    await this.hide()
    await this.#dispatch('pagehide')
  }

  async goOnline(): Promise<void> {
    this.#navigator.onLine = true
    await this.#dispatch('online')
  }

  async #dispatch(type: string): Promise<void> {
    for (const listener of this.#listeners[type] ?? []) listener({})
    await settled()
  }

  /** As a browser does it: in whole milliseconds, and at once if there are 2 ** 31 of them or more. */
  #setTimeout(run: () => void, afterMs: number): number {
    const delay = Math.trunc(afterMs) < 2 ** 31 ? Math.max(0, Math.trunc(afterMs)) : 0
    this.delays.push(delay)
    this.#timers.set(++this.#timerCount, { run, at: this.#now + delay })
    return this.#timerCount
  }

  #signal(afterMs: number): EventTarget {
    const signal = new EventTarget()
    this.#timers.set(++this.#timerCount, {
      run: () => signal.dispatchEvent(new Event('abort')),
      at: this.#now + afterMs,
    })
    return signal
  }

  async #fetch({ body, signal }: { body: string; signal?: EventTarget }): Promise<Response> {
    return await new Promise((resolve, reject) => {
      const fail = (): void => reject(new TypeError('failed to fetch'))
      signal?.addEventListener('abort', fail)
      this.requests.push({
        names: namesOf(body),
        reply: async (status, headers = {}) => {
          resolve(new Response(null, { status, headers }))
          await settled()
        },
        fail: async () => {
          fail()
          await settled()
        },
      })
    })
  }
}

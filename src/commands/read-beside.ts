import { once } from 'node:events'
import { statSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import type { Config } from '../config/config.ts'
import { ConfigRereader, type Reading } from './reread-config.ts'
import type { ThreadStart } from './reread-thread.ts'

/**
 * Reads the files of the configuration without holding up the event loop. Few bytes are read at once, which takes some milliseconds.
 * More are read in a thread. To read
 * a thousand keys and fifty schemas takes a second, and the event loop answers requests meanwhile. The thread ends when nothing was read for {@link idleMs}, since its memory would
 * be of no use. It holds no process open.
 */
export class BesideReader {
  readonly #env: NodeJS.ProcessEnv
  #thread: Worker | null = null
  #idleTimer: NodeJS.Timeout | null = null

  constructor(env: NodeJS.ProcessEnv) {
    this.#env = env
  }

  /**
   * Reads the files once. To be called again when the last call has its answer.
   * @param config is in force.
   * @param files are those of the last reading.
   * @param isTaken whether `config` has what the last reading proposed.
   * @throws Error if the thread has ended.
   */
  async read(config: Config, files: readonly string[], isTaken: boolean): Promise<Reading> {
    if (sizeOf(files) < fewBytes) {
      // The thread does not know what comes of this reading.
      this.close()
      return new ConfigRereader(config, this.#env).read(false)
    }
    if (this.#idleTimer !== null) clearTimeout(this.#idleTimer)
    const thread = this.#thread ?? this.#start({ config, env: { ...this.#env } })
    const answered = new AbortController()
    const { signal } = answered
    // Each is rejected with an error of the thread.
    const answer = once(thread, 'message', { signal }).then(([reading]) => reading as Reading)
    const end = once(thread, 'exit', { signal }).then(() => Promise.reject(new Error(hasEnded)))
    thread.postMessage(isTaken, [])
    try {
      return await Promise.race([answer, end])
    } finally {
      answered.abort()
      this.#idleTimer = setTimeout(() => this.close(), idleMs).unref()
    }
  }

  #start(start: ThreadStart): Worker {
    const thread = startThread(start)
    this.#thread = thread
    // An error of a thread that has nothing to do ends the thread, and not the gateway.
    thread.on('error', () => {})
    thread.on('exit', () => {
      if (this.#thread === thread) this.#thread = null
    })
    return thread
  }

  /** Ends the thread. */
  close(): void {
    if (this.#idleTimer !== null) clearTimeout(this.#idleTimer)
    void this.#thread?.terminate()
    this.#thread = null
  }
}

/** Size of all files together. One that cannot be looked at counts as empty. */
function sizeOf(files: readonly string[]): number {
  return files.reduce((sum, file) => sum + sizeOfFile(file), 0)
}

function sizeOfFile(file: string): number {
  try {
    return statSync(file).size
  } catch {
    return 0
  }
}

function startThread(start: ThreadStart): Worker {
  const options = { workerData: start, env: {}, execArgv: [] }
  // Compiled, or as a source that tsx runs. tsx does not register itself in the threads of Node 20.
  const isSource = import.meta.url.endsWith('.ts')
  const file = new URL(isSource ? 'reread-thread.ts' : 'reread-thread.js', import.meta.url)
  const thread = isSource
    ? new Worker(registerTsx(file.href), { ...options, eval: true })
    : new Worker(file, options)
  thread.unref()
  return thread
}

function registerTsx(href: string): string {
  return `import('tsx/esm/api').then(({ register }) => (register(), import(${JSON.stringify(href)})))`
}

/** YAML takes up to two microseconds a byte. */
const fewBytes = 5_000
const hasEnded = 'the thread that reads the files has ended'
/** A thread takes a quarter of a second to start, so that changes in a row share one. */
const idleMs = 10_000

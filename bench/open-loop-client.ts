import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import type { OpenLoopOptions, OpenLoopResult } from './open-loop.ts'

/**
 * Sends requests at a fixed rate, whatever the server does: a process of its own, given {@link OpenLoopOptions} as JSON on its
 * standard input, writes an {@link OpenLoopResult}. Every millisecond some are due; each is timed from then on, so that one
 * which finds no free connection, or a server that stalls, counts with the time that it waited (no coordinated omission).
 */
const options = JSON.parse(readFileSync(0, 'utf8')) as OpenLoopOptions
const { hostname, port, pathname } = new URL(options.url)
const body = Buffer.from(options.body)
const head = [
  `POST ${pathname} HTTP/1.1`,
  `Host: ${hostname}:${port}`,
  `Content-Type: ${options.contentType}`,
  `Content-Length: ${body.length}`,
  ...Object.entries(options.headers ?? {}).map(([name, value]) => `${name}: ${value}`),
]
const request = Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body])

const latenciesMs: number[] = []
const statuses: Record<string, number> = {}
const idle: Connection[] = []
/** When those are due that wait for a connection, oldest first. */
let overdue: number[] = []
let next = 0
let open = 0

/** One request at a time. */
class Connection {
  readonly #socket: Socket
  #dueMs = 0

  constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#reply(chunk))
    socket.on('error', () => {})
    socket.on('close', () => {
      if (this.#dueMs > 0) count('closed')
    })
    idle.push(this)
  }

  send(dueMs: number): void {
    this.#dueMs = dueMs
    open++
    this.#socket.write(request)
  }

  /** Replies are small: the first piece has the status, and is the whole. */
  #reply(chunk: Buffer): void {
    if (this.#dueMs === 0) return
    latenciesMs.push(performance.now() - this.#dueMs)
    this.#dueMs = 0
    count(chunk.toString('latin1', 9, 12))
    const waiting = overdue[next]
    if (waiting === undefined) {
      idle.push(this)
      return
    }
    if (++next === 1_024) {
      overdue = overdue.slice(next)
      next = 0
    }
    this.send(waiting)
  }
}

function count(status: string): void {
  open--
  statuses[status] = (statuses[status] ?? 0) + 1
}

await Promise.all(
  Array.from({ length: options.connections }, async () => {
    const socket = connect(Number(port), hostname)
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return new Connection(socket)
  }),
)

const startMs = performance.now()
let due = 0
await new Promise<void>((resolve) => {
  const timer = setInterval(() => {
    const nowMs = performance.now()
    const elapsedMs = Math.min(nowMs - startMs, options.seconds * 1_000)
    const target = Math.floor((Math.floor(elapsedMs) * options.ratePerSecond) / 1_000)
    for (; due < target; due++) {
      // The millisecond in which it was due, also where this process is late itself.
      const dueMs = startMs + Math.ceil(((due + 1) * 1_000) / options.ratePerSecond)
      const connection = idle.pop()
      if (connection === undefined) overdue.push(dueMs)
      else connection.send(dueMs)
    }
    if (nowMs - startMs < options.seconds * 1_000) return
    clearInterval(timer)
    resolve()
  }, 1)
})
const giveUpAtMs = performance.now() + 5_000
while (open + overdue.length - next > 0 && performance.now() < giveUpAtMs) {
  await new Promise((resolve) => setTimeout(resolve, 20))
}

latenciesMs.sort((a, b) => a - b)
const percentile = (share: number): number =>
  latenciesMs[Math.min(latenciesMs.length - 1, Math.floor(latenciesMs.length * share))] ?? NaN
const result: OpenLoopResult = {
  sent: due - (overdue.length - next),
  unanswered: open + overdue.length - next,
  statuses,
  p50Ms: percentile(0.5),
  p90Ms: percentile(0.9),
  p99Ms: percentile(0.99),
  p999Ms: percentile(0.999),
  maxMs: latenciesMs.at(-1) ?? NaN,
}
process.stdout.write(JSON.stringify(result), () => process.exit(0))

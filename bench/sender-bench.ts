import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readSync } from 'node:fs'
import net, { type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import { crc32c } from '@node-rs/crc32'
import { inTurn, median } from './rounds.ts'

/** What it costs to send a batch, from the event loop or by a thread of its own; medians. */
export interface SenderRow {
  readonly batchBytes: number
  readonly way: 'event loop' | 'sender thread'
  /** CPU time of the event loop's thread, a batch, in microseconds. */
  readonly loopMicros: number
  /** CPU time of all threads, a batch, in microseconds. */
  readonly allMicros: number
}

type Send = (batch: Buffer, onFlushed: (batch: Buffer) => void) => void

const inFlight = 16
const bytesARound = 500e6
const mostBatches = 20_000

/**
 * Whether a thread for sending pays. What it could take off the event loop is the checksum of a batch and the write to its
 * socket; what it costs is a message there and one back, in which the batch's buffer is handed over and not copied. The
 * sockets go to a process that reads and forgets.
 */
export async function benchSender(options: { rounds: number }): Promise<SenderRow[]> {
  const sink = spawn(process.execPath, ['-e', sinkCode], { stdio: ['ignore', 'pipe', 'inherit'] })
  const port = Number(String((await once(sink.stdout, 'data'))[0]))
  const worker = new Worker(new URL('sender-thread.mjs', import.meta.url), { workerData: port })
  await once(worker, 'message')
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true })
  await once(socket, 'connect')
  try {
    const rows: SenderRow[] = []
    for (const batchBytes of [1_000, 32_000, 1_000_000]) {
      const ways = { 'event loop': sendBy(socket), 'sender thread': sendByThread(worker) } as const
      const rounds = await inTurn(
        Object.entries(ways).map(([name, send]) => ({
          name: `${name}, batches of ${batchBytes} bytes`,
          measure: async () => ({ way: name as SenderRow['way'], ...(await measure(send, batchBytes)) }),
        })),
        options.rounds,
        ({ loopMicros, allMicros }) =>
          `${loopMicros.toFixed(1)} µs of the event loop, ${allMicros.toFixed(1)} µs of all threads`,
      )
      for (const results of rounds.values()) {
        rows.push({
          batchBytes,
          way: results[0]!.way,
          loopMicros: median(results.map(({ loopMicros }) => loopMicros)),
          allMicros: median(results.map(({ allMicros }) => allMicros)),
        })
      }
    }
    return rows
  } finally {
    socket.destroy()
    await worker.terminate()
    sink.kill()
  }
}

function sendBy(socket: Socket): Send {
  return (batch, onFlushed) => {
    batch.writeUInt32BE(crc32c(batch.subarray(21)), 17)
    socket.write(batch, () => onFlushed(batch))
  }
}

function sendByThread(worker: Worker): Send {
  const waiting: ((batch: Buffer) => void)[] = []
  worker.removeAllListeners('message')
  worker.on('message', (bytes: Uint8Array) => waiting.shift()!(Buffer.from(bytes.buffer)))
  return (batch, onFlushed) => {
    waiting.push(onFlushed)
    worker.postMessage(batch, [batch.buffer as ArrayBuffer])
  }
}

async function measure(send: Send, batchBytes: number): Promise<Pick<SenderRow, 'loopMicros' | 'allMicros'>> {
  const count = Math.min(mostBatches, Math.ceil(bytesARound / batchBytes))
  const ranBefore = ranMicros()
  const before = process.cpuUsage()
  await new Promise<void>((resolve) => {
    let started = 0
    let flushed = 0
    const start = (batch: Buffer): void => {
      started++
      send(batch, next)
    }
    const next = (batch: Buffer): void => {
      if (++flushed === count) resolve()
      else if (started < count) start(batch)
    }
    for (let i = 0; i < inFlight; i++) start(Buffer.from(new ArrayBuffer(batchBytes)))
  })
  const { user, system } = process.cpuUsage(before)
  return { loopMicros: (ranMicros() - ranBefore) / count, allMicros: (user + system) / count }
}

/** CPU time of this thread (`Documentation/scheduler/sched-stats.rst`): Linux only. */
function ranMicros(): number {
  const schedstat = openSync('/proc/thread-self/schedstat', 'r')
  const text = Buffer.alloc(96)
  const length = readSync(schedstat, text, 0, text.length, 0)
  closeSync(schedstat)
  return Number(text.toString('latin1', 0, length).split(' ')[0]) / 1000
}

const sinkCode = `require('net').createServer((socket) => socket.resume()).listen(0, '127.0.0.1', function () {
  console.log(this.address().port)
})`

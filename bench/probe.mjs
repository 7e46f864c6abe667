import { closeSync, openSync, readSync } from 'node:fs'
import { createHistogram, monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'

/**
 * Watches the event loop of the process that it is loaded into (`--import`) and tells what it saw to whoever sends `read`.
 * A timer of 5 ms compares how late it is with how long this thread ran in between: on a busy machine most of a delay is
 * waiting for a core, and only the rest is work that blocked the loop.
 */
const tickMs = 5
const delays = monitorEventLoopDelay({ resolution: 1 })
delays.enable()
const schedstat = openSync('/proc/thread-self/schedstat', 'r')
const stat = openSync('/proc/thread-self/stat', 'r')
const text = Buffer.alloc(512)
process.once('exit', () => {
  closeSync(schedstat)
  closeSync(stat)
})

/** Of each tick, in microseconds. */
const own = createHistogram()
let ownMaxMs = 0
/** Of the longest. */
let ownMaxKernelMs = 0
let ownMaxPageFaults = 0
let gcMaxMs = 0
let gcMs = 0
let last = read()
let since = last

setInterval(() => {
  const now = read()
  const ownMs = now.atMs - last.atMs > 2 * tickMs ? now.ranMs - last.ranMs : 0
  own.record(Math.max(1, Math.round(ownMs * 1_000)))
  if (ownMs > ownMaxMs) {
    ownMaxMs = ownMs
    ownMaxKernelMs = now.kernelMs - last.kernelMs
    ownMaxPageFaults = now.pageFaults - last.pageFaults
  }
  last = now
}, tickMs).unref()

new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) {
    gcMaxMs = Math.max(gcMaxMs, duration)
    gcMs += duration
  }
}).observe({ entryTypes: ['gc'] })

process.on('message', () => {
  const now = read()
  process.send?.({
    delayP99Ms: delays.percentile(99) / 1e6,
    delayMaxMs: delays.max / 1e6,
    ownP999Ms: own.percentile(99.9) / 1_000,
    ownMaxMs,
    ownMaxKernelMs,
    ownMaxPageFaults,
    gcMaxMs,
    gcShare: gcMs / (now.ranMs - since.ranMs),
    waitShare: (now.waitedMs - since.waitedMs) / (now.atMs - since.atMs),
  })
  delays.reset()
  own.reset()
  ownMaxMs = ownMaxKernelMs = ownMaxPageFaults = gcMaxMs = gcMs = 0
  since = now
})
process.channel?.unref()

/**
 * Of this thread: time on a core, and time ready without one (`Documentation/scheduler/sched-stats.rst`); the part of it in the kernel, in steps of 10 ms,
 * and page faults (proc(5), fields 15 and 10 of `stat`).
 */
function read() {
  const [ran, waited] = numbersOf(schedstat)
  const fields = numbersOf(stat)
  return {
    atMs: performance.now(),
    ranMs: (ran ?? 0) / 1e6,
    waitedMs: (waited ?? 0) / 1e6,
    kernelMs: (fields[14] ?? 0) * 10,
    pageFaults: fields[9] ?? 0,
  }
}

/** @param {number} file The name of a program has no space here. */
function numbersOf(file) {
  const length = readSync(file, text, 0, text.length, 0)
  return text.toString('latin1', 0, length).split(' ').map(Number)
}

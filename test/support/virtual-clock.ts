import { vi } from 'vitest'
import { HeapClock } from './heap-clock.ts'

const realSetImmediate = setImmediate

/** Puts every clock and timer that the producer uses under the test's control, from 0 ms on. */
export function useVirtualClock(): void {
  vi.useFakeTimers({
    toFake: [
      'setTimeout',
      'clearTimeout',
      'setInterval',
      'clearInterval',
      'setImmediate',
      'clearImmediate',
      'performance',
      'Date',
    ],
    now: 1_700_000_000_000,
  })
}

/** The same with hundreds of timers at a time, in half of the time. {@link leaveHeapClock} ends it. */
export function useHeapClock(): void {
  leaveHeapClock()
  heapClock = new HeapClock().install()
}

/** Gives the real clocks and timers back. */
export function leaveHeapClock(): void {
  heapClock?.uninstall()
  heapClock = null
}

let heapClock: HeapClock | null = null

/** Lets `ms` virtual milliseconds pass: timer by timer, and after each whatever promises it kept. */
export async function pass(ms: number): Promise<void> {
  if (heapClock !== null) return await heapClock.pass(ms)
  const marker = { isOver: false }
  setTimeout(() => (marker.isOver = true), ms)
  while (!marker.isOver) {
    vi.advanceTimersToNextTimer()
    await settlePromises()
  }
}

/** Lets time pass until something is the case. Fails after `limitMs`. */
export async function passUntil(condition: () => boolean, limitMs = 60_000): Promise<void> {
  const giveUpAtMs = performance.now() + limitMs
  while (!condition()) {
    if (performance.now() >= giveUpAtMs)
      throw new Error(`not so after ${limitMs} ms: ${condition.toString()}`)
    await pass(1)
  }
}

/** Runs every continuation that is due, without a virtual millisecond passing. */
export async function settlePromises(): Promise<void> {
  await new Promise((resolve) => realSetImmediate(resolve))
}

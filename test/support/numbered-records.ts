import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { testClient } from './independent-reader.ts'

/** Writes records whose values are `{"id": n}`, numbered from `from` on, with kafkajs's producer: acks=all, each once. */
export async function writeNumbered(
  broker: string,
  topic: string,
  options: { count: number; from?: number; partitions?: number; padding?: number },
): Promise<void> {
  const { count, from = 0, partitions = 1, padding = 0 } = options
  // Else it writes again what it has written, where one partition of a new topic has its leader before another.
  const producer = testClient(broker).producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  try {
    const messages = Array.from({ length: count }, (_, index) => ({
      partition: index % partitions,
      value: JSON.stringify({ id: from + index, ...(padding > 0 && { padding: 'x'.repeat(padding) }) }),
    }))
    // A batch has to stay below `max.message.bytes`.
    const atOnce = Math.min(500, Math.floor(500_000 / (padding + 100)))
    for (let at = 0; at < messages.length; at += atOnce) {
      await producer.send({ topic, messages: messages.slice(at, at + atOnce), acks: -1 })
    }
  } finally {
    await producer.disconnect()
  }
}

/** The ids in lines as `chute consume` writes them. A line that was cut off has none. */
export function idsOf(lines: readonly string[]): number[] {
  return lines.flatMap((line) => {
    try {
      return [(JSON.parse(line) as { value: { id: number } }).value.id]
    } catch {
      return []
    }
  })
}

/** The ids in a file of such lines, in its order; none where there is no file. */
export function idsIn(file: string): number[] {
  return existsSync(file) ? idsOf(readFileSync(file, 'utf8').split('\n')) : []
}

/** Waits until `isThere`, looking every 50 ms. */
export async function until(isThere: () => boolean | Promise<boolean>, limitMs = 60_000): Promise<void> {
  const deadlineMs = performance.now() + limitMs
  while (!(await isThere())) {
    if (performance.now() > deadlineMs) throw new Error(`not true after ${limitMs} ms: ${isThere.toString()}`)
    await pause(50)
  }
}

/** How often ids came more than once, and how many of `0 … total - 1` never came. */
export function tally(ids: readonly number[], total: number): { repeated: number; lost: number } {
  const distinct = new Set(ids)
  return { repeated: ids.length - distinct.size, lost: total - distinct.size }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { startServer } from './server-process.ts'

/** Share of one core that a connected gateway uses while nobody sends anything, 0 to 1. */
export async function benchIdle(kafka: LocalKafka, seconds: number): Promise<number> {
  const main = fileURLToPath(new URL('../dist/main.js', import.meta.url))
  const chute = await startServer([main, 'serve'], { KAFKA_BROKERS: kafka.brokers[0], LOG_LEVEL: 'error' })
  try {
    // What the start left to do (compiling, garbage) is not idling.
    await sleep(3_000)
    const before = chute.cpuMicros()
    await sleep(seconds * 1000)
    return (chute.cpuMicros() - before) / (seconds * 1e6)
  } finally {
    await chute.stop()
  }
}

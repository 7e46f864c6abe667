import { setTimeout as sleep } from 'node:timers/promises'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { startChute } from './server-process.ts'

/** Share of one core that a connected gateway uses while nobody sends anything, 0 to 1. */
export async function benchIdle(kafka: LocalKafka, seconds: number): Promise<number> {
  const chute = await startChute(kafka.brokers[0]!)
  try {
    // What the start left to do (compiling, garbage) is not idling.
    await sleep(3_000)
    const before = chute.usage().cpuMicros
    await sleep(seconds * 1000)
    return (chute.usage().cpuMicros - before) / (seconds * 1e6)
  } finally {
    await chute.stop()
  }
}

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect } from 'vitest'
import { outcomes, outcomeTraits } from '../../src/kafka/producer/outcome.ts'
import { readTopic } from './independent-reader.ts'
import { sumOf } from './parse-exposition.ts'
import type { ServedGateway } from './served-gateway.ts'

/** A stream of each delivery. The topics of NAME are NAME-realtime and NAME-critical. */
export const bothDeliveries = ['realtime', 'critical'] as const

/** How many events each stream has taken. */
export type Taken = Record<(typeof bothDeliveries)[number], number>

/** Writes the file for `CHUTE_CONFIG`. @returns its path. */
export function writeBothDeliveries(folder: string, name: string): string {
  const file = join(folder, `${name}.json`)
  const streams = {
    realtime: { topic: `${name}-realtime`, delivery: 'at-most-once' },
    critical: { topic: `${name}-critical`, delivery: 'at-least-once' },
  }
  writeFileSync(file, JSON.stringify({ streams }))
  return file
}

/** Sends events to both streams, one after the other and `pauseMs` apart. Each has to be taken. */
export async function loadBothDeliveries(
  { url }: ServedGateway,
  { loadMs, pauseMs }: { readonly loadMs: number; readonly pauseMs: number },
): Promise<Taken> {
  const taken: Taken = { realtime: 0, critical: 0 }
  const endsMs = performance.now() + loadMs
  const load = async (stream: keyof Taken): Promise<void> => {
    while (performance.now() < endsMs) {
      const body = JSON.stringify({ name: 'n', value: taken[stream] })
      const { status } = await fetch(`${url}/v1/streams/${stream}`, { method: 'POST', body })
      expect(status).toBe(202)
      taken[stream]++
      await pause(pauseMs)
    }
  }
  await Promise.all(bothDeliveries.map(load))
  return taken
}

/** The gateway flags nothing, and ends well. Then every event that it took is in Kafka, and each of them once. */
export async function expectAllOnce(
  gateway: ServedGateway,
  { broker, name, taken }: { readonly broker: string; readonly name: string; readonly taken: Taken },
): Promise<void> {
  await gateway.reported((families) => {
    for (const outcome of outcomes.filter((each) => outcomeTraits[each].isLoss))
      expect([outcome, sumOf(families, 'chute_records_total', { outcome })]).toEqual([outcome, 0])
    return sumOf(families, 'chute_records_pending') === 0
  })
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
  for (const stream of bothDeliveries) {
    const landed = await readTopic(broker, `${name}-${stream}`)
    const values = new Set(landed.map(({ value }) => value.toString()))
    expect([values.size, landed.length]).toEqual([taken[stream], taken[stream]])
  }
}

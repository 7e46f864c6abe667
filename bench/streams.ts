import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sampleEvent } from './events.ts'
import type { AddressedRequest } from './load.ts'

/**
 * Writes a configuration with at-most-once streams of these names into a folder.
 * @param topic of all of them; undefined: each has a topic of its own name.
 * @param settings of each of them, which may set another delivery.
 * @returns its path.
 */
export function streamsFile(
  folder: string,
  names: readonly string[],
  topic?: string,
  settings: Readonly<Record<string, string>> = {},
): string {
  const file = join(folder, [names.length, names[0], ...Object.values(settings)].join('-') + '.json')
  const stream = { delivery: 'at-most-once', topic, ...settings }
  const streams = Object.fromEntries(names.map((name) => [name, stream]))
  writeFileSync(file, JSON.stringify({ streams }))
  return file
}

/** Names of the streams that a gateway has where it is to have many. */
export const manyStreams = Array.from({ length: 50 }, (_, nth) => `bench-stream-${nth}`)

/** Names of the streams of a gateway where each has its own share of memory, of idle time and of a scrape. */
export const hundredsOfStreams = Array.from({ length: 300 }, (_, nth) => `bench-one-of-300-${nth}`)

/** One event for a stream. */
export function eventTo(stream: string, body: string = sampleEvent): AddressedRequest {
  return { path: `/v1/streams/${stream}`, contentType: 'application/json', body }
}

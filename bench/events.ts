const sample = {
  name: 'room.temperature',
  value: 21.5,
  timestamp: 1_700_000_000_000,
  unit: 'C',
  labels: { site: 'berlin-1', floor: 3, sensor: 'bme280' },
  source: 'device-000123',
  firmware: '1.2.3-beta+exp.sha.5114f85',
  battery: 0.87,
}

/** An event of about 220 bytes, as the benches send it. */
export const sampleEvent = JSON.stringify(sample)

/** The same with another key, or none, or of another size. */
export function eventOf({ source, bytes }: { source?: string; bytes?: number }): string {
  if (bytes === undefined) return JSON.stringify({ ...sample, source })
  const bare = { name: sample.name, value: sample.value, source: sample.source, text: '' }
  const text = 'x'.repeat(Math.max(0, bytes - JSON.stringify(bare).length))
  return JSON.stringify({ ...bare, text })
}

/** One event as JSON. */
export const singleEvent = { contentType: 'application/json', body: sampleEvent }

/** 100 events, a line each. */
export const ndjsonOf100 = {
  contentType: 'application/x-ndjson',
  body: Array.from({ length: 100 }, () => sampleEvent).join('\n'),
}

/** As large a body as is taken by default. */
export const ndjsonOf4500 = {
  contentType: 'application/x-ndjson',
  body: Array.from({ length: 4_500 }, () => sampleEvent).join('\n'),
}

/** 100 events in an array. */
export const arrayOf100 = {
  contentType: 'application/json',
  body: `[${Array.from({ length: 100 }, () => sampleEvent).join(',')}]`,
}

/** 100 lines of a log of about 180 bytes, no two alike, as compression meets them. */
export const logLinesOf100 = {
  contentType: 'application/x-ndjson',
  body: Array.from({ length: 100 }, (_, nth) =>
    JSON.stringify({
      time: new Date(1_700_000_000_000 + nth * 37).toISOString(),
      level: nth % 9 === 0 ? 'warn' : 'info',
      service: 'checkout',
      request: ((nth * 2_654_435_761) >>> 0).toString(16).padStart(8, '0'),
      message: `order ${nth * 7_919} took ${(nth * 31) % 450} ms; "${nth % 3 === 0 ? 'cache miss' : 'cache hit'}"`,
    }),
  ).join('\n'),
}

/** The two kinds of request that a stream is measured with. */
export const oneAndHundred = [
  { name: 'single event', request: singleEvent, events: 1 },
  { name: 'NDJSON of 100', request: ndjsonOf100, events: 100 },
]

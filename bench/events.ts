/** An event of about 220 bytes, as the benches send it. */
export const sampleEvent = JSON.stringify({
  name: 'room.temperature',
  value: 21.5,
  timestamp: 1_700_000_000_000,
  unit: 'C',
  labels: { site: 'berlin-1', floor: 3, sensor: 'bme280' },
  source: 'device-000123',
  firmware: '1.2.3-beta+exp.sha.5114f85',
  battery: 0.87,
})

/** One event as JSON. */
export const singleEvent = { contentType: 'application/json', body: sampleEvent }

/** 100 events, a line each. */
export const ndjsonOf100 = {
  contentType: 'application/x-ndjson',
  body: Array.from({ length: 100 }, () => sampleEvent).join('\n'),
}

/** 100 events in an array. */
export const arrayOf100 = {
  contentType: 'application/json',
  body: `[${Array.from({ length: 100 }, () => sampleEvent).join(',')}]`,
}

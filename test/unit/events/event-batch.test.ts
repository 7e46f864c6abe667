import { describe, expect, test } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import { decodeEvents } from '../../../src/events/decode.ts'
import { EventBatch, type EventLimits } from '../../../src/events/event-batch.ts'
import { compileEventSchema } from '../../../src/events/event-schema.ts'
import { goodEvents } from '../../support/good-events.ts'

function batchOf(
  lines: string,
  limits: Partial<EventLimits> = {},
  maxRecordBytes = 1000,
  options: { needsKey?: boolean; schema?: 'any' } = {},
): EventBatch {
  const batch = new EventBatch(Buffer.from(lines), {
    limits: { eventBytes: 1000, eventsPerRequest: 1000, depth: 4, ...limits },
    maxRecordBytes,
    ...options,
    schema: compileEventSchema(options.schema ?? 'telemetry'),
  })
  decodeEvents(batch.body, 'ndjson', batch)
  return batch
}

const good = '{"name":"a","value":1,"source":"dé"}'

describe('EventBatch', () => {
  test('keeps the bytes and the key of good events and the place of each', () => {
    const batch = batchOf(`${good}\nbad\n{"name":"b","value":2}`)
    expect(batch).toMatchObject({ received: 3, rejected: 1, good: 2 })
    const events = goodEvents(batch)
    expect(events.map(({ index, key }) => ({ index, key }))).toEqual([
      { index: 0, key: 'dé' },
      { index: 2, key: null },
    ])
    expect(batch.body.toString('utf8', events[1]!.start, events[1]!.end)).toBe('{"name":"b","value":2}')
  })

  test('lists each rejected event with its code', () => {
    const deep = '{"name":"a","value":1,"x":{"x":{"x":{"x":[]}}}}'
    const batch = batchOf(`{\n{"name":1}\n${deep}\n{"name":"a","value":1,"__proto__":{}}`)
    expect(batch.errors.map(({ index, code, pointer }) => [index, code, pointer])).toEqual([
      [0, 'invalid_json', ''],
      [1, 'invalid_event', '/name'],
      [2, 'too_deep', ''],
      [3, 'invalid_event', ''],
    ])
    expect(batch.errors[2]?.detail).toContain('4 levels')
    expect(batch.errors[3]?.detail).toContain('__proto__')
  })

  test('refuses events without a key where the topic is compacted, and names the field', () => {
    const long = `{"name":"a","value":1,"source":"${'s'.repeat(256)}"}`
    const batch = batchOf(`${good}\n{"name":"b","value":2}\n${long}`, {}, 1000, { needsKey: true })
    expect(batch).toMatchObject({ received: 3, rejected: 2, good: 1 })
    // The schema of telemetry has its own word on a source that is too long.
    expect(batch.errors.map(({ index, code, pointer }) => [index, code, pointer])).toEqual([
      [1, 'source_missing', '/source'],
      [2, 'invalid_event', '/source'],
    ])
    expect(batch.errors[0]?.detail).toContain('cleanup.policy')
  })

  test.each(['null', '1', '"source"', '[]', '{}', '{"source":""}', '{"source":7}', '{"source":null}'])(
    'refuses %s where the topic is compacted and the schema takes anything: it gives no key',
    (event) => {
      const options = { needsKey: true, schema: 'any' } as const
      expect(batchOf(event, {}, 1000, options).errors[0]?.code).toBe('source_missing')
      expect(batchOf(event, {}, 1000, { schema: 'any' }).good).toBe(1)
    },
  )

  test('lists a hundred errors and counts all', () => {
    const batch = batchOf('{}\n'.repeat(150))
    expect(batch.errors).toHaveLength(100)
    expect(batch.rejected).toBe(150)
    expect(batch.rejectedByCode).toEqual(new Map([['invalid_event', 150]]))
  })

  test('refuses an event above the limit of events, or above that of records with its key', () => {
    const length = Buffer.byteLength(good)
    expect(batchOf(good, { eventBytes: length }).good).toBe(1)
    expect(batchOf(good, { eventBytes: length - 1 }).errors[0]?.code).toBe('event_too_large')
    expect(batchOf(good, {}, length + 3).good).toBe(1)
    expect(batchOf(good, {}, length + 2).errors[0]).toMatchObject({
      code: 'event_too_large',
      detail: `has ${length} bytes, and ${length - 1} is the most`,
    })
  })

  test('refuses the request as a whole above the number of events', () => {
    expect(batchOf(`${good}\n${good}`, { eventsPerRequest: 2 }).good).toBe(2)
    expect(() => batchOf(`${good}\nbad\n${good}`, { eventsPerRequest: 2 })).toThrow(GatewayError)
  })
})

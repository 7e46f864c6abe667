import { expect, test } from 'vitest'
import { consumedRecord } from '../../../../src/kafka/consumer/kafkajs-consumer.ts'
import { ndjsonLine } from '../../../../src/sinks/ndjson.ts'

/** Headers as kafkajs reads them: it adds up values under each name, and begins with what every object has there. */
function asKafkajs(...headers: readonly (readonly [name: string, value: Buffer | null])[]): object {
  const found: Record<string, unknown> = {}
  for (const [name, value] of headers) {
    const before = found[name]
    if (before === undefined) found[name] = value
    else found[name] = Array.isArray(before) ? [...(before as unknown[]), value] : [before, value]
  }
  return found
}

function recordWith(headers: object): ReturnType<typeof consumedRecord> {
  const message = { offset: '7', timestamp: '1', key: null, value: Buffer.from('1'), headers, attributes: 0 }
  return consumedRecord('t', 0, message as never)
}

test('headers of any client can be written down: without a value, given twice, and named as what each object has', () => {
  const [one, two] = [Buffer.from('one'), Buffer.from('two')]
  const record = recordWith(
    asKafkajs(['a', null], ['b', one], ['c', one], ['c', null], ['constructor', two], ['toString', null]),
  )
  const none = Buffer.alloc(0)
  expect(record.headers).toEqual({ a: none, b: one, c: [one, none], constructor: two, toString: none })
  expect((JSON.parse(ndjsonLine(record)) as { headers: object }).headers).toEqual({
    a: '',
    b: 'one',
    c: ['one', ''],
    constructor: 'two',
    toString: '',
  })
})

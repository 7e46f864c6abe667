import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { codecFor } from '../../../../../src/kafka/protocol/compression.ts'
import { ProducerBatch } from '../../../../../src/kafka/producer/producer-batch.ts'
import { encodeHeaders, readRecords } from '../../../../../src/kafka/protocol/record-format.ts'
import { AuditHeaders } from '../../../../../src/kafka/producer/record-headers.ts'
import { remakeBatch, splitBatch } from '../../../../../src/kafka/producer/at-least-once/split-and-resume.ts'
import { codecsHere } from '../../../../support/producer-fixture.ts'
import { readBatch } from '../../../../support/record-batch-reader.ts'
import { RecordBytes } from '../../../../../src/kafka/protocol/record-bytes.ts'

const startMs = 1_700_000_000_000

const anyRecord = fc.record({
  key: fc.option(fc.string({ unit: 'binary', maxLength: 30 })),
  value: fc.string({ unit: 'binary', maxLength: 300 }),
  timestampMs: fc.integer({ min: startMs - 1_000_000, max: startMs + 1_000_000 }),
  headers: fc.option(fc.uint8Array({ maxLength: 40 })),
})

type AnyRecord = typeof anyRecord extends fc.Arbitrary<infer T> ? T : never

function batchOf(records: readonly AnyRecord[]): ProducerBatch {
  const batch = new ProducerBatch(3, 7, Buffer.alloc(512), () => {})
  for (const { key, value, timestampMs, headers } of records) {
    const body = Buffer.from(value)
    const keyBytes = key === null ? null : Buffer.from(key)
    const encoded = headers === null ? null : encodeHeaders([{ key: 'audit', value: Buffer.from(headers) }])
    batch.append(RecordBytes.of(body, keyBytes, timestampMs), Infinity, encoded)
  }
  batch.close()
  return batch
}

/** Everything of a batch's records but their offsets. */
function contentOf(batch: ProducerBatch): object[] {
  const records = batch.plainRecords()
  const content: object[] = []
  for (const { record, headers } of readRecords(records, batch)) {
    content.push({
      key: record.key?.toString('hex', record.keyStart, record.keyEnd) ?? null,
      value: record.body.toString('hex', record.start, record.end),
      timestampMs: record.timestampMs,
      headers: headers.toString('hex'),
    })
  }
  return content
}

test('the halves of any batch hold its records, in order, and any reader can read them', () => {
  const property = fc.property(fc.array(anyRecord, { minLength: 2, maxLength: 40 }), (records) => {
    const batch = batchOf(records)
    const before = contentOf(batch)
    const halves = splitBatch(batch)
    expect(Math.abs(halves[0].recordCount - halves[1].recordCount)).toBeLessThanOrEqual(1)
    for (const half of halves) half.close()
    expect(halves.flatMap(contentOf)).toEqual(before)
    for (const half of halves) {
      const read = readBatch(half.seal())
      expect(read).toMatchObject({ isCrcRight: true, recordCount: half.recordCount })
      expect(half).toMatchObject({ partition: 3, createdAtMs: 7 })
    }
  })
  fc.assert(property, { numRuns: 200 })
})

test.each(codecsHere)('a batch compressed with %s is split as well', async (type) => {
  const records = Array.from({ length: 50 }, (_, i) => ({
    key: `key ${i}`,
    value: `value ${i}`.repeat(20),
    timestampMs: startMs + i,
    headers: null,
  }))
  const batch = batchOf(records)
  const before = contentOf(batch)
  const codec = codecFor(type)!
  batch.setCompressed(codec.attribute, await codec.compress(batch.records))
  const halves = splitBatch(batch)
  for (const half of halves) half.close()
  expect(halves.flatMap(contentOf)).toEqual(before)
})

test('a batch that an earlier process noted is made again byte for byte, with the headers of each record', () => {
  for (const audit of [new AuditHeaders(), null]) {
    const own = ['a', 'a longer one', null].map((text) =>
      text === null ? null : encodeHeaders([{ key: 'tenant', value: Buffer.from(text) }]),
    )
    const records = own.map((headers, nth) => ({
      timestampMs: startMs + nth,
      key: null,
      value: Buffer.from(`value ${nth}`),
      headers,
    }))
    const batch = new ProducerBatch(3, 7, Buffer.alloc(512), () => {})
    for (const { timestampMs, key, value, headers } of records)
      batch.append(RecordBytes.of(value, key, timestampMs).headed(headers), Infinity, audit?.encoded ?? null)
    batch.close()
    audit?.number(batch)
    const { partition, recordCount, uncompressedBytes, baseTimestampMs, maxTimestampMs, firstHeaders } = batch
    const noted = { partition, recordCount, uncompressedBytes, baseTimestampMs, maxTimestampMs, firstHeaders }
    const identity = {
      producerId: 1n,
      epoch: 0,
      baseSequence: 5,
      scope: 1,
      notedAtMs: 1,
      chargedBytes: 1_000,
    }
    const remade = remakeBatch({ ...identity, ...noted, records })
    remade?.close()
    expect(remade?.seal()).toEqual(batch.seal())
    // A half of it is noted with the whole headers of its first record.
    const [, half] = splitBatch(batch)
    half.close()
    const ofHalf = {
      ...identity,
      ...noted,
      recordCount: half.recordCount,
      uncompressedBytes: half.uncompressedBytes,
      baseTimestampMs: half.baseTimestampMs,
      firstHeaders: half.firstHeaders,
      records: records.slice(1),
    }
    const again = remakeBatch(ofHalf)
    again?.close()
    expect(again?.seal()).toEqual(half.seal())
  }
})

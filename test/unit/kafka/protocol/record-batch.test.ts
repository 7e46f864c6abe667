import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RecordBatch, recordBatchHeaderBytes } from '../../../../src/kafka/protocol/record-batch.ts'
import { encodeHeaders } from '../../../../src/kafka/protocol/record-format.ts'
import { decodeWithKafkajs } from '../../../support/kafkajs-decoder.ts'
import { crc32c, readBatch } from '../../../support/record-batch-reader.ts'
import { RecordBytes } from '../../../../src/kafka/protocol/record-bytes.ts'

interface Record {
  readonly key: string | null
  readonly value: string
  readonly timestampMs: number
  /** Left out: the record is appended without a word of headers. */
  readonly headers?: readonly (readonly [key: string, value: string])[] | undefined
}

function batchOf(bufferBytes = 512, recycle: (buffer: Buffer) => void = () => {}): RecordBatch {
  return new RecordBatch(Buffer.alloc(bufferBytes, 0xee), recycle)
}

function append(batch: RecordBatch, record: Record, limitBytes = 1 << 20): boolean {
  const padding = '~~'
  const body = Buffer.from(`${padding}${record.value}${padding}`)
  const key = record.key === null ? null : Buffer.from(`${padding}${record.key}${padding}`)
  const headers = record.headers?.map(([name, text]) => ({ key: name, value: Buffer.from(text) }))
  const bytes = new RecordBytes().value(body, 2, body.length - 2)
  if (key !== null) bytes.keyed(key, padding.length, key.length - padding.length)
  bytes.timestampMs = record.timestampMs
  return batch.append(bytes, limitBytes, headers && encodeHeaders(headers))
}

const start = 1_700_000_000_000

const anyText = (maxLength: number) => fc.string({ unit: 'binary', maxLength })

const anyRecord: fc.Arbitrary<Record> = fc.record({
  key: fc.option(anyText(30)),
  value: anyText(300),
  // The clock of a machine can step back.
  timestampMs: fc.integer({ min: start - 1_000_000, max: start + 1_000_000 }),
  headers: fc.option(fc.array(fc.tuple(anyText(20), anyText(100)), { maxLength: 3 }), { nil: undefined }),
})

/** A text as it comes back: half of a surrogate pair has no UTF-8. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString()
}

test('the independent reader has the CRC-32C of RFC 3720', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283)
})

test('any records can be read back by an independent reader, with the right checksum', () => {
  fc.assert(
    fc.property(fc.array(anyRecord, { minLength: 1, maxLength: 40 }), (records) => {
      const batch = batchOf()
      for (const record of records) expect(append(batch, record)).toBe(true)
      batch.close()
      const read = readBatch(batch.seal())
      expect(read).toMatchObject({
        magic: 2,
        isCrcRight: true,
        attributes: 0,
        baseOffset: 0n,
        lastOffsetDelta: records.length - 1,
        recordCount: records.length,
        baseTimestamp: records[0]!.timestampMs,
        maxTimestamp: Math.max(...records.map(({ timestampMs }) => timestampMs)),
        producerId: -1n,
        producerEpoch: -1,
        baseSequence: -1,
        sizeBytes: batch.sizeBytes,
      })
      expect(read.records).toEqual(
        records.map(({ key, value, timestampMs, headers = [] }, offsetDelta) => ({
          key: key === null ? null : wellFormed(key),
          value: wellFormed(value),
          timestamp: timestampMs,
          offsetDelta,
          headers: headers.map(([name, text]) => [wellFormed(name), Buffer.from(text).toString('latin1')]),
        })),
      )
    }),
    { numRuns: 200 },
  )
})

test("any records can be read back by kafkajs's decoder", async () => {
  const property = fc.asyncProperty(fc.array(anyRecord, { minLength: 1, maxLength: 20 }), async (records) => {
    const batch = batchOf()
    for (const record of records) append(batch, record)
    batch.close()
    batch.setProducer(77n, 0, 12)
    const read = await decodeWithKafkajs(batch.seal())
    expect(read).toMatchObject({ producerId: '77', firstSequence: 12 })
    expect(
      read.records.map(({ key, value, timestamp, headers }) => [
        key?.toString() ?? null,
        value.toString(),
        timestamp,
        Object.keys(headers).toSorted(),
      ]),
    ).toEqual(
      records.map(({ key, value, timestampMs, headers = [] }) => [
        key === null ? null : wellFormed(key),
        wellFormed(value),
        String(timestampMs),
        [...new Set(headers.map(([name]) => wellFormed(name)))].toSorted(),
      ]),
    )
  })
  await fc.assert(property, { numRuns: 200 })
})

describe('append', () => {
  test('takes a first record of any size, and none after it', () => {
    const batch = batchOf()
    expect(append(batch, { key: null, value: 'x'.repeat(5_000), timestampMs: start }, 1_000)).toBe(true)
    expect(append(batch, { key: null, value: '', timestampMs: start }, 1_000)).toBe(false)
    batch.close()
    expect(readBatch(batch.seal()).records).toHaveLength(1)
  })

  test('refuses a record that would pass batch.size, to the byte', () => {
    const value = 'x'.repeat(100)
    const two = batchOf()
    append(two, { key: null, value, timestampMs: start })
    append(two, { key: null, value, timestampMs: start })
    const sizeOfTwo = two.uncompressedBytes
    const exact = batchOf()
    append(exact, { key: null, value, timestampMs: start }, sizeOfTwo)
    expect(append(exact, { key: null, value, timestampMs: start }, sizeOfTwo)).toBe(true)
    expect(exact.uncompressedBytes).toBe(sizeOfTwo)
    const short = batchOf()
    append(short, { key: null, value, timestampMs: start }, sizeOfTwo - 1)
    expect(append(short, { key: null, value, timestampMs: start }, sizeOfTwo - 1)).toBe(false)
    expect(short.recordCount).toBe(1)
  })

  test('counts headers as a part of the record, to the byte', () => {
    const record = { key: 'k', value: 'v'.repeat(100), timestampMs: start }
    const headers = [['name', 'x'.repeat(60)]] as const
    const plain = batchOf()
    append(plain, record)
    const batch = batchOf()
    append(batch, { ...record, headers })
    // Five lengths of one byte but for the record's own, which is of two in both; the number of headers is in both.
    const addedBytes = 1 + 'name'.length + 1 + 60
    expect(batch.uncompressedBytes - plain.uncompressedBytes).toBe(addedBytes)
    const exact = batch.uncompressedBytes * 2 - recordBatchHeaderBytes
    expect(append(batch, { ...record, headers }, exact - 1)).toBe(false)
    expect(append(batch, { ...record, headers }, exact)).toBe(true)
  })

  test('refuses a timestamp too far from the first for a 32-bit delta', () => {
    const batch = batchOf()
    append(batch, { key: null, value: 'a', timestampMs: start })
    expect(append(batch, { key: null, value: 'b', timestampMs: start + 2 ** 31 })).toBe(false)
    expect(append(batch, { key: null, value: 'b', timestampMs: start - 2 ** 31 })).toBe(false)
  })

  test('copies the bytes: what becomes of the body afterwards does not matter', () => {
    const batch = batchOf()
    const body = Buffer.from('value')
    batch.append(RecordBytes.of(body, null, start), 1_000)
    body.fill('x')
    batch.close()
    expect(readBatch(batch.seal()).records![0]!.value).toBe('value')
  })
})

describe('the buffer', () => {
  test('is given back when the batch outgrows it, and the grown one at the end', () => {
    const given: number[] = []
    const batch = batchOf(512, (buffer) => given.push(buffer.length))
    for (let i = 0; i < 10; i++)
      append(batch, { key: null, value: 'x'.repeat(80), timestampMs: start }, 2_048)
    expect(given).toEqual([512])
    batch.close()
    batch.release()
    batch.release()
    expect(given).toEqual([512, 1_024])
  })

  test('that is mostly empty is given back when the batch is closed', () => {
    const given: number[] = []
    const batch = batchOf(4_096, (buffer) => given.push(buffer.length))
    append(batch, { key: 'k', value: 'v', timestampMs: start })
    batch.close()
    expect(given).toEqual([4_096])
    expect(readBatch(batch.seal()).records).toEqual([
      { key: 'k', value: 'v', timestamp: start, offsetDelta: 0, headers: [] },
    ])
    batch.release()
    expect(given).toEqual([4_096])
  })
})

test('compressed records take the place of the plain ones, under a new checksum', () => {
  const batch = batchOf()
  append(batch, { key: null, value: 'x', timestampMs: start })
  batch.close()
  batch.setCompressed(3, Buffer.from('compressed'))
  const read = readBatch(batch.seal())
  expect(read).toMatchObject({ attributes: 3, isCrcRight: true, recordCount: 1, records: null })
  expect(read.recordsBytes.toString()).toBe('compressed')
  expect(batch.sizeBytes).toBe(recordBatchHeaderBytes + 10)
})

test('the same batch can be sealed again under another identity', () => {
  const batch = batchOf()
  append(batch, { key: null, value: 'x', timestampMs: start })
  batch.close()
  batch.setProducer(1n, 0, 5)
  expect(readBatch(batch.seal())).toMatchObject({ producerId: 1n, baseSequence: 5, isCrcRight: true })
  batch.setProducer(2n, 1, 0)
  expect(readBatch(batch.seal())).toMatchObject({
    producerId: 2n,
    producerEpoch: 1,
    baseSequence: 0,
    isCrcRight: true,
  })
})

test("a record's own headers stand before those that it is appended with", () => {
  const headers = fc.array(fc.tuple(anyText(20), anyText(100)), { minLength: 1, maxLength: 16 })
  const encode = (list: readonly (readonly [string, string])[]): Buffer =>
    encodeHeaders(list.map(([key, text]) => ({ key, value: Buffer.from(text) })))
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.option(headers), fc.option(headers)), { minLength: 1, maxLength: 10 }),
      (all) => {
        const batch = batchOf(64)
        const record = RecordBytes.of(Buffer.from('value'), Buffer.from('key'), start)
        for (const [own, behind] of all) {
          record.headed(own === null ? null : encode(own))
          expect(batch.append(record, 1 << 20, behind === null ? null : encode(behind))).toBe(true)
        }
        batch.close()
        const read = readBatch(batch.seal())
        expect(
          read.records!.map((each) =>
            each.headers.map(([name, text]) => [name, Buffer.from(text, 'latin1').toString()]),
          ),
        ).toEqual(
          all.map(([own, behind]) => [...(own ?? []), ...(behind ?? [])].map((each) => each.map(wellFormed))),
        )
      },
    ),
  )
})

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  EntryReader,
  FrameBuilder,
  isWellFormed,
  isWhole,
  readFrameHeader,
} from '../../../src/spool/frame.ts'
import { RecordBytes } from '../../../src/kafka/protocol/record-bytes.ts'

const entry = fc.record({
  kind: fc.constantFrom('record' as const, 'note' as const),
  timeMs: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
  key: fc.option(fc.string({ unit: 'grapheme' })),
  value: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
})

test('a frame gives back every entry as it was appended', () => {
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 40 }),
      fc.integer({ min: 0, max: 2 ** 48 - 1 }),
      (entries, seq) => {
        const writer = new FrameBuilder(Buffer.allocUnsafe(32))
        const record = new RecordBytes()
        for (const { kind, timeMs, key, value } of entries) {
          const body = Buffer.concat([Buffer.from('before'), value, Buffer.from('behind')])
          const keyBytes = key === null ? null : Buffer.from(`>${key}<`)
          const keyEnd = keyBytes === null ? 1 : keyBytes.length - 1
          record.value(body, 6, 6 + value.length).keyed(keyBytes, 1, keyEnd)
          record.timestampMs = timeMs
          writer.append(kind, record)
        }
        const frame = Buffer.concat([Buffer.from('x'), writer.seal(seq)])
        const header = readFrameHeader(frame, 1)!
        expect(header).toEqual({
          frameBytes: frame.length - 1,
          recordCount: entries.filter(({ kind }) => kind === 'record').length,
          firstSeq: seq,
          hasNotes: entries.some(({ kind }) => kind === 'note'),
        })
        expect(isWhole(frame, 1, header)).toBe(true)
        const reader = new EntryReader(frame, 1, header.frameBytes)
        const found = []
        while (reader.next()) {
          const { start, end, timestampMs } = reader.record
          found.push({
            kind: reader.kind,
            timeMs: timestampMs,
            key: reader.key(),
            value: Buffer.from(frame.subarray(start, end)),
          })
        }
        expect(found).toEqual(entries)
      },
    ),
  )
})

test('a frame with one wrong bit, or without its last byte, is not whole', () => {
  const writer = new FrameBuilder(Buffer.allocUnsafe(16))
  writer.append('record', RecordBytes.of(Buffer.from('value'), Buffer.from('k'), 1))
  const frame = Buffer.from(writer.seal(7))
  const header = readFrameHeader(frame, 0)!
  for (let bit = 32; bit < frame.length * 8; bit++) {
    const damaged = Buffer.from(frame)
    damaged[bit >> 3]! ^= 1 << (bit & 7)
    const read = readFrameHeader(damaged, 0)!
    expect(isWhole(damaged, 0, read)).toBe(false)
  }
  expect(isWhole(frame.subarray(0, -1), 0, header)).toBe(false)
  expect(readFrameHeader(Buffer.alloc(100), 0)).toBeNull()
})

test('a frame gives back the own headers of each record, and has those of a request once', () => {
  const requests = [null, 'headers of one', 'headers of another', null, 'headers of a third'].map((text) =>
    text === null ? null : Buffer.from(`\u0002${text}`),
  )
  const writer = new FrameBuilder(Buffer.allocUnsafe(16))
  const record = new RecordBytes()
  for (const headers of requests) {
    for (let nth = 0; nth < 3; nth++)
      writer.append(
        'record',
        record
          .value(Buffer.from(`value ${nth}`), 0, 7)
          .keyed(null, 0, 0)
          .headed(headers),
      )
    writer.append('note', RecordBytes.of(Buffer.from('note'), Buffer.from('k'), 1))
  }
  const frame = writer.seal(7)
  const header = readFrameHeader(frame, 0)!
  expect(header.recordCount).toBe(15)
  expect(isWellFormed(frame, 0, header)).toBe(true)
  const reader = new EntryReader(frame, 0, header.frameBytes)
  const found: (string | null)[] = []
  while (reader.next()) {
    const { headers } = reader.record
    if (reader.kind === 'record') found.push(headers?.toString() ?? null)
  }
  expect(found).toEqual(
    requests.flatMap((headers) => Array.from({ length: 3 }, () => headers?.toString() ?? null)),
  )
  expect(frame.toString('latin1').split('headers of one')).toHaveLength(2)
})

import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FrameBuilder } from '../../../src/spool/frame.ts'
import { FakeInnerProducer } from '../../support/fake-inner-producer.ts'
import { numbered, SpoolFixture, temporaryFolder } from '../../support/spool-fixture.ts'
import { RecordBytes } from '../../../src/kafka/protocol/record-bytes.ts'

/** A frame whose bytes are text, so that an event's `source` can hold it. */
function textFrame(seq: number, change: (frame: Buffer) => void = () => {}): string {
  for (let nth = 0; ; nth++) {
    const writer = new FrameBuilder(Buffer.alloc(64))
    writer.append('record', RecordBytes.of(Buffer.from(`forged ${nth}`), null, 1))
    const frame = Buffer.from(writer.seal(seq))
    change(frame)
    // The checksum is what may not be text: another value, another checksum.
    if (Buffer.from(frame.toString('utf8')).equals(frame)) return frame.toString('utf8')
  }
}

/** A folder with one file: a group of two records, and one whose record has a key that holds the bytes of a frame. */
function folderWith(
  key: string,
  firstSeq: number,
): { folder: string; path: string; whole: number; size: number } {
  const folder = temporaryFolder()
  const path = join(folder, `${String(firstSeq).padStart(15, '0')}.log`)
  const first = new FrameBuilder(Buffer.alloc(64))
  for (const value of ['0', '1']) first.append('record', RecordBytes.of(Buffer.from(value), null, 1))
  const second = new FrameBuilder(Buffer.alloc(64))
  const bytes = Buffer.from(key)
  second.append('record', RecordBytes.of(Buffer.from('2'), bytes, 1))
  const frames = [Buffer.from(first.seal(firstSeq)), Buffer.from(second.seal(firstSeq + 2))]
  writeFileSync(path, Buffer.concat(frames))
  return { folder, path, whole: frames[0]!.length, size: frames[0]!.length + frames[1]!.length }
}

test.each([
  ['with the number that is next', 2],
  ['with the number behind its own record', 3],
  ['with a number of long ago', 0],
  ['with a number far ahead', 2 ** 46],
])('a frame in a key, %s, counts for nothing, wherever the frame around it is torn', (_name, seq) => {
  const { folder, path, whole, size } = folderWith(`${textFrame(seq)}.`, 0)
  for (let at = size - 1; at >= whole; at--) {
    truncateSync(path, at)
    const after = new SpoolFixture({ folder })
    expect(after.producer.stats.recovered).toBe(2)
    after.producer.abort()
  }
})

test('a frame in a key counts for nothing where the sectors before it are gone too', () => {
  // Nobody outside knows the numbers: they begin at random.
  const firstSeq = 2 ** 45 + 12_345
  const { folder, path, whole } = folderWith(`${'.'.repeat(200)}${textFrame(3)}`, firstSeq)
  const bytes = readFileSync(path)
  bytes.fill(0, whole, whole + 100)
  writeFileSync(path, bytes)
  expect(new SpoolFixture({ folder }).producer.stats.recovered).toBe(2)
})

test('a header that names more records than there can be is no frame', async () => {
  for (const records of [2, 2 ** 31, 2 ** 32 - 1]) {
    const writer = new FrameBuilder(Buffer.alloc(64))
    writer.append('record', RecordBytes.of(Buffer.from('a'), null, 1))
    writer.recordCount = records
    const folder = temporaryFolder()
    writeFileSync(join(folder, '000000000000000.log'), writer.seal(0))
    const spool = new SpoolFixture({ folder })
    expect(spool.producer.stats.recovered).toBe(0)
    expect(await spool.request(numbered(1))).toBeNull()
  }
})

test('a length that is damaged costs its own group, and none behind it', async () => {
  const inner = new FakeInnerProducer()
  inner.admission = 'not_known_yet'
  const before = new SpoolFixture({ inner })
  for (let from = 0; from < 9; from += 3) await before.request(numbered(3, from))
  const [name] = readdirSync(before.folder)
  for (const byte of [8, 9, 10, 11, 12, 15, 16, 21]) {
    const folder = before.copy()
    const bytes = readFileSync(join(folder, name!))
    bytes[bytes.length / 3 + byte]! ^= 0xff
    writeFileSync(join(folder, name!), bytes)
    const after = new SpoolFixture({ folder })
    await after.until(() => after.inner.records.length === 6)
    expect(after.inner.values).toEqual(['0', '1', '2', '6', '7', '8'])
    expect(after.producer.stats.dropped.spool_damaged).toBe(3)
  }
})

test.each(['.log', '.ack', '.notes', '.notes.new', '.log.damaged'])(
  'a file%s that holds anything at all keeps no gateway from starting',
  async (ending) => {
    for (const content of ['', 'CHF1', 'x'.repeat(10_000), 'CHF1'.repeat(1_000)]) {
      const folder = temporaryFolder()
      writeFileSync(join(folder, `000000000000007${ending}`), content)
      writeFileSync(join(folder, `000000000000003${ending}`), content)
      const spool = new SpoolFixture({ folder })
      spool.producer.readNotes(1e9, () => {})
      expect(await spool.request(numbered(2))).toBeNull()
      await spool.until(() => spool.inner.records.length === 2)
      spool.producer.abort()
    }
  },
)

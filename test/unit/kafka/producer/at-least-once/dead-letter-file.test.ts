import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import * as files from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import {
  DeadLetterFile,
  type DeadLetter,
  type Files,
} from '../../../../../src/kafka/producer/at-least-once/dead-letter-file.ts'

const letter = (value: string): DeadLetter => ({
  at: '2026-01-01T00:00:00.000Z',
  stream: 'events',
  topic: 'events',
  partition: 0,
  reason: 'invalid_record',
  kafkaError: null,
  mayBeStored: false,
  timestampMs: 1,
  key: null,
  value,
  headers: {},
})

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-letter-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

function values(folder: string): string[] {
  const text = readFileSync(join(folder, 'dead-letters', 'events.ndjson'), 'utf8')
  return text.split('\n').flatMap((line) => {
    try {
      return [(JSON.parse(line) as DeadLetter).value]
    } catch {
      return []
    }
  })
}

/** The real files, of which each that is opened can be changed. */
function changed(change: (file: files.FileHandle, path: string) => void): Files {
  return {
    mkdir: files.mkdir,
    open: async (path, flags, mode) => {
      const file = await files.open(path, flags, mode)
      change(file, String(path))
      return file
    },
  }
}

test('a disk that takes letters in parts takes them all', async () => {
  const folder = temporaryFolder()
  const inParts = changed((file) => {
    const write = file.write.bind(file) as (...args: unknown[]) => Promise<{ bytesWritten: number }>
    const short = async (bytes: Buffer, from: number, length: number) =>
      await write(bytes, from, Math.min(length, 7))
    Object.assign(file, { write: short })
  })
  await new DeadLetterFile(folder, 'events', inParts).append([letter('a'), letter('b')])
  expect(values(folder)).toEqual(['a', 'b'])
})

test.each(['write', 'sync'] as const)('where a %s fails, no part of the letters stays', async (step) => {
  const folder = temporaryFolder()
  await new DeadLetterFile(folder, 'events').append([letter('a')])
  const failing = changed((file, path) => {
    if (!path.endsWith('.ndjson')) return
    const write = file.write.bind(file) as (...args: unknown[]) => Promise<{ bytesWritten: number }>
    let calls = 0
    Object.assign(file, {
      write: async (bytes: Buffer, from: number, length: number) => {
        if (step === 'write' && ++calls > 1) throw Object.assign(new Error('full'), { code: 'ENOSPC' })
        return await write(bytes, from, step === 'write' ? 9 : length)
      },
      ...(step === 'sync' && {
        sync: async () => await Promise.reject(Object.assign(new Error('io'), { code: 'EIO' })),
      }),
    })
  })
  await expect(new DeadLetterFile(folder, 'events', failing).append([letter('b')])).rejects.toThrow()
  await new DeadLetterFile(folder, 'events').append([letter('c')])
  expect(values(folder)).toEqual(['a', 'c'])
  expect(readFileSync(join(folder, 'dead-letters', 'events.ndjson'), 'utf8').split('\n')).toHaveLength(3)
})

test.each(['append', 'appendNow'] as const)(
  'a letter that a crash tore takes no other with it: %s',
  async (how) => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'dead-letters'))
    appendFileSync(join(folder, 'dead-letters', 'events.ndjson'), '{"at":"2026-01-01","val')
    await new DeadLetterFile(folder, 'events')[how]([letter('a')])
    await new DeadLetterFile(folder, 'events')[how]([letter('b')])
    expect(values(folder)).toEqual(['a', 'b'])
    expect(readFileSync(join(folder, 'dead-letters', 'events.ndjson'), 'utf8').split('\n')).toHaveLength(4)
  },
)

test('the names of the file and of its folder are synced before the letters count', async () => {
  const folder = temporaryFolder()
  const synced: string[] = []
  const told = changed((file, path) => {
    const sync = file.sync.bind(file)
    Object.assign(file, {
      sync: async () => {
        synced.push(path)
        await sync()
      },
    })
  })
  await new DeadLetterFile(folder, 'events', told).append([letter('a')])
  const letters = join(folder, 'dead-letters')
  expect(synced).toEqual([join(letters, 'events.ndjson'), letters, folder])
})

test('letters that come side by side are in the order in which they came', async () => {
  const folder = temporaryFolder()
  const file = new DeadLetterFile(folder, 'events')
  const names = Array.from({ length: 50 }, (_, nth) => String(nth))
  await Promise.all(names.map(async (name) => await file.append([letter(name)])))
  expect(values(folder)).toEqual(names)
})

test('at the end, a disk that hangs is not waited for', () => {
  const hanging: Files = { mkdir: files.mkdir, open: async () => await new Promise(() => {}) }
  const file = new DeadLetterFile(temporaryFolder(), 'events', hanging)
  void file.append([letter('a')])
  expect(() => file.appendNow([letter('b')])).toThrow('has not taken')
})

import { execFileSync } from 'node:child_process'
import { mkdtempSync, openSync, closeSync, constants, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { readTextFile } from '../../../src/config/load-config.ts'

const folder = mkdtempSync(join(tmpdir(), 'chute-pipe-'))
const pipe = join(folder, 'pipe')
const link = join(folder, 'link')
execFileSync('mkfifo', [pipe])
symlinkSync(pipe, link)
// A writer that holds the pipe open and writes nothing: a fault would wait for its end, and for its beginning without it.
const writer = openSync(pipe, constants.O_RDWR)
afterAll(() => {
  closeSync(writer)
  rmSync(folder, { recursive: true })
})

test.each([pipe, link, '/dev/zero'])('%s, which cannot be read to its end, is refused at once', (file) => {
  expect(() => readTextFile(file)).toThrow('it is no regular file')
})

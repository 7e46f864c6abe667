import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { DataFolder } from '../../../src/spool/data-folder.ts'
import { version } from '../../../src/version.ts'
import { LogKeeper } from '../../support/producer-fixture.ts'
import { numbered, SpoolFixture, temporaryFolder } from '../../support/spool-fixture.ts'

function open(path: string, streams: readonly string[] = ['critical']): DataFolder {
  const folder = new DataFolder(path, streams, new LogKeeper(), { workersLeft: false })
  onTestFinished(() => folder.close())
  return folder
}

test('a folder is made, and says its format', () => {
  const path = join(temporaryFolder(), 'deep', 'data')
  open(path)
  expect(readFileSync(join(path, 'version'), 'utf8')).toBe('chute data folder, format 1\n')
})

test('where no folder can be made, that is said, and nothing waits', () => {
  expect(() => open('/proc/chute/data')).toThrow(
    'CHUTE_DATA_DIR cannot be used: /proc/chute/data: no folder can be made there. Name a folder on a disk',
  )
  const file = join(temporaryFolder(), 'file')
  writeFileSync(file, '')
  expect(() => open(join(file, 'data'))).toThrow('it is not a folder')
})

test('a second gateway is refused, and told who has the folder', () => {
  const path = temporaryFolder()
  const first = new DataFolder(path, [], new LogKeeper(), { workersLeft: false })
  expect(() => open(path)).toThrow(`in use by another gateway (process ${process.pid})`)
  first.close()
  open(path)
})

test('a lock ends with the process that holds it', () => {
  const path = temporaryFolder()
  const script = `
    import { DataFolder } from ${JSON.stringify(new URL('../../../src/spool/data-folder.ts', import.meta.url).href)}
    new DataFolder(${JSON.stringify(path)}, [], console)
    process.kill(process.pid, 'SIGKILL')`
  expect(() =>
    execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script]),
  ).toThrow()
  expect(existsSync(join(path, 'lock'))).toBe(true)
  open(path)
}, 60_000)

test.each([
  ['chute data folder, format 4', 'a newer version of Chute'],
  ['chute data folder, format 0', 'another version of Chute'],
  ['something else', 'another version of Chute'],
])('a folder of the format "%s" is refused', (format, message) => {
  const path = temporaryFolder()
  writeFileSync(join(path, 'version'), format)
  expect(() => open(path)).toThrow(message)
  expect(() => open(path)).toThrow(
    `its file "version" says "${format}", and Chute ${version} reads the formats 1 to 3`,
  )
  // Nothing was made or changed in it, not even a lock.
  expect(readdirSync(path)).toEqual(['version'])
  expect(readFileSync(join(path, 'version'), 'utf8')).toBe(format)
  // Whoever can read it gets it.
  writeFileSync(join(path, 'version'), 'chute data folder, format 1\n')
  open(path)
})

test('a folder stays readable for older versions until a durable stream has headers', () => {
  const path = temporaryFolder()
  const format = (): string => readFileSync(join(path, 'version'), 'utf8')
  const start = (hasHeaders: boolean): void =>
    new DataFolder(path, [], new LogKeeper(), { hasHeaders, workersLeft: false }).close()
  start(false)
  expect(format()).toBe('chute data folder, format 1\n')
  start(true)
  expect(format()).toBe('chute data folder, format 2\n')
  // Records with headers may be in it.
  start(false)
  expect(format()).toBe('chute data folder, format 2\n')
})

test('a spool without a version is refused', () => {
  const path = temporaryFolder()
  mkdirSync(join(path, 'spool', 'critical'), { recursive: true })
  expect(() => open(path)).toThrow('no file that says its version')
})

test('what else is in the folder is named and left alone', () => {
  const path = temporaryFolder()
  mkdirSync(join(path, 'spool', 'lost+found'), { recursive: true })
  mkdirSync(join(path, 'lost+found'))
  writeFileSync(join(path, 'spool', '.DS_Store'), 'mine')
  writeFileSync(join(path, 'notes.txt'), 'mine')
  const logs = new LogKeeper()
  const folder = new DataFolder(path, ['critical'], logs)
  onTestFinished(() => folder.close())
  const named = JSON.stringify(logs.lines)
  expect(named).toContain('lost+found')
  expect(named).toContain('.DS_Store')
  expect(readFileSync(join(path, 'spool', '.DS_Store'), 'utf8')).toBe('mine')
})

test('a file in the place of a stream is named', () => {
  const path = temporaryFolder()
  const folder = open(path)
  writeFileSync(join(path, 'spool', 'critical'), 'mine')
  expect(() => folder.stream('critical')).toThrow(`${join(path, 'spool', 'critical')}: it is not a folder`)
})

test('a path that is no folder is refused', () => {
  const path = join(temporaryFolder(), 'file')
  writeFileSync(path, '')
  expect(() => open(path)).toThrow('it is not a folder')
})

test.skipIf(process.getuid?.() === 0)('a folder that may not be written to is refused', () => {
  const path = temporaryFolder()
  chmodSync(path, 0o500)
  expect(() => open(path)).toThrow('this user may not write there')
})

test('records of a stream that is not configured any more keep the gateway from starting', async () => {
  const path = temporaryFolder()
  const before = new DataFolder(path, ['gone'], new LogKeeper())
  const spool = new SpoolFixture({ folder: before.stream('gone').path })
  await spool.request(numbered(3))
  before.close()
  expect(() => open(path, ['critical'])).toThrow('holds 3 accepted records')
  spool.inner.settleAll()
  await spool.until(() => spool.producer.stats.spool!.bytes === 0)
  open(path, ['critical'])
})

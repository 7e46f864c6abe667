import { existsSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ephemeralFolder, warningOfFolder } from '../../../src/spool/ephemeral-folder.ts'
import { load } from '../../support/config-fixture.ts'

const [overlayfs, tmpfs, ext4] = [0x794c7630, 0x01021994, 0xef53]

/** Paths that are there, and what they are on. */
const on = (types: Readonly<Record<string, number>>) => (path: string) => {
  const type = types[path]
  if (type === undefined) throw Object.assign(new Error('no such path'), { code: 'ENOENT' })
  return type
}

test.each([
  ['overlayfs', overlayfs, 'the container'],
  ['aufs', 0x61756673, 'the container'],
  ['tmpfs', tmpfs, 'the memory that holds it'],
  ['ramfs', 0x858458f6, 'the memory that holds it'],
])('a data folder on %s does not last, and the warning names both ways out', (name, type, goesWith) => {
  const typeOf = on({ '/data': type })
  expect(ephemeralFolder('/data', typeOf)).toEqual({ fileSystem: name, goesWith })
  const warning = warningOfFolder(load({ CHUTE_DATA_DIR: '/data' }), typeOf)
  expect(warning).toContain(`/data is on ${name} and goes with ${goesWith}, so no 202 says durable`)
  expect(warning).toContain('Mount a volume there, or set CHUTE_DATA_DIR_EPHEMERAL=true')
})

test.each([
  ['ext4', ext4],
  ['xfs', 0x58465342],
  ['btrfs', 0x9123683e],
  ['nfs', 0x6969],
])('a data folder on %s lasts, whatever is above it', (_, type) => {
  const typeOf = on({ '/data': type, '/': overlayfs })
  expect(ephemeralFolder('/data', typeOf)).toBeNull()
  expect(warningOfFolder(load({ CHUTE_DATA_DIR: '/data' }), typeOf)).toBeNull()
})

test.each([
  ['it is wanted', { CHUTE_DATA_DIR: '/data', CHUTE_DATA_DIR_EPHEMERAL: 'true' }],
  ['there is no folder', {}],
  ['no stream is kept there', { CHUTE_DATA_DIR: '/data', CHUTE_CONFIG: 'c.yaml' }],
])('nobody is warned where %s', (_, env) => {
  const streams = 'streams: { s: { topic: t, delivery: at-most-once } }'
  expect(warningOfFolder(load(env, { 'c.yaml': streams }), on({ '/data': tmpfs }))).toBeNull()
})

test('a folder that is not there yet is on what it will be made on', () => {
  const look = (path: string) => ephemeralFolder(path, on({ '/': overlayfs, '/mnt': ext4 }))
  expect(look('/data/chute')?.fileSystem).toBe('overlayfs')
  expect(look('/mnt/data/chute')).toBeNull()
})

test('a folder that cannot be looked at is left to whoever opens it', () => {
  const look = () => {
    throw Object.assign(new Error('not permitted'), { code: 'EACCES' })
  }
  expect(ephemeralFolder('/data', look)).toBeNull()
})

const memory = '/dev/shm'
test.skipIf(!existsSync(memory) || statfsSync(memory).type !== tmpfs)(
  'a folder on a real tmpfs does not last, and nothing is made there',
  () => {
    const path = join(memory, `chute-${process.pid}`, 'data')
    expect(ephemeralFolder(path)?.fileSystem).toBe('tmpfs')
    expect(existsSync(path)).toBe(false)
  },
)

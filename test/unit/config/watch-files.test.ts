import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { watchFiles } from '../../../src/config/watch-files.ts'

/** A folder of its own, so that no other test's files are noticed. */
function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'chute-watch-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  const inside = join(path, 'tls')
  mkdirSync(inside)
  return inside
}

function watching(...paths: string[]): {
  untilChanged: (times: number) => Promise<void>
  changes: () => number
} {
  const onChange = vi.fn()
  const watch = watchFiles(paths, onChange)
  onTestFinished(() => watch.close())
  return {
    changes: () => onChange.mock.calls.length,
    untilChanged: async (times) => {
      await vi.waitUntil(() => onChange.mock.calls.length >= times, { timeout: 8_000 })
    },
  }
}

describe('a change is noticed', () => {
  test('of what is in the file, again and again', async () => {
    const file = join(folder(), 'tls.crt')
    writeFileSync(file, 'one')
    const { untilChanged } = watching(file)
    for (let times = 1; times <= 3; times++) {
      writeFileSync(file, `version ${times}`)
      await untilChanged(times)
    }
  })

  test('where a new file takes the name of the old one', async () => {
    const file = join(folder(), 'tls.crt')
    writeFileSync(file, 'one')
    const { untilChanged } = watching(file)
    for (let times = 1; times <= 3; times++) {
      writeFileSync(`${file}.new`, 'same size')
      renameSync(`${file}.new`, file)
      await untilChanged(times)
    }
  })

  test('where Kubernetes swaps the link of a Secret', async () => {
    const root = folder()
    const swap = (version: string): void => {
      mkdirSync(join(root, version))
      writeFileSync(join(root, version, 'tls.crt'), version)
      symlinkSync(version, join(root, '..data_tmp'))
      renameSync(join(root, '..data_tmp'), join(root, '..data'))
    }
    swap('..2026_1')
    symlinkSync(join('..data', 'tls.crt'), join(root, 'tls.crt'))
    const { untilChanged } = watching(join(root, 'tls.crt'))
    for (let times = 1; times <= 3; times++) {
      swap(`..2026_${times + 1}`)
      rmSync(join(root, `..2026_${times}`), { recursive: true })
      await untilChanged(times)
    }
  })

  test('where certbot replaces a link that the file is a link to', async () => {
    const [here, live] = [folder(), folder()]
    const renew = (version: number): void => {
      writeFileSync(join(live, `cert${version}.pem`), String(version))
      rmSync(join(live, 'cert.pem'), { force: true })
      symlinkSync(`cert${version}.pem`, join(live, 'cert.pem'))
    }
    renew(1)
    symlinkSync(join(live, 'cert.pem'), join(here, 'tls.crt'))
    const { untilChanged } = watching(join(here, 'tls.crt'))
    renew(2)
    await untilChanged(1)
    renew(3)
    await untilChanged(2)
  })

  test('where the folder is made anew, and in the new folder', async () => {
    const root = folder()
    const file = join(root, 'tls.crt')
    writeFileSync(file, 'one')
    const { untilChanged, changes } = watching(file)
    rmSync(root, { recursive: true })
    await untilChanged(1)
    mkdirSync(root)
    writeFileSync(file, 'two')
    await untilChanged(2)
    const before = changes()
    writeFileSync(file, 'three')
    await untilChanged(before + 1)
  })

  test('where the folder is a link that is swapped', async () => {
    const root = folder()
    const link = join(root, 'current')
    for (const version of ['one', 'two']) {
      mkdirSync(join(root, version))
      writeFileSync(join(root, version, 'tls.crt'), version)
    }
    symlinkSync('one', link)
    const { untilChanged } = watching(join(link, 'tls.crt'))
    symlinkSync('two', `${link}.new`)
    renameSync(`${link}.new`, link)
    await untilChanged(1)
    writeFileSync(join(root, 'two', 'tls.crt'), 'changed')
    await untilChanged(2)
  })

  test('where a folder far above is a link that is swapped', async () => {
    const root = folder()
    const link = join(root, 'current')
    for (const version of ['one', 'two']) {
      mkdirSync(join(root, version, 'deploy', 'tls'), { recursive: true })
      writeFileSync(join(root, version, 'deploy', 'tls', 'tls.crt'), version)
    }
    symlinkSync('one', link)
    const { untilChanged } = watching(join(link, 'deploy', 'tls', 'tls.crt'))
    symlinkSync('two', `${link}.new`)
    renameSync(`${link}.new`, link)
    await untilChanged(1)
    writeFileSync(join(root, 'two', 'deploy', 'tls', 'tls.crt'), 'changed')
    await untilChanged(2)
  })

  test('where a link on the way leads to itself for a while', async () => {
    const root = folder()
    const link = join(root, 'current')
    mkdirSync(join(root, 'one', 'deploy'), { recursive: true })
    const file = join(root, 'one', 'deploy', 'tls.crt')
    writeFileSync(file, 'one')
    symlinkSync('one', link)
    const { untilChanged } = watching(join(link, 'deploy', 'tls.crt'))
    const swap = (to: string): void => {
      symlinkSync(to, `${link}.new`)
      renameSync(`${link}.new`, link)
    }
    swap('current')
    await untilChanged(1)
    swap('one')
    await untilChanged(2)
  })

  test('where the file goes, and comes back', async () => {
    const file = join(folder(), 'tls.crt')
    writeFileSync(file, 'one')
    const { untilChanged } = watching(file)
    unlinkSync(file)
    await untilChanged(1)
    writeFileSync(file, 'one')
    await untilChanged(2)
  })
})

test('changes of two files at a time are told once', async () => {
  const root = folder()
  const files = ['tls.crt', 'tls.key'].map((name) => join(root, name))
  for (const file of files) writeFileSync(file, 'one')
  const { untilChanged, changes } = watching(...files)
  for (const file of files) writeFileSync(file, 'another')
  await untilChanged(1)
  await pause(400)
  expect(changes()).toBe(1)
})

test('what becomes of other files of the folder is not told', async () => {
  const root = folder()
  const file = join(root, 'tls.crt')
  writeFileSync(file, 'one')
  const { changes } = watching(file)
  writeFileSync(join(root, 'other'), 'x')
  await pause(600)
  expect(changes()).toBe(0)
})

test('a watch that is closed tells nothing, not even what it has just seen', async () => {
  const file = join(folder(), 'tls.crt')
  writeFileSync(file, 'one')
  const onChange = vi.fn()
  const watch = watchFiles([file], onChange)
  writeFileSync(file, 'two')
  await pause(50)
  watch.close()
  await pause(400)
  expect(onChange).not.toHaveBeenCalled()
})

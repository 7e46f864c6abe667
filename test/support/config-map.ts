import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** Files in a folder as Kubernetes mounts a ConfigMap or a Secret: each is a link into `..data`, which is a link that is swapped. */
export class ConfigMap {
  readonly folder = mkdtempSync(join(tmpdir(), 'chute-config-map-'))
  #version = 0

  /** @param atEnd gets what removes the folder. Left out: the end of the test, which vitest knows unless tests run side by side. */
  constructor(
    files: Readonly<Record<string, string>>,
    atEnd: (cleanUp: () => void) => void = onTestFinished,
  ) {
    atEnd(() => rmSync(this.folder, { recursive: true, force: true }))
    // For the user of a container.
    chmodSync(this.folder, 0o755)
    this.swap(files)
    for (const name of Object.keys(files)) symlinkSync(join('..data', name), this.path(name))
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  /** Changes all files at once. A file that is left out is gone. */
  swap(files: Readonly<Record<string, string>>): void {
    const version = `..version_${++this.#version}`
    mkdirSync(this.path(version))
    for (const [name, content] of Object.entries(files))
      writeFileSync(this.path(join(version, name)), content)
    symlinkSync(version, this.path('..data_tmp'))
    renameSync(this.path('..data_tmp'), this.path('..data'))
    rmSync(this.path(`..version_${this.#version - 1}`), { recursive: true, force: true })
  }
}

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  interface ProvidedContext {
    /** The built command line, as arguments of Node. */
    builtChute: readonly string[]
  }
}

/**
 * Builds what is spawned in tests, once for the run: a process starts with half of the CPU time that its sources take. The
 * folder is not `dist/`, which others may be building.
 */
export async function setup(project: TestProject): Promise<void> {
  project.provide('builtChute', [`${folder}/main.js`])
  // The projects have set-ups of their own, in one process.
  const run = globalThis as { [built]?: Promise<unknown> }
  run[built] ??= promisify(execFile)('npx', ['tsc', ...buildArguments])
  await run[built]
}

const built = Symbol.for('chute.built')
const folder = 'dist-test'
/** Types are checked by `npm run check`. What is built already stays as it is: another run may be starting it. */
const buildArguments = [
  '-p',
  'tsconfig.build.json',
  '--noCheck',
  '--outDir',
  folder,
  '--incremental',
  '--tsBuildInfoFile',
  `${folder}/.tsbuildinfo`,
]

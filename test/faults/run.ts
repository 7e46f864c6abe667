import { spawnSync } from 'node:child_process'
import { writeFigures } from './harness/page.ts'
import { forget, kept } from './harness/results.ts'

/**
 * `npm run faults [-- NAME …]`: the full form of the fault suite, all of it or the files of these names, and the figures of
 * docs/reliability.md from what it measured. Each run has another seed, and prints the seed. It takes about 50 minutes, and a machine that does nothing else.
 */
const names = process.argv.slice(2)
if (names.length === 0) forget()
const { status } = spawnSync('npx', ['vitest', 'run', '--project', 'faults', ...names], {
  stdio: 'inherit',
  env: { PROMISE_SEED: 'random', ...process.env, CHUTE_FAULTS: 'full' },
})
writeFigures(kept())
process.exit(status ?? 1)

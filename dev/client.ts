import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { buildClient } from './build-client.ts'

/**
 * Writes `public/chute.js`, which the gateway serves; with `--check` it only compares, and fails when the file is out of step
 * with `client/`.
 */
const file = new URL('../public/chute.js', import.meta.url)
const script = await buildClient()
if (!process.argv.includes('--check')) {
  writeFileSync(file, script)
} else if (!existsSync(file) || readFileSync(file, 'utf8') !== script) {
  process.stderr.write('public/chute.js is out of step with client/: run `npx tsx dev/client.ts`\n')
  process.exitCode = 1
}

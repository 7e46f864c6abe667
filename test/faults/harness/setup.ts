import { execFileSync } from 'node:child_process'

/** The built gateway: what users run, and it starts in a fraction of the time. Apart from `dist/`, which others may be building. */
export const builtChute: readonly string[] = ['dist-faults/main.js']

/** Builds the gateway once for the whole project. */
export function setup(): void {
  const args = ['tsc', '-p', 'tsconfig.build.json', '--outDir', 'dist-faults']
  execFileSync('npx', args, { stdio: ['ignore', 'inherit', 'inherit'] })
}

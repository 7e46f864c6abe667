import { execFileSync } from 'node:child_process'

/** Builds the gateway once for the whole project: the suite judges what users run. */
export function setup(): void {
  execFileSync('npm', ['run', 'build'], { stdio: 'ignore' })
}

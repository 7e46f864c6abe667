import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * Prints what the package consists of when it runs, as CycloneDX: the packages of package-lock.json without those that only development
 * needs. `npm sbom --omit=dev` also leaves out packages that development needs besides, such as zod, so this script chooses them itself. npm
 * calls the package by the name of its folder, and this script calls it by its own.
 */
interface Bom {
  metadata: { component: { 'bom-ref': string; name: string } }
  components: { 'bom-ref': string; name: string; version: string }[]
  dependencies: { ref: string; dependsOn: string[] }[]
}

function read(path: string): unknown {
  return JSON.parse(readFileSync(new URL(`../${path}`, import.meta.url), 'utf8'))
}

const { name } = read('package.json') as { name: string }
const { packages } = read('package-lock.json') as {
  packages: Record<string, { version: string; dev?: boolean }>
}
const options = ['--sbom-format=cyclonedx', '--sbom-type=application', '--package-lock-only']
const text = execFileSync('npm', ['sbom', ...options], { encoding: 'utf8', maxBuffer: 1 << 26 })
const bom = JSON.parse(text) as Bom

const { component } = bom.metadata
component.name = name
const shipped = new Set(
  Object.entries(packages)
    .filter(([, { dev }]) => dev !== true)
    .map(([path, { version }]) => `${path.split('node_modules/').at(-1)!}@${version}`),
)
bom.components = bom.components.filter((each) => shipped.has(`${each.name}@${each.version}`))
const kept = new Set([component['bom-ref'], ...bom.components.map((each) => each['bom-ref'])])
bom.dependencies = bom.dependencies
  .filter(({ ref }) => kept.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((each) => kept.has(each)) }))
process.stdout.write(`${JSON.stringify(bom, null, 2)}\n`)

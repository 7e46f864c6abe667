import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { flawsOfRelease, flawsOfSections, flawsOfVersions, type Files } from './release-flaws.ts'

/**
 * `npm run release -- X.Y.Z`: says whether this commit can be released as X.Y.Z, and which commands release it. It changes nothing.
 * `--check`: whether all files have one version, whichever it is, and the changelog says nothing twice.
 */
const usage = 'usage: npm run release -- X.Y.Z\n'

function fileOf(path: string): string {
  return readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
}

function git(...args: string[]): string {
  return execFileSync('git', args, { encoding: 'utf8' }).trim()
}

const files: Files = {
  manifest: fileOf('package.json'),
  lock: fileOf('package-lock.json'),
  openapi: fileOf('openapi.yaml'),
  chart: fileOf('deploy/helm/chute/Chart.yaml'),
  changelog: fileOf('CHANGELOG.md'),
}

function run([argument, ...others]: readonly string[]): number {
  if (argument === '--check' && others.length === 0)
    return tell([...flawsOfVersions(files), ...flawsOfSections(files.changelog)])
  if (argument === undefined || argument.startsWith('-') || others.length > 0) {
    process.stderr.write(usage)
    return 2
  }
  const version = argument.replace(/^v/, '')
  const flaws = [...flawsOfRelease(version, files)]
  if (git('status', '--porcelain') !== '') flaws.push('the work tree has changes: commit them')
  if (git('tag', '--list', `v${version}`) !== '') flaws.push(`there is a tag v${version}`)
  if (tell(flaws) !== 0) return 1
  process.stdout.write(`${version} can be released:

  npm run check && npm test && test/image/run
  git tag --annotate v${version} --message 'Chute ${version}'
  npm run --silent sbom > chute-${version}.cdx.json
  npm publish                      # builds dist/ from nothing
  docker build --build-arg VERSION=${version} --build-arg REVISION=$(git rev-parse HEAD) --tag chute:${version} .
  helm package deploy/helm/chute
`)
  return 0
}

function tell(flaws: readonly string[]): number {
  for (const flaw of flaws) process.stderr.write(`${flaw}\n`)
  return flaws.length === 0 ? 0 : 1
}

process.exitCode = run(process.argv.slice(2))

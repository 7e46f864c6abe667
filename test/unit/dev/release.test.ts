import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { flawsOfRelease, flawsOfSections, flawsOfVersions, type Files } from '../../../dev/release-flaws.ts'
import { isLong } from '../../support/forms.ts'

function filesWith(versions: Partial<Record<keyof Files | 'locked' | 'appVersion', string>> = {}): Files {
  const of = (name: keyof typeof versions): string => versions[name] ?? '1.2.3'
  return {
    manifest: JSON.stringify({ version: of('manifest') }),
    lock: JSON.stringify({ version: of('lock'), packages: { '': { version: of('locked') } } }),
    openapi: `info:\n  version: ${of('openapi')}\n`,
    chart: `version: ${of('chart')}\nappVersion: ${of('appVersion')}\n`,
    changelog:
      versions.changelog ?? '# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-01-31\n\n### Added\n\n- all\n',
  }
}

describe('a release', () => {
  test('of files that agree has no flaw', () => {
    expect(flawsOfRelease('1.2.3', filesWith())).toEqual([])
    expect(flawsOfRelease('1.2.3', filesWith({ changelog: '## 1.2.3 - 2026-01-31\n- all\n' }))).toEqual([])
    expect(flawsOfVersions(filesWith())).toEqual([])
  })

  test.each([
    ['manifest', 'package.json says 1.2.4'],
    ['lock', 'package-lock.json says 1.2.4'],
    ['locked', 'package-lock.json (packages) says 1.2.4'],
    ['openapi', 'openapi.yaml (info.version) says 1.2.4'],
    ['chart', 'deploy/helm/chute/Chart.yaml (version) says 1.2.4'],
    ['appVersion', 'deploy/helm/chute/Chart.yaml (appVersion) says 1.2.4'],
  ] as const)('is refused where %s has another version', (name, says) => {
    const files = filesWith({ [name]: '1.2.4' })
    expect(flawsOfRelease('1.2.3', files)).toEqual([`${says}, and not 1.2.3`])
    const others = flawsOfVersions(files)
    if (name === 'manifest') expect(others).toHaveLength(5)
    else expect(others).toEqual([`${says}, and package.json says 1.2.3`])
  })

  test.each([
    ['## Unreleased\n\n- all\n', /lines under Unreleased/],
    ['## Unreleased\n\n## 1.2.2 - 2026-01-31\n- all\n', /begins with “1\.2\.2 - 2026-01-31”/],
    ['## Unreleased\n\n## 1.2.3\n- all\n', /begins with “1\.2\.3”/],
    ['## Unreleased\n\n## 1.2.3 - 2026-13-01\n- all\n', /no date/],
    ['## Unreleased\n\n## 1.2.3 - 2026-01-31\n\n## 1.2.2 - 2026-01-01\n- all\n', /says nothing of 1\.2\.3/],
    ['# Changelog\n', /begins with “”/],
  ])('is refused where the changelog is %j', (changelog, flaw) => {
    expect(flawsOfRelease('1.2.3', filesWith({ changelog })).join('\n')).toMatch(flaw)
  })

  test('is refused where the changelog has a heading or a line twice, and not where another version has it', () => {
    const once = '### Added\n\n- one\n\n### Fixed\n\n- another\n'
    const released = `## 1.2.3 - 2026-01-31\n\n${once}`
    expect(flawsOfSections(`## Unreleased\n\n${once}\n${released}`)).toEqual([])
    const changelog = `${released}\n### Added\n\n- one\n  of the other branch\n`
    expect(flawsOfRelease('1.2.3', filesWith({ changelog }))).toEqual([
      'CHANGELOG.md has this twice under 1.2.3 - 2026-01-31: ### Added',
      'CHANGELOG.md has this twice under 1.2.3 - 2026-01-31: - one',
    ])
  })

  test('of something that is no version is refused', () => {
    expect(flawsOfRelease('next', filesWith())).toEqual(['next is no version: write 1.2.3'])
  })

  test.runIf(isLong)('of this commit under another version fails, and tells each file that disagrees', () => {
    const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'dev/release.ts', '99.0.0'], {
      encoding: 'utf8',
    })
    expect(status).toBe(1)
    for (const name of ['package.json', 'package-lock.json', 'openapi.yaml', 'Chart.yaml', 'CHANGELOG.md'])
      expect(stderr).toContain(name)
    const checked = spawnSync(process.execPath, ['--import', 'tsx', 'dev/release.ts', '--check'])
    expect([checked.status, String(checked.stderr)]).toEqual([0, ''])
  })
})

test.runIf(isLong)('npm run sbom lists the packages that the product runs with, and no others', () => {
  const text = execFileSync(process.execPath, ['--import', 'tsx', 'dev/sbom.ts'], { encoding: 'utf8' })
  const bom = JSON.parse(text) as {
    bomFormat: string
    metadata: { component: { name: string; version: string; purl: string } }
    components: { purl: string }[]
  }
  const { name, version } = JSON.parse(readFileSync('package.json', 'utf8')) as {
    name: string
    version: string
  }
  expect(bom.bomFormat).toBe('CycloneDX')
  expect(bom.metadata.component).toMatchObject({ name, version, purl: `pkg:npm/${purl(name)}@${version}` })
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, { version: string; dev?: boolean }>
  }
  const shipped = Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true)
    .map(([path, each]) => `pkg:npm/${purl(path.split('node_modules/').at(-1)!)}@${each.version}`)
  const listed = new Set(bom.components.map((each) => each.purl))
  expect(shipped.filter((each) => !listed.has(each))).toEqual([])
  expect([...listed].filter((each) => !shipped.includes(each))).toEqual([])
})

/** A name as package URLs have it. */
function purl(name: string): string {
  return name.replace('@', '%40')
}

test.runIf(isLong)(
  'npm pack has what the package runs with and is deployed by, and nothing of development',
  () => {
    const text = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [pack] = JSON.parse(text) as [{ name: string; files: { path: string }[] }]
    expect(pack.name).toMatch(/^@[\w-]+\/chute$/)
    // `dist` is there when the package was built. test/e2e/shipped-package.test.ts looks into it.
    const files = pack.files.map(({ path }) => path).filter((path) => !path.startsWith('dist/'))
    const tops = new Set(files.map((path) => path.split('/', 1)[0]))
    const expected = [
      'deploy',
      'public',
      'openapi.yaml',
      'package.json',
      'README.md',
      'CHANGELOG.md',
      'LICENSE',
      'SECURITY.md',
    ]
    expect(tops).toEqual(new Set(expected))
    for (const path of [
      'public/chute.js',
      'public/swagger-ui-licenses.txt',
      'deploy/prometheus/rules/chute.yml',
      'deploy/grafana/dashboards/chute.json',
      'deploy/haproxy/haproxy.cfg',
      'deploy/helm/chute/Chart.yaml',
      'deploy/helm/chute/templates/_helpers.tpl',
      'deploy/tracing/otel.mjs',
    ])
      expect(files).toContain(path)
    // Keys that everybody knows, and what only tests read.
    expect(files.filter((path) => /(?:^|[./])(?:test|ci|keys|spec)[./]|\.ts$|\.map$/.test(path))).toEqual([])
  },
)

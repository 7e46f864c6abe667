import { parse } from 'yaml'

/** The texts of the files that name a version. */
export interface Files {
  readonly manifest: string
  readonly lock: string
  readonly openapi: string
  readonly chart: string
  readonly changelog: string
}

/** What keeps the files from being released as `version`, a line each. */
export function flawsOfRelease(version: string, files: Files): string[] {
  if (!/^\d+\.\d+\.\d+(?:-[\d.A-Za-z-]+)?$/.test(version)) return [`${version} is no version: write 1.2.3`]
  const wrong = [...versionsOf(files)].filter(([, found]) => found !== version)
  return [
    ...wrong.map(([where, found]) => `${where} says ${found}, and not ${version}`),
    ...flawsOfChangelog(version, files.changelog),
    ...flawsOfSections(files.changelog),
  ]
}

/** Whether all files but the changelog name the version of package.json, a line for each that does not. */
export function flawsOfVersions(files: Files): string[] {
  const [[, version], ...others] = [...versionsOf(files)] as [
    readonly [string, string],
    ...[string, string][],
  ]
  return others
    .filter(([, found]) => found !== version)
    .map(([where, found]) => `${where} says ${found}, and package.json says ${version}`)
}

function versionsOf({ manifest, lock, openapi, chart }: Files): Map<string, string> {
  const { version } = JSON.parse(manifest) as { version: string }
  const locked = JSON.parse(lock) as { version: string; packages: Record<string, { version: string }> }
  const { info } = parse(openapi) as { info: { version: string } }
  const charted = parse(chart) as { version: string; appVersion: string }
  return new Map([
    ['package.json', version],
    ['package-lock.json', locked.version],
    ['package-lock.json (packages)', locked.packages['']!.version],
    ['openapi.yaml (info.version)', info.version],
    ['deploy/helm/chute/Chart.yaml (version)', charted.version],
    ['deploy/helm/chute/Chart.yaml (appVersion)', charted.appVersion],
  ])
}

/** The newest section of a changelog that is to be released has the version and a date, and nothing is left above it. */
function flawsOfChangelog(version: string, changelog: string): string[] {
  const [, ...sections] = changelog.split(/^## /m)
  const [unreleased = '', newest = ''] =
    sections[0]?.startsWith('Unreleased') === true ? sections : ['', ...sections]
  const flaws: string[] = []
  if (/^- /m.test(unreleased))
    flaws.push(`CHANGELOG.md has lines under Unreleased: move them under ## ${version} - DATE`)
  const [heading = ''] = newest.split('\n', 1)
  const [, named, date] = /^\[?([\w.-]+?)\]? - (\d{4}-\d\d-\d\d)$/.exec(heading) ?? []
  if (named !== version)
    flaws.push(`CHANGELOG.md begins with “${heading}”, and not with ## ${version} - DATE`)
  else if (Number.isNaN(Date.parse(date!))) flaws.push(`CHANGELOG.md has no date of ${version}: ${date}`)
  else if (!/^- /m.test(newest)) flaws.push(`CHANGELOG.md says nothing of ${version}`)
  return flaws
}

/** A version of a changelog has each heading once, and says nothing twice: branches that were merged leave such copies. A line for each. */
export function flawsOfSections(changelog: string): string[] {
  const [, ...versions] = changelog.split(/^## /m)
  return versions.flatMap((text) => {
    const [version = ''] = text.split('\n', 1)
    const twice = [...repeated(text.match(/^### .*$/gm)), ...repeated(text.match(/^- .*$/gm))]
    return twice.map((line) => `CHANGELOG.md has this twice under ${version}: ${line.slice(0, 80)}`)
  })
}

function repeated(lines: readonly string[] | null): Set<string> {
  return new Set(lines?.filter((line, place) => lines.indexOf(line) < place))
}

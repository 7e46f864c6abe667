import { readFileSync, writeFileSync } from 'node:fs'
import { isMap, isScalar, parseDocument, type Node, type Pair, type YAMLMap } from 'yaml'

/**
 * Writes what the Helm chart has of other files: the alert rules, the dashboard, and the table of values in its README, which
 * comes from the comments of values.yaml. With `--check` it only compares, and fails when one of them is out of step. A chart
 * cannot read what is outside of its folder.
 */
const root = new URL('../', import.meta.url)
const chart = new URL('deploy/helm/chute/', root)

function read(path: string, base = root): string {
  return readFileSync(new URL(path, base), 'utf8')
}

/** One row a value that can be set: a scalar, a list, an object in one line, or an object whose members have no meaning of their own. */
function rowsOf(map: YAMLMap, prefix: string): string[] {
  const pairs = map.items as Pair<Node, Node | null>[]
  return pairs.flatMap(({ key, value }, index) => {
    // A comment in front of the first member is that of the whole object.
    const comment = key.commentBefore ?? (index === 0 && prefix !== '' ? map.commentBefore : null) ?? ''
    const name = `${prefix}${String(isScalar(key) ? key.value : key)}`
    const meaning = comment
      .split('\n')
      .map((line) => line.trim())
      .join(' ')
    if (isMap(value) && !value.flow && value.items.length > 0) {
      const inner = rowsOf(value, `${name}.`)
      return meaning === '' || value.commentBefore === comment ? inner : [row(name, '', meaning), ...inner]
    }
    return [row(name, JSON.stringify(value?.toJSON() ?? null), meaning)]
  })
}

function row(name: string, value: string, meaning: string): string {
  return `| \`${name}\` | ${value === '' ? '' : `\`${value.replaceAll('|', '\\|')}\``} | ${meaning.replaceAll('|', '\\|')} |`
}

function tableOfValues(): string {
  const values = parseDocument(read('values.yaml', chart)).contents
  if (!isMap(values)) throw new Error('values.yaml is no object')
  return ['| value | default | meaning |', '|---|---|---|', ...rowsOf(values, '')].join('\n')
}

const readme = read('README.md', chart)
const between = /(<!-- values -->\n).*(\n<!-- \/values -->)/s
if (!between.test(readme)) throw new Error('README.md has no place for the values')

const wanted = {
  'README.md': readme.replace(
    between,
    (_, before: string, behind: string) => before + tableOfValues() + behind,
  ),
  'files/rules.yml': read('deploy/prometheus/rules/chute.yml'),
  'files/dashboard.json': read('deploy/grafana/dashboards/chute.json'),
}
const isCheck = process.argv.includes('--check')
for (const [path, text] of Object.entries(wanted)) {
  const file = new URL(path, chart)
  let present: string | null = null
  try {
    present = readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  if (present === text) continue
  if (isCheck) {
    process.stderr.write(`deploy/helm/chute/${path} is out of step: run npx tsx dev/chart.ts\n`)
    process.exitCode = 1
  } else writeFileSync(file, text)
}

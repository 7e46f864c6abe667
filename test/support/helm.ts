import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { parseAllDocuments, stringify } from 'yaml'

/** The chart of the project. */
export const chartFolder = 'deploy/helm/chute'

/** The files of values that come with the chart, one for each kind of broker, by name. */
export const valueFiles = Object.fromEntries(
  readdirSync(join(chartFolder, 'ci')).map((file) => [
    file.replace(/-values\.yaml$/, ''),
    join(chartFolder, 'ci', file),
  ]),
)

const helm = process.env['HELM'] ?? 'helm'
const validator = process.env['KUBERNETES_VALIDATE'] ?? 'kubernetes-validate'

/** Helm is there: `HELM`, or on the path. */
export const hasHelm = spawnSync(helm, ['version']).error === undefined

/** `kubernetes-validate` of PyPI, which brings Kubernetes' schemas, is there: `KUBERNETES_VALIDATE`, or on the path. */
export const hasValidator = spawnSync(validator, ['--version']).error === undefined

/** What a tool said. */
export interface ToolResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function run(command: string, ...argv: readonly string[]): ToolResult {
  const { status, stdout, stderr, error } = spawnSync(command, argv, {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  })
  if (error !== undefined) throw error
  return { code: status, stdout, stderr }
}

/** `helm lint` with a file of values. */
export function lint(values: string): ToolResult {
  return run(helm, 'lint', '--strict', chartFolder, '--values', values)
}

/** Writes values to a file that is gone after the test. */
export function valuesFile(values: object): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-values-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'values.yaml')
  writeFileSync(file, stringify(values))
  return file
}

/** `helm template` with files of values, of which a later one wins. */
export function template(...files: readonly string[]): ToolResult {
  const values = files.flatMap((file) => ['--values', file])
  return run(helm, 'template', 'chute', chartFolder, '--namespace', 'events', ...values)
}

/** An object of Kubernetes. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type KubernetesObject = { kind: string; metadata: { name: string } } & Record<string, any>

/** The objects that the chart makes of values, by `Kind/name`. */
export function render(...files: readonly string[]): Record<string, KubernetesObject> {
  const { code, stdout, stderr } = template(...files)
  if (code !== 0) throw new Error(stderr)
  const objects = parseAllDocuments(stdout).map((document) => document.toJS() as KubernetesObject | null)
  return Object.fromEntries(
    objects.flatMap((each) => (each === null ? [] : [[`${each.kind}/${each.metadata.name}`, each]])),
  )
}

/** Compares objects with Kubernetes' own schemas; a member that the schema does not have is refused. */
export function validate(objects: readonly KubernetesObject[]): ToolResult {
  const file = valuesFile({})
  writeFileSync(
    file,
    objects.map((each) => stringify(each, { aliasDuplicateObjects: false })).join('\n---\n'),
  )
  return run(validator, '--strict', '--kubernetes-version', kubernetesVersion, file)
}

const kubernetesVersion = '1.33'

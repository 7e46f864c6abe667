import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { isLong } from '../../support/forms.ts'

test.runIf(isLong)(
  'a test that passes at its second try is named with the reason, behind the summary and in the JSON report',
  () => {
    // Inside the project, where `vitest` is found.
    const folder = mkdtempSync(resolve('node_modules', '.second-tries-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const report = join(folder, 'report.json')
    const reporter = resolve('test/support/second-tries.ts')
    writeFileSync(
      join(folder, 'vitest.config.ts'),
      `import { SecondTries } from ${JSON.stringify(reporter)}
    export default { test: {
      include: ['*.test.ts'], exclude: [], retry: 1,
      reporters: ['default', new SecondTries(), ['json', { outputFile: ${JSON.stringify(report)} }]],
    } }`,
    )
    writeFileSync(
      join(folder, 'some.test.ts'),
      `import { expect, test } from 'vitest'
    let tries = 0
    test('is a flake', () => { expect(tries++, 'the first try fails').toBe(1) })
    test('is good', () => {})`,
    )
    const { stdout, status } = spawnSync(
      process.execPath,
      [resolve('node_modules/vitest/vitest.mjs'), 'run', '--root', folder],
      { encoding: 'utf8' },
    )
    expect(status).toBe(0)
    const [, said = ''] = stdout.split('Tests that failed once and passed at their second try: 1')
    expect(said).toContain('some.test.ts: “is a flake”: the first try fails')
    expect(said).not.toContain('is good')
    const { testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
      testResults: { assertionResults: { title: string; meta: { passedAtSecondTry?: string } }[] }[]
    }
    const told = testResults[0]!.assertionResults.map(({ title, meta }) => [
      title,
      meta.passedAtSecondTry ?? null,
    ])
    expect(told).toEqual([
      ['is a flake', expect.stringContaining('the first try fails') as string],
      ['is good', null],
    ])
  },
)

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { fetchAccount, runAuditCommand } from '../../../src/commands/audit-command.ts'

/** The exit code, and what was said on standard error. Nothing listens at the address of the broker. */
async function endOf(...argv: string[]): Promise<[number, string]> {
  const stderr = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  onTestFinished(() => stderr.mockRestore())
  const code = await runAuditCommand(['--topic', 't', ...argv], { KAFKA_BROKERS: '127.0.0.1:1' })
  return [code, stderr.mock.calls.join('')]
}

test.each(['3', '1800000', '0s', 'm'])(
  'a gap that is no duration with a unit is refused: %s',
  async (gap) => {
    const said = await endOf('--clients', '--session-gap', gap)
    expect(said).toEqual([2, expect.stringContaining(`with its unit, such as 30m, 90s or 1h, got ${gap}`)])
  },
)

test.each(['--json', '--html'])(
  'a file of %s that cannot be written is refused before a topic is read',
  async (option) => {
    const folder = mkdtempSync(join(tmpdir(), 'chute-audit-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const old = join(folder, 'old')
    writeFileSync(old, 'report')
    for (const file of [join(folder, 'nope', 'x'), join(old, 'x'), folder])
      expect(await endOf(option, file)).toEqual([
        2,
        expect.stringContaining(`${option} ${file} cannot be written`),
      ])
    // A file that can be written stays as it is until there is a report.
    const gateway = ['--gateway', 'http://127.0.0.1:1']
    for (const file of [old, join(folder, 'new')])
      expect(await endOf(option, file, ...gateway)).toEqual([
        1,
        expect.stringContaining('--gateway names another'),
      ])
    expect(readdirSync(folder)).toEqual(['old'])
    expect(readFileSync(old, 'utf8')).toBe('report')
  },
)

test('a gateway that does not answer is told with the option that names another one', async () => {
  await expect(fetchAccount('http://127.0.0.1:1')).rejects.toThrow(
    /ECONNREFUSED[^]*Is the gateway there\? --gateway names another one/,
  )
})

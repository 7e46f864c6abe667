import { existsSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { buildGateway } from '../../src/app.ts'
import { runCheckCommand } from '../../src/commands/check-command.ts'
import { logStart } from '../../src/commands/serve-log.ts'
import { loadConfig } from '../../src/config/load-config.ts'
import { LogKeeper } from '../support/producer-fixture.ts'

const memory = '/dev/shm'

/** Nobody listens on port 1: Kafka is away. */
function inMemory(ephemeral: string): { env: NodeJS.ProcessEnv; dataDir: string } {
  const folder = mkdtempSync(join(memory, 'chute-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const streams = {
    once: { topic: 'once', delivery: 'exactly-once' },
    critical: { topic: 'critical', delivery: 'at-least-once' },
  }
  const file = join(folder, 'chute.json')
  writeFileSync(file, JSON.stringify({ streams }))
  const dataDir = join(folder, 'data')
  return {
    env: {
      KAFKA_BROKERS: '127.0.0.1:1',
      CHUTE_CONFIG: file,
      CHUTE_DATA_DIR: dataDir,
      CHUTE_DATA_DIR_EPHEMERAL: ephemeral,
    },
    dataDir,
  }
}

const tmpfs = 0x01021994
test.skipIf(!existsSync(memory) || statfsSync(memory).type !== tmpfs).each([
  { says: 'does not call it durable', ephemeral: 'false', suffix: '' },
  { says: 'calls it durable where that is wanted', ephemeral: 'true', suffix: '; durable' },
])('a gateway takes a data folder in memory, and $says', async ({ ephemeral, suffix }) => {
  const { env, dataDir } = inMemory(ephemeral)
  const isWanted = ephemeral === 'true'
  const warning =
    `CHUTE_DATA_DIR: ${dataDir} is on tmpfs and goes with the memory that holds it, so no 202 says durable. ` +
    'Mount a volume there, or set CHUTE_DATA_DIR_EPHEMERAL=true to have it called durable all the same.'

  const logs = new LogKeeper()
  const config = loadConfig(env)
  const gateway = buildGateway(config, logs)
  onTestFinished(async () => void (await gateway.stop()))
  const delivered = async (stream: string) => {
    const { statusCode, headers } = await gateway.server.inject({
      method: 'POST',
      url: `/v1/streams/${stream}`,
      headers: { 'idempotency-key': '"a"' },
      payload: { name: 'a', value: 1 },
    })
    return [statusCode, headers['chute-delivery']]
  }
  expect(await delivered('critical')).toEqual([202, `at-least-once${suffix}`])
  expect(await delivered('once')).toEqual([202, `exactly-once${suffix}`])
  expect(gateway.report().readiness.checks).toContainEqual({
    name: 'durability',
    ok: true,
    detail: isWanted
      ? 'every 202 that says durable is on a disk that stays, or CHUTE_DATA_DIR_EPHEMERAL has it so'
      : 'CHUTE_DATA_DIR is on a file system that does not stay, so no 202 says durable: once, critical',
  })

  logStart(config, { url: 'http://127.0.0.1:8080', adminUrl: null }, logs)
  const said = logs.lines.map(({ message }) => message)
  expect(said.filter((message) => message.startsWith('CHUTE_DATA_DIR'))).toEqual(isWanted ? [] : [warning])
  expect(said.filter((message) => message.includes('answered from disk'))).toHaveLength(2)
  expect(said.join('\n')).not.toContain('power cut')

  const [stdout, stderr] = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')]
  onTestFinished(() => void vi.restoreAllMocks())
  stdout.mockImplementation(((_text: string, written?: () => void) => {
    written?.()
    return true
  }) as typeof process.stdout.write)
  stderr.mockReturnValue(true)
  expect(await runCheckCommand([], env)).toBe(0)
  expect(stderr.mock.calls.map(([text]) => text)).toEqual(isWanted ? [] : [`warning: ${warning}\n`])
})

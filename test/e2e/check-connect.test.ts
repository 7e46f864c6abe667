import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, inject, test } from 'vitest'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic } from '../support/independent-reader.ts'
import { chuteArguments, chuteEnvironment } from '../support/served-gateway.ts'

const folder = mkdtempSync(join(tmpdir(), 'chute-check-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** `chute check --connect` for one stream. */
async function check(
  topic: string,
  env: NodeJS.ProcessEnv,
  timeoutMs = 15_000,
  more: object = {},
): Promise<{ code: number | null; lines: string[] }> {
  const config = join(folder, `${topic}.json`)
  writeFileSync(config, JSON.stringify({ streams: { s: { topic, delivery: 'at-most-once', ...more } } }))
  const words = ['check', '--connect', '--timeout-ms', String(timeoutMs)]
  return await new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...chuteArguments, ...words],
      { env: chuteEnvironment({ CHUTE_CONFIG: config, ...env }) },
      (_, stdout) => resolve({ code: child.exitCode, lines: stdout.trimEnd().split('\n') }),
    )
  })
}

test('check --connect says that a topic is missing and can be created, and creates none', async () => {
  const topic = `check-${randomUUID()}`
  const env = { KAFKA_BROKERS: inject('kafkaBroker') }
  for (let time = 0; time < 2; time++) {
    const { code, lines } = await check(topic, env)
    expect(lines).toContain(`ok   topics: ${topic}: missing, and created at the start of the gateway`)
    expect(lines).toContain(`ok   broker ${env.KAFKA_BROKERS}: reached (plaintext, no SASL)`)
    expect(code).toBe(0)
  }
})

test.runIf(isLong)(
  'check --connect fails where a topic is missing that is not to be created, and says what to do',
  async () => {
    const topic = `check-${randomUUID()}`
    const env = { KAFKA_BROKERS: inject('kafkaBroker'), KAFKA_CREATE_TOPICS: 'false' }
    const { code, lines } = await check(topic, env, 3_000)
    expect(code).toBe(1)
    expect(lines.find((line) => line.startsWith('FAIL topics'))).toMatch(
      new RegExp(`${topic}.*KAFKA_CREATE_TOPICS=true`),
    )
  },
)

test.runIf(isLong)(
  'check --connect looks at the topic for invalid events, and a topic that can be created hides no fault of another one',
  async () => {
    const topic = `check-${randomUUID()}`
    await createTopic(inject('kafkaBroker'), topic, { partitions: 1 })
    const env = { KAFKA_BROKERS: inject('kafkaBroker'), KAFKA_CREATE_TOPICS: 'false' }
    const invalidTopic = `${topic}-bad`
    const { code, lines } = await check(topic, env, 3_000, { invalidTopic })
    expect(code).toBe(1)
    expect(lines.find((line) => line.startsWith('FAIL topics'))).toContain(invalidTopic)

    const create = { ...env, KAFKA_CREATE_TOPICS: 'true' }
    const both = await check(topic, create, 3_000, { invalidTopic })
    expect(both.lines).toContain(
      `ok   topics: ${invalidTopic}: missing, and created at the start of the gateway`,
    )
    expect(both.code).toBe(0)
  },
)

test('check --connect is content with one broker of several, names the others, and looks at rights and leaders', async () => {
  const topic = `check-${randomUUID()}`
  const broker = inject('kafkaBroker')
  await createTopic(broker, topic, { partitions: 2 })
  const [port] = await freePorts(1)
  const { code, lines } = await check(topic, { KAFKA_BROKERS: `127.0.0.1:${port},${broker}` })
  expect(lines.join('\n')).toMatch(new RegExp(`broker 127.0.0.1:${port}: not reached: `))
  expect(lines).toContain('ok   leaders: a leader of every topic was reached')
  expect(lines).toContain('ok   rights: every topic may be written to')
  expect(lines).toContain('ok   settings: max.message.bytes and cleanup.policy of every topic were read')
  expect(code).toBe(0)
})

test.runIf(isLong)(
  'check --connect fails where no broker is reached, and names the cause of each',
  async () => {
    const [one, other] = await freePorts(2)
    const { code, lines } = await check('t', { KAFKA_BROKERS: `127.0.0.1:${one},127.0.0.1:${other}` }, 1_000)
    expect(code).toBe(1)
    for (const port of [one, other])
      expect(lines.find((line) => line.startsWith(`FAIL broker 127.0.0.1:${port}`))).toMatch(/ECONNREFUSED/)
    expect(lines.find((line) => line.startsWith('FAIL kafka'))).toMatch(/not reached/)
  },
)

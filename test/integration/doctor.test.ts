import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createSocketServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Diagnosis } from '../../src/commands/diagnosis.ts'
import { diagnose } from '../../src/commands/doctor-command.ts'
import { freePorts } from '../support/free-ports.ts'
import { hasRedis, startRedis } from '../support/redis.ts'

/** What the doctor finds where Kafka is away. */
async function findings(env: NodeJS.ProcessEnv, limitMs: number): Promise<Diagnosis[]> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-doctor-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, `${randomUUID()}.json`)
  const streams = { s: { topic: 't', delivery: 'at-least-once', dedupe: 'on' } }
  writeFileSync(file, JSON.stringify({ streams }))
  const [port] = await freePorts(1)
  return await diagnose(
    { CHUTE_CONFIG: file, KAFKA_BROKERS: `127.0.0.1:${port}`, PORT: '0', ...env },
    limitMs,
  )
}

async function listening(server: Server): Promise<string> {
  onTestFinished(() => void server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return String((server.address() as AddressInfo).port)
}

describe.skipIf(!hasRedis)('a Redis', () => {
  test.each([
    ['is well', [], null, null],
    ['is a replica', ['REPLICAOF 127.0.0.1 1'], /READONLY/, /address of the primary/],
    ['has no room', ['CONFIG SET maxmemory 1'], /OOM/, /out of memory: raise maxmemory/],
    [
      'permits its user no write',
      ['ACL SETUSER default +@all -@write'],
      /can't run this command|NOPERM|ACL/,
      /Permit the user/,
    ],
    ['wants another password', ['CONFIG SET requirepass other'], /NOAUTH/, /password in the URL/],
  ])('that %s is told as such, for keys and for limits', async (_, commands, detail, remedy) => {
    const redis = await startRedis()
    onTestFinished(async () => await redis.kill())
    for (const command of commands) expect(await redis.ask(command)).toMatch(/^\+OK/)
    const { url } = redis.store
    const env = { CHUTE_DEDUPE_REDIS_URL: url, RATE_LIMIT_REDIS_URL: url, RATE_LIMIT_MAX: '10' }
    const found = (await findings(env, 5_000)).filter(({ name }) => name.startsWith('Redis'))
    expect(found).toHaveLength(2)
    for (const each of found) {
      expect(each.state, JSON.stringify(each)).toBe(detail === null ? 'ok' : 'failure')
      if (detail !== null) expect(each.detail).toMatch(detail)
      if (remedy !== null) expect(each.remedy).toMatch(remedy)
    }
  })
})

describe('--timeout-ms bounds', () => {
  test('an answer of /readyz that never ends', async () => {
    const server = createServer((_, reply) => {
      reply.writeHead(200)
      const drip = setInterval(() => reply.write(' '), 20)
      reply.on('close', () => clearInterval(drip))
    })
    const found = await findings({ PORT: await listening(server) }, 300)
    expect(found.at(-1)).toMatchObject({
      state: 'failure',
      detail: 'what listens there does not answer: no answer within 300 ms',
    })
  })

  test('a broker that takes connections and says nothing', async () => {
    const port = await listening(createSocketServer((socket) => void socket.on('error', () => {})))
    const env = { KAFKA_BROKERS: `127.0.0.1:${port}`, KAFKA_CONNECTION_TIMEOUT_MS: '60000' }
    const first = (await findings(env, 300)).find(({ state }) => state === 'failure')
    expect(first).toMatchObject({ name: `Kafka 127.0.0.1:${port}`, detail: 'no answer within 300 ms' })
  })

  test('a source of tokens that does not answer', async () => {
    const env = {
      KAFKA_SASL_MECHANISM: 'oauthbearer',
      KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND: 'exec sleep 60',
    }
    const first = (await findings(env, 300)).find(({ state }) => state === 'failure')
    expect(first).toMatchObject({ name: 'token', detail: 'no answer within 300 ms' })
  })
})

import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { compileMskValidator, hasJavac } from '../support/msk-tokens.ts'
import { sumOf } from '../support/parse-exposition.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

const region = 'eu-central-1'
const lifetimeSeconds = 12
/** Longer than the life of the first token and its credentials. */
const loadMs = 14_000

/** A broker that reads MSK's tokens, apart from their signature, and ends a session with its token. */
describe.skipIf(!hasJavac)('a broker with the tokens of AWS_MSK_IAM', () => {
  const folder = mkdtempSync(join(tmpdir(), 'chute-msk-'))
  let kafka: LocalKafka
  let env: NodeJS.ProcessEnv

  beforeAll(async () => {
    const [port] = await freePorts(1)
    const { className, jvmFlag } = compileMskValidator(folder, inject('kafkaClasspath'), region)
    kafka = await startKafka({ properties: listener(port!, className), jvmFlags: [jvmFlag] })
    env = {
      KAFKA_BROKERS: `127.0.0.1:${port}`,
      KAFKA_SASL_MECHANISM: 'aws_msk_iam',
      KAFKA_SASL_AWS_REGION: region,
      KAFKA_CREATE_TOPICS: 'false',
      AWS_CONFIG_FILE: credentialProcess(),
      AWS_EC2_METADATA_DISABLED: 'true',
    }
  })
  afterAll(async () => {
    await kafka?.stop()
    rmSync(folder, { recursive: true })
  })

  /** A file of AWS's settings with a program that prints credentials of some seconds, and writes a line for each. */
  function credentialProcess(): string {
    const [program, config] = [join(folder, 'print.mjs'), join(folder, 'config')]
    writeFileSync(
      program,
      `import { appendFileSync } from 'node:fs'
      appendFileSync(${JSON.stringify(join(folder, 'given'))}, '.')
      const Expiration = new Date(Date.now() + ${lifetimeSeconds * 1_000} + 500).toISOString()
      console.log(JSON.stringify({ Version: 1, AccessKeyId: 'AKIATEST', SecretAccessKey: 's', SessionToken: 't', Expiration }))`,
    )
    writeFileSync(config, `[default]\ncredential_process = ${process.execPath} ${program}\n`)
    return config
  }

  async function start(name: string, more: NodeJS.ProcessEnv = {}): Promise<ServedGateway> {
    for (const stream of ['realtime', 'critical']) await createTopic(kafka.brokers[0]!, `${name}-${stream}`)
    const file = join(folder, `${name}.json`)
    const streams = {
      realtime: { topic: `${name}-realtime`, delivery: 'at-most-once' },
      critical: { topic: `${name}-critical`, delivery: 'at-least-once' },
    }
    writeFileSync(file, JSON.stringify({ streams }))
    const gateway = await serveGateway({ ...env, CHUTE_CONFIG: file, ...more })
    onTestFinished(() => gateway.signal('SIGKILL'))
    return gateway
  }

  test(
    'loses nothing while tokens and credentials end under load, and raises no false alarm',
    { timeout: loadMs + 90_000 },
    async () => {
      const name = `msk-${randomUUID()}`
      const gateway = await start(name)
      await gateway.ready()
      const accepted = { realtime: 0, critical: 0 }
      const endsMs = performance.now() + loadMs
      const load = async (stream: 'realtime' | 'critical'): Promise<void> => {
        while (performance.now() < endsMs) {
          const body = JSON.stringify({ name: 'n', value: accepted[stream] })
          const { status } = await fetch(`${gateway.url}/v1/streams/${stream}`, { method: 'POST', body })
          expect(status).toBe(202)
          accepted[stream]++
          await pause(3)
        }
      }
      await Promise.all([load('realtime'), load('critical')])
      // Each token was made with credentials of its own.
      const given = readFileSync(join(folder, 'given')).length
      expect(given).toBeGreaterThanOrEqual(Math.floor(loadMs / 1_000 / lifetimeSeconds) + 1)
      await gateway.reported((families) => {
        const [lost, dropped] = ['suspected_lost', 'dropped'].map((outcome) =>
          sumOf(families, 'chute_records_total', { outcome }),
        )
        expect([lost, dropped]).toEqual([0, 0])
        return sumOf(families, 'chute_records_pending') === 0
      })
      gateway.signal('SIGTERM')
      expect(await gateway.ended()).toBe(0)
      for (const stream of ['realtime', 'critical'] as const) {
        const landed = await readTopic(kafka.brokers[0]!, `${name}-${stream}`)
        const values = new Set(landed.map(({ value }) => value.toString()))
        expect([values.size, landed.length]).toEqual([accepted[stream], accepted[stream]])
      }
    },
  )

  test('a token for another region is refused, and /readyz says so', async () => {
    const gateway = await start(`msk-${randomUUID()}`, { KAFKA_SASL_AWS_REGION: 'us-east-1' })
    await expect
      .poll(async () => await (await fetch(`${gateway.url}/readyz`)).text(), { timeout: 20_000 })
      .toMatch(/the broker refuses the token: .*invalid_token: host.*look at the region/)
  })
})

function listener(port: number, validator: string): Record<string, string> {
  const all = `PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:${port}`
  const ours = 'listener.name.sasl.oauthbearer'
  return {
    listeners: `${all},CONTROLLER://127.0.0.1:{controllerPort}`,
    'advertised.listeners': all,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'sasl.enabled.mechanisms': 'OAUTHBEARER',
    [`${ours}.sasl.jaas.config`]:
      'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;',
    [`${ours}.sasl.server.callback.handler.class`]: validator,
    [`${ours}.connections.max.reauth.ms`]: '3600000',
  }
}

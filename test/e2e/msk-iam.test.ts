import { randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import {
  bothDeliveries,
  expectAllOnce,
  loadBothDeliveries,
  writeBothDeliveries,
} from '../support/both-deliveries.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic } from '../support/independent-reader.ts'
import { compileMskValidator, hasJavac } from '../support/msk-tokens.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

const region = 'eu-central-1'
const lifetimeSeconds = 12
/** Longer than the life of the first token and its credentials. */
const loadMs = 14_000

/** A broker that reads MSK's tokens, apart from their signature, and ends a session with its token. */
describe.runIf(hasJavac && isLong)('a broker with the tokens of AWS_MSK_IAM', () => {
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
    for (const stream of bothDeliveries) await createTopic(kafka.brokers[0]!, `${name}-${stream}`)
    const file = writeBothDeliveries(folder, name)
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
      const taken = await loadBothDeliveries(gateway, { loadMs, pauseMs: 3 })
      // Each token was made with credentials of its own.
      const given = readFileSync(join(folder, 'given')).length
      expect(given).toBeGreaterThanOrEqual(Math.floor(loadMs / 1_000 / lifetimeSeconds) + 1)
      await expectAllOnce(gateway, { broker: kafka.brokers[0]!, name, taken })
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

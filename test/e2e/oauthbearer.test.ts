import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import {
  bothDeliveries,
  expectAllOnce,
  loadBothDeliveries,
  writeBothDeliveries,
} from '../support/both-deliveries.ts'
import { startReader } from '../support/consume-process.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic } from '../support/independent-reader.ts'
import { issuerClient, startIssuer, type Issuer } from '../support/issuer.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

/** The long form is the bar of the issue: tokens of a minute, ten minutes of load. */
const isLongRun = process.env['CHUTE_TOKENS'] === 'long'
const lifetimeSeconds = isLongRun ? 60 : 12
const loadMs = isLongRun ? 600_000 : isLong ? 24_000 : 14_000

describe.runIf(isLong)('a broker with OAUTHBEARER', () => {
  let issuer: Issuer
  let kafka: LocalKafka
  let env: NodeJS.ProcessEnv

  beforeAll(async () => {
    issuer = await startIssuer()
    const [port] = await freePorts(1)
    kafka = await startKafka({ properties: listener(port!, issuer), jvmFlags: [allowed(issuer)] })
    env = {
      KAFKA_BROKERS: `127.0.0.1:${port}`,
      KAFKA_SASL_MECHANISM: 'oauthbearer',
      KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: issuer.tokenUrl,
      KAFKA_SASL_OAUTHBEARER_CLIENT_ID: issuerClient.id,
      KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET: issuerClient.secret,
      KAFKA_SASL_OAUTHBEARER_SCOPE: 'write',
      KAFKA_SASL_OAUTHBEARER_EXTENSIONS: 'traceId=1',
    }
  })

  afterAll(async () => {
    await kafka?.stop()
    await issuer?.stop()
  })

  async function start(name: string, more: NodeJS.ProcessEnv = {}): Promise<ServedGateway> {
    const folder = mkdtempSync(join(tmpdir(), 'chute-oauth-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = writeBothDeliveries(folder, name)
    const gateway = await serveGateway({ ...env, CHUTE_CONFIG: file, ...more })
    onTestFinished(() => gateway.signal('SIGKILL'))
    return gateway
  }

  test(
    'loses nothing while tokens end under load, and raises no false alarm',
    { timeout: loadMs + 120_000 },
    async () => {
      const name = `oauth-${randomUUID()}`
      // kafkajs's admin, which creates topics, logs in anew ten seconds before a session ends. So it has nothing to do here.
      for (const stream of bothDeliveries) await createTopic(kafka.brokers[0]!, `${name}-${stream}`)
      issuer.lifetimeSeconds = lifetimeSeconds
      onTestFinished(() => {
        issuer.lifetimeSeconds = 60
      })
      const gateway = await start(name, { KAFKA_CREATE_TOPICS: 'false' })
      await gateway.ready()
      const givenBefore = issuer.given
      const taken = await loadBothDeliveries(gateway, { loadMs, pauseMs: 2 })
      expect(issuer.given - givenBefore).toBeGreaterThanOrEqual(Math.floor(loadMs / 1000 / lifetimeSeconds))
      await expectAllOnce(gateway, { broker: kafka.brokers[0]!, name, taken })
    },
  )

  test('consume and audit log in with tokens, too', async () => {
    const name = `oauth-${randomUUID()}`
    const gateway = await start(name)
    await gateway.ready()
    const reader = startReader(
      [
        'consume',
        '--topic',
        `${name}-critical`,
        '--group',
        name,
        '--stdout',
        '--set',
        'auto.offset.reset=earliest',
      ],
      env,
    )
    onTestFinished(() => reader.signal('SIGKILL'))
    const body = '{"name":"n","value":1}'
    expect((await fetch(`${gateway.url}/v1/streams/critical`, { method: 'POST', body })).status).toBe(202)
    await reader.wrote(1)
    const audit = startReader(['audit', '--topic', `${name}-critical`, '--gateway', gateway.url], env)
    onTestFinished(() => audit.signal('SIGKILL'))
    expect(await audit.ended()).toBe(0)
  })

  test('a token that cannot be had is told by /readyz with its cause, and the gateway goes on when it can', async () => {
    issuer.refusal = 'invalid_scope'
    onTestFinished(() => {
      issuer.refusal = null
    })
    const gateway = await start(`oauth-${randomUUID()}`)
    await expect
      .poll(async () => await (await fetch(`${gateway.url}/readyz`)).text(), { timeout: 20_000 })
      .toContain(`no token from ${issuer.tokenUrl}: 400 invalid_scope`)
    issuer.refusal = null
    await gateway.ready()
  })

  test('a broker that refuses the token says so in /readyz', async () => {
    const gateway = await start(`oauth-${randomUUID()}`, {
      KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: '',
      KAFKA_SASL_OAUTHBEARER_CLIENT_ID: '',
      KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET: '',
      KAFKA_SASL_OAUTHBEARER_SCOPE: '',
      KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND: 'echo not.a.token',
    })
    await expect
      .poll(async () => await (await fetch(`${gateway.url}/readyz`)).text(), { timeout: 20_000 })
      .toMatch(/the broker refuses the token: .*invalid_token/)
  })
})

/** Since Kafka 4.0 a broker asks only URLs that its JVM was told. */
function allowed({ jwksUrl }: Issuer): string {
  return `-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=${jwksUrl}`
}

function listener(port: number, { jwksUrl }: Issuer): Record<string, string> {
  const all = `PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:${port}`
  const ours = 'listener.name.sasl.oauthbearer'
  const theirs = 'org.apache.kafka.common.security.oauthbearer'
  return {
    listeners: `${all},CONTROLLER://127.0.0.1:{controllerPort}`,
    'advertised.listeners': all,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'sasl.enabled.mechanisms': 'OAUTHBEARER',
    [`${ours}.sasl.jaas.config`]: `${theirs}.OAuthBearerLoginModule required;`,
    [`${ours}.sasl.server.callback.handler.class`]: `${theirs}.OAuthBearerValidatorCallbackHandler`,
    [`${ours}.sasl.oauthbearer.jwks.endpoint.url`]: jwksUrl,
    [`${ours}.sasl.oauthbearer.expected.audience`]: 'kafka',
    [`${ours}.sasl.oauthbearer.expected.issuer`]: 'https://issuer.test',
  }
}

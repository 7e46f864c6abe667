import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { passwordMechanisms } from '../../src/config/kafka-login.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { makeAuthority, makeCertificates, type Certificates, type Pair } from '../support/certificates.ts'
import { load } from '../support/config-fixture.ts'
import { freePorts } from '../support/free-ports.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { readTopic } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'
import { serveGateway } from '../support/served-gateway.ts'
import { isLong } from '../support/forms.ts'

const secret = 'hunter2-and-more'
const listenerNames = ['SASL', 'TLS', 'SASL_TLS', 'MUTUAL'] as const
type Listener = (typeof listenerNames)[number]

/** One broker with a listener for each way to secure it; the plain one is for reading back. */
describe('a broker with TLS and SASL', () => {
  const folder = mkdtempSync(join(tmpdir(), 'chute-certificates-'))
  let certificates: Certificates
  let kafka: LocalKafka
  let ports: Record<Listener, number>

  beforeAll(async () => {
    certificates = makeCertificates(folder)
    const [sasl, tls, saslTls, mutual] = await freePorts(listenerNames.length)
    ports = { SASL: sasl!, TLS: tls!, SASL_TLS: saslTls!, MUTUAL: mutual! }
    kafka = await startKafka({ properties: { ...certificates.brokerProperties, ...listeners(ports) } })
  })

  afterAll(async () => {
    await kafka?.stop()
    rmSync(folder, { recursive: true })
  })

  /** What the environment says, as far as it concerns Kafka. */
  async function start(listener: Listener, env: NodeJS.ProcessEnv, topic: string): Promise<TestGateway> {
    const { kafka: settings } = load(
      { KAFKA_BROKERS: `127.0.0.1:${ports[listener]}`, ...env },
      {
        'ca.pem': certificates.ca,
        'cert.pem': certificates.client.cert,
        'key.pem': certificates.client.key,
        'password.txt': `${secret}\n`,
      },
    )
    const streams = [streamConfig(topic, 'at-most-once'), streamConfig(`${topic}-critical`, 'at-least-once')]
    const config = testConfig({ brokers: settings.brokers, streams, kafka: settings })
    const gateway = await startGatewayWith(config, { awaitReady: false })
    onTestFinished(async () => void (await gateway.stop()))
    return gateway
  }

  async function expectsToLand(listener: Listener, env: NodeJS.ProcessEnv): Promise<void> {
    const topic = `secure-${randomUUID()}`
    const gateway = await start(listener, env, topic)
    await expect.poll(async () => (await readiness(gateway)).status, { timeout: 30_000 }).toBe(200)
    for (const stream of [topic, `${topic}-critical`]) {
      const reply = await fetch(`${gateway.url}/v1/streams/${stream}`, {
        method: 'POST',
        headers: { prefer: 'wait=10' },
        body: '{"a":1}',
      })
      expect([reply.status, stream]).toEqual([200, stream])
      const landed = await readTopic(kafka.brokers[0]!, stream)
      expect(landed.map(({ value }) => value.toString())).toEqual(['{"a":1}'])
    }
  }

  const user = { KAFKA_SASL_USERNAME: 'alice', KAFKA_SASL_PASSWORD_FILE: 'password.txt' }
  const tls = { KAFKA_SSL: 'true', KAFKA_SSL_CA_FILE: 'ca.pem' }

  test.each(passwordMechanisms)(
    'takes events of both streams with SASL %s',
    async (mechanism) => await expectsToLand('SASL', { ...user, KAFKA_SASL_MECHANISM: mechanism }),
  )

  test('takes them over TLS, given the authority', async () => await expectsToLand('TLS', tls))

  test('takes them with SASL over TLS', async () =>
    await expectsToLand('SASL_TLS', { ...tls, ...user, KAFKA_SASL_MECHANISM: 'scram-sha-512' }))

  test('takes them from a client with a certificate', async () => {
    const cert = { KAFKA_SSL_CERT_FILE: 'cert.pem', KAFKA_SSL_KEY_FILE: 'key.pem' }
    await expectsToLand('MUTUAL', { ...tls, ...cert })
  })

  test.runIf(isLong)('connects with a certificate that was renewed while the gateway ran', async () => {
    const topic = `secure-${randomUUID()}`
    const files = mkdtempSync(join(tmpdir(), 'chute-renewed-'))
    onTestFinished(() => rmSync(files, { recursive: true }))
    const write = (name: string, text: string): string => {
      writeFileSync(join(files, name), text)
      return join(files, name)
    }
    // The broker does not trust this one.
    const stranger = makeAuthority('Strangers').issue('stranger')
    const gateway = await serveGateway({
      KAFKA_BROKERS: `127.0.0.1:${ports.MUTUAL}`,
      KAFKA_SSL: 'true',
      KAFKA_SSL_CA_FILE: write('ca.pem', certificates.ca),
      KAFKA_SSL_CERT_FILE: write('cert.pem', stranger.cert),
      KAFKA_SSL_KEY_FILE: write('key.pem', stranger.key),
      CHUTE_CONFIG: write('chute.yaml', `streams: { s: { topic: ${topic}, delivery: at-least-once } }`),
    })
    onTestFinished(() => gateway.signal('SIGKILL'))
    expect((await fetch(`${gateway.url}/readyz`)).status).toBe(503)
    write('cert.pem', certificates.client.cert)
    write('key.pem', certificates.client.key)
    expect(await gateway.logged('certificates were renewed')).toMatchObject({ renewed: ['kafka'] })
    await gateway.ready()
  })

  test('renews the certificates of both sides under load, and no request fails and no record is lost', async () => {
    const topic = `secure-${randomUUID()}`
    const files = mkdtempSync(join(tmpdir(), 'chute-renewed-'))
    onTestFinished(() => rmSync(files, { recursive: true }))
    const write = (name: string, { cert, key }: Pair): void => {
      writeFileSync(join(files, `${name}.crt`), cert)
      writeFileSync(join(files, `${name}.key`), key)
    }
    write('server', certificates.issue('gateway-0'))
    write('kafka', certificates.client)
    writeFileSync(join(files, 'ca.pem'), certificates.ca)
    const streams = `streams: { s: { topic: ${topic}, delivery: at-least-once, schema: any } }`
    writeFileSync(join(files, 'chute.yaml'), streams)
    const gateway = await serveGateway({
      KAFKA_BROKERS: `127.0.0.1:${ports.MUTUAL}`,
      KAFKA_SSL: 'true',
      KAFKA_SSL_CA_FILE: join(files, 'ca.pem'),
      KAFKA_SSL_CERT_FILE: join(files, 'kafka.crt'),
      KAFKA_SSL_KEY_FILE: join(files, 'kafka.key'),
      TLS_CERT_FILE: join(files, 'server.crt'),
      TLS_KEY_FILE: join(files, 'server.key'),
      CHUTE_CONFIG: join(files, 'chute.yaml'),
      ADMIN_PORT: '0',
    })
    onTestFinished(() => gateway.signal('SIGKILL'))
    await gateway.ready()

    const [accepted, failed, seen]: [string[], string[], Set<string>] = [[], [], new Set()]
    const agents = [true, false, true, false].map(
      (keepAlive) => new Agent({ keepAlive, maxSockets: 1, maxCachedSessions: 0, ca: certificates.ca }),
    )
    const post = async (agent: Agent, event: string): Promise<void> =>
      await new Promise((resolve) => {
        const sent = request(`${gateway.url}/v1/streams/s`, { agent, method: 'POST' }, (reply) => {
          seen.add(String((reply.socket as TLSSocket).getPeerCertificate().subject?.CN))
          if (reply.statusCode === 202) accepted.push(event)
          else failed.push(`${event}: ${reply.statusCode}`)
          reply.resume().once('end', resolve)
        })
        sent.once('error', (error) => {
          failed.push(`${event}: ${error.message}`)
          resolve()
        })
        sent.end(JSON.stringify(event))
      })
    const over = new AbortController()
    const loops = agents.map(async (agent, nth) => {
      for (let n = 0; !over.signal.aborted; n++) await post(agent, `${nth}-${n}`)
    })
    const renewed = (side: string): number =>
      gateway.lines.filter((line) => (line['renewed'] as string[] | undefined)?.includes(side)).length
    for (let nth = 1; nth <= 3; nth++) {
      write('server', certificates.issue(`gateway-${nth}`))
      write('kafka', certificates.issue(`client-${nth}`))
      await expect
        .poll(() => [renewed('server') >= nth, renewed('kafka') >= nth], { timeout: 15_000 })
        .toEqual([true, true])
      // Clients have seen it, and records have gone on.
      await expect.poll(() => seen.has(`gateway-${nth}`), { timeout: 15_000 }).toBe(true)
    }
    over.abort()
    await Promise.all(loops)
    for (const agent of agents) agent.destroy()
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    expect(failed).toEqual([])
    expect(accepted.length).toBeGreaterThan(50)
    const landed = await readTopic(kafka.brokers[0]!, topic)
    expect(landed.map(({ value }) => JSON.parse(value.toString()) as string).toSorted()).toEqual(
      accepted.toSorted(),
    )
  })

  const wrong = { KAFKA_SASL_USERNAME: 'alice', KAFKA_SASL_PASSWORD: `${secret}-wrong` }
  test.each<[string, Listener, NodeJS.ProcessEnv, RegExp]>([
    ['a wrong password (PLAIN)', 'SASL', { ...wrong, KAFKA_SASL_MECHANISM: 'plain' }, /PLAIN.*failed/],
    [
      'a wrong password (SCRAM)',
      'SASL',
      { ...wrong, KAFKA_SASL_MECHANISM: 'scram-sha-256' },
      /SCRAM.*failed/,
    ],
    ['no TLS where it is needed', 'TLS', {}, /KAFKA_SSL=true/],
    ['no TLS where SASL wants it', 'SASL_TLS', { ...user, KAFKA_SASL_MECHANISM: 'plain' }, /KAFKA_SSL=true/],
    [
      'TLS where it is not spoken',
      'SASL',
      { ...tls, ...user, KAFKA_SASL_MECHANISM: 'plain' },
      /KAFKA_SSL=false/,
    ],
    ['no credentials where they are needed', 'SASL', {}, /KAFKA_SASL_USERNAME/],
    [
      'credentials where none are taken',
      'TLS',
      { ...tls, ...user, KAFKA_SASL_MECHANISM: 'plain' },
      /unset KAFKA_SASL_MECHANISM/,
    ],
    ['an authority that is not known', 'TLS', { KAFKA_SSL: 'true' }, /certificate/],
    [
      'a certificate of another name',
      'TLS',
      { ...tls, KAFKA_SSL_SERVERNAME: 'kafka.example' },
      /altname|name/i,
    ],
    ['no certificate where one is needed', 'MUTUAL', tls, /certificate|closed/i],
  ])('with %s, it lives, is not ready, and says why without the secret', async (_, listener, env, cause) => {
    const gateway = await start(listener, env, `secure-${randomUUID()}`)
    const warning = await gateway.logged('Kafka was not reached; trying again')
    expect(warning.fields['cause']).toMatch(cause)
    expect((await fetch(`${gateway.url}/livez`)).status).toBe(200)
    const { status, body } = await readiness(gateway)
    expect(status).toBe(503)
    expect(body).toMatch(cause)
    const told = body + JSON.stringify(gateway.log)
    expect(told).not.toContain(secret)
    expect(told).not.toContain(Buffer.from(secret).toString('base64').slice(0, 12))
  })
})

async function readiness({ url }: TestGateway): Promise<{ status: number; body: string }> {
  const reply = await fetch(`${url}/readyz`)
  return { status: reply.status, body: await reply.text() }
}

function listeners(ports: Record<Listener, number>): Record<string, string> {
  const addresses = listenerNames.map((name) => `${name}://127.0.0.1:${ports[name]}`)
  const all = ['PLAINTEXT://127.0.0.1:{port}', ...addresses].join(',')
  const scram = (mechanism: string): string => `${mechanism}=[name=alice,password=${secret}]`
  const login = 'org.apache.kafka.common.security'
  return {
    listeners: `${all},CONTROLLER://127.0.0.1:{controllerPort}`,
    'advertised.listeners': all,
    'listener.security.protocol.map':
      'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,SASL_TLS:SASL_SSL,MUTUAL:SSL',
    'inter.broker.listener.name': 'PLAINTEXT',
    'listener.name.mutual.ssl.client.auth': 'required',
    'sasl.enabled.mechanisms': passwordMechanisms.map((each) => each.toUpperCase()).join(),
    ...Object.fromEntries(
      ['sasl', 'sasl_tls'].flatMap((listener) => [
        [
          `listener.name.${listener}.plain.sasl.jaas.config`,
          `${login}.plain.PlainLoginModule required user_alice="${secret}";`,
        ],
        ...['256', '512'].map((bits) => [
          `listener.name.${listener}.scram-sha-${bits}.sasl.jaas.config`,
          `${login}.scram.ScramLoginModule required;`,
        ]),
      ]),
    ),
    'chute.scram': [scram('SCRAM-SHA-256'), scram('SCRAM-SHA-512')].join(';'),
  }
}

import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { bothDeliveries, writeBothDeliveries } from '../support/both-deliveries.ts'
import { makeAuthority, makeCertificates, type Certificates, type Pair } from '../support/certificates.ts'
import { ConfigMap } from '../support/config-map.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic, readTopic } from '../support/independent-reader.ts'
import { runKafkaTool } from '../support/kafka-tools.ts'
import { sumOf } from '../support/parse-exposition.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

const [firstPassword, secondPassword] = ['first-of-the-operator', 'second-of-the-operator']

/** A broker as Strimzi sets it up: an authority for the brokers, another one for the users, a listener for each kind of KafkaUser. */
describe.runIf(isLong)('the Secrets of Strimzi', () => {
  const folder = mkdtempSync(join(tmpdir(), 'chute-strimzi-'))
  const clients = makeAuthority('clients-ca v0')
  let certificates: Certificates
  let kafka: LocalKafka
  let tlsPort: number
  let scramPort: number
  let proxy: CuttableProxy
  /** Those of tests that run side by side. */
  const cleanUps: (() => void)[] = []
  const atEnd = (cleanUp: () => void): void => void cleanUps.push(cleanUp)

  beforeAll(async () => {
    certificates = makeCertificates(folder)
    const trusted = join(folder, 'clients-ca.pem')
    writeFileSync(trusted, clients.ca)
    const [tls, scram] = await freePorts(2)
    ;[tlsPort, scramPort] = [tls!, scram!]
    proxy = await CuttableProxy.start(tlsPort)
    kafka = await startKafka({ properties: { ...certificates.brokerProperties, ...listeners(trusted) } })
  })
  afterAll(async () => {
    for (const cleanUp of cleanUps) cleanUp()
    await kafka?.stop()
    proxy?.stop()
    rmSync(folder, { recursive: true })
  })

  function listeners(trusted: string): Record<string, string> {
    const all = (tls: number): string =>
      `PLAINTEXT://127.0.0.1:{port},TLS://127.0.0.1:${tls},SCRAM://127.0.0.1:${scramPort}`
    return {
      listeners: `${all(tlsPort)},CONTROLLER://127.0.0.1:{controllerPort}`,
      'advertised.listeners': all(proxy.port),
      'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SCRAM:SASL_SSL',
      'inter.broker.listener.name': 'PLAINTEXT',
      'listener.name.tls.ssl.client.auth': 'required',
      'listener.name.tls.ssl.truststore.type': 'PEM',
      'listener.name.tls.ssl.truststore.location': trusted,
      'sasl.enabled.mechanisms': 'SCRAM-SHA-512',
      'listener.name.scram.scram-sha-512.sasl.jaas.config':
        'org.apache.kafka.common.security.scram.ScramLoginModule required;',
      // Each session ends, so that a new password has to be used.
      'listener.name.scram.scram-sha-512.connections.max.reauth.ms': '8000',
      'chute.scram': `SCRAM-SHA-512=[name=chute,password=${firstPassword}]`,
    }
  }

  /** The Secret of the cluster's authority, `NAME-cluster-ca-cert`. */
  function clusterCa(): Record<string, string> {
    return { 'ca.crt': certificates.ca, 'ca.p12': 'a key store', 'ca.password': 'of ca.p12' }
  }

  async function start(name: string, env: NodeJS.ProcessEnv): Promise<ServedGateway> {
    for (const stream of bothDeliveries) await createTopic(kafka.brokers[0]!, `${name}-${stream}`)
    const file = writeBothDeliveries(folder, name)
    const gateway = await serveGateway({
      CHUTE_CONFIG: file,
      KAFKA_CREATE_TOPICS: 'false',
      KAFKA_SSL: 'true',
      ...env,
    })
    atEnd(() => gateway.signal('SIGKILL'))
    await gateway.ready()
    return gateway
  }

  /** Events of a stream, one after the other, until the signal. @returns how many were taken. */
  async function load(gateway: ServedGateway, stream: string, over: AbortSignal): Promise<number> {
    let taken = 0
    for (; !over.aborted; taken++) {
      const body = JSON.stringify({ name: 'n', value: taken })
      const { status } = await fetch(`${gateway.url}/v1/streams/${stream}`, { method: 'POST', body })
      expect(status).toBe(202)
      await pause(3)
    }
    return taken
  }

  /** Every event of a stream landed, and each of them once. */
  async function landed(topic: string, taken: number): Promise<void> {
    const values = (await readTopic(kafka.brokers[0]!, topic)).map(({ value }) => value.toString())
    expect([new Set(values).size, values.length]).toEqual([taken, taken])
  }

  test.concurrent('a KafkaUser with a certificate: a renewed one is used under load, and nothing is lost when the old one has ended', async () => {
    const user = ({ cert, key }: Pair): Record<string, string> => ({
      'ca.crt': clients.ca,
      'user.crt': cert,
      'user.key': key,
      'user.p12': 'a key store',
      'user.password': 'of user.p12',
    })
    const lifeMs = 20_000
    const endsAtMs = Date.now() + lifeMs
    const secret = new ConfigMap(user(clients.issue('chute', { days: [-1, lifeMs / 86_400_000] })), atEnd)
    const ca = new ConfigMap(clusterCa(), atEnd)
    const name = `strimzi-${randomUUID()}`
    const gateway = await start(name, {
      KAFKA_BROKERS: `127.0.0.1:${proxy.port}`,
      KAFKA_SSL_CA_FILE: ca.path('ca.crt'),
      KAFKA_SSL_CERT_FILE: secret.path('user.crt'),
      KAFKA_SSL_KEY_FILE: secret.path('user.key'),
    })
    const over = new AbortController()
    const sending = load(gateway, 'critical', over.signal)
    secret.swap(user(clients.issue('chute')))
    expect(await gateway.logged('certificates were renewed')).toMatchObject({ renewed: ['kafka'] })
    // The next authority of the cluster stands beside the one that there is.
    ca.swap({ ...clusterCa(), 'ca.crt': certificates.ca + makeAuthority('cluster-ca v1').ca })
    await expect
      .poll(() => gateway.lines.filter(({ msg }) => msg === 'certificates were renewed').length, {
        timeout: 10_000,
      })
      .toBe(2)
    // From now on the broker takes the first certificate no more.
    await pause(Math.max(0, endsAtMs + 1_500 - Date.now()))
    expect(proxy.cut()).toBeGreaterThan(0)
    const before = await acked(gateway)
    await gateway.reported(
      (families) =>
        sumOf(families, 'chute_records_total', { stream: 'critical', outcome: 'acked' }) > before + 100,
    )
    over.abort()
    const taken = await sending
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    await landed(`${name}-critical`, taken)
  }, 90_000)

  test.concurrent('a KafkaUser with a password: a changed one is used under load, and nothing is lost', async () => {
    const user = (password: string): Record<string, string> => ({
      password,
      'sasl.jaas.config': `org.apache.kafka.common.security.scram.ScramLoginModule required username="chute" password="${password}";`,
    })
    const secret = new ConfigMap(user(firstPassword), atEnd)
    const name = `strimzi-${randomUUID()}`
    const gateway = await start(name, {
      KAFKA_BROKERS: `127.0.0.1:${scramPort}`,
      KAFKA_SSL_CA_FILE: new ConfigMap(clusterCa(), atEnd).path('ca.crt'),
      KAFKA_SASL_MECHANISM: 'scram-sha-512',
      KAFKA_SASL_USERNAME: 'chute',
      KAFKA_SASL_PASSWORD_FILE: secret.path('password'),
    })
    const over = new AbortController()
    const sending = Promise.all(
      ['realtime', 'critical'].map(async (stream) => await load(gateway, stream, over.signal)),
    )
    await changePassword(secondPassword)
    secret.swap(user(secondPassword))
    await gateway.logged('the configuration was reloaded')
    // Each session that there was ends within this time.
    await pause(9_000)
    const before = await acked(gateway)
    await gateway.reported((families) => {
      const [lost, dropped] = ['suspected_lost', 'dropped'].map((outcome) =>
        sumOf(families, 'chute_records_total', { outcome }),
      )
      expect([lost, dropped]).toEqual([0, 0])
      return sumOf(families, 'chute_records_total', { stream: 'critical', outcome: 'acked' }) > before + 50
    })
    over.abort()
    const [realtime, critical] = await sending
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    await landed(`${name}-realtime`, realtime!)
    await landed(`${name}-critical`, critical!)
  }, 90_000)

  async function acked(gateway: ServedGateway): Promise<number> {
    let found = 0
    await gateway.reported((families) => {
      found = sumOf(families, 'chute_records_total', { stream: 'critical', outcome: 'acked' })
      return true
    })
    return found
  }

  /** As Strimzi's operator does, over the listener of the brokers. */
  async function changePassword(password: string): Promise<void> {
    const words = [
      '--bootstrap-server',
      kafka.brokers[0]!,
      '--alter',
      '--entity-type',
      'users',
      '--entity-name',
      'chute',
    ]
    const scram = `SCRAM-SHA-512=[password=${password}]`
    await runKafkaTool(kafka.classpath, 'kafka.admin.ConfigCommand', [...words, '--add-config', scram])
  }
})

/** Hands bytes on to a port, until it is told to end all connections. */
class CuttableProxy {
  readonly port: number
  readonly #server: ReturnType<typeof createServer>
  readonly #sockets: Set<Socket>

  private constructor(server: ReturnType<typeof createServer>, sockets: Set<Socket>) {
    this.#server = server
    this.#sockets = sockets
    this.port = (server.address() as AddressInfo).port
  }

  static async start(to: number): Promise<CuttableProxy> {
    const sockets = new Set<Socket>()
    const server = createServer((client) => {
      const broker = connect(to, '127.0.0.1')
      for (const [one, other] of [
        [client, broker],
        [broker, client],
      ] as const) {
        sockets.add(one)
        one.pipe(other)
        one.on('error', () => other.destroy())
        one.once('close', () => {
          sockets.delete(one)
          other.destroy()
        })
      }
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new CuttableProxy(server, sockets)
  }

  /** @returns how many ends of connections there were. */
  cut(): number {
    const { size } = this.#sockets
    for (const socket of this.#sockets) socket.destroy()
    return size
  }

  stop(): void {
    this.cut()
    this.#server.close()
  }
}

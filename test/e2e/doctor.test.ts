import { execFile, execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Diagnosis } from '../../src/commands/diagnosis.ts'
import { diagnose } from '../../src/commands/doctor-command.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { makeAuthority, makeCertificates, type Certificates } from '../support/certificates.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic } from '../support/independent-reader.ts'
import { hasRedis, startRedis } from '../support/redis.ts'
import { chuteArguments, chuteEnvironment } from '../support/served-gateway.ts'

const folder = mkdtempSync(join(tmpdir(), 'chute-doctor-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** Those of tests that run side by side. */
const servers: Server[] = []
afterAll(() => servers.forEach((server) => void server.close()))

const listenerNames = ['tls', 'expired', 'other', 'mutual', 'sasl', 'lost'] as const

/** A broker with a listener for each kind of fault. Where there are credentials they are those of `gateway`, and everybody else may do everything. */
describe('chute doctor', () => {
  let kafka: LocalKafka
  let certificates: Certificates
  let goodTopic: string
  const ports = {} as Record<(typeof listenerNames)[number], number>

  beforeAll(async () => {
    certificates = makeCertificates(folder)
    const free = await freePorts(listenerNames.length)
    for (const [index, name] of listenerNames.entries()) ports[name] = free[index]!
    kafka = await startKafka({ properties: { ...certificates.brokerProperties, ...listeners() } })
    goodTopic = await newTopic()
  })
  afterAll(async () => await kafka?.stop())

  function listeners(): Record<string, string> {
    const expired = join(folder, 'expired.pem')
    const { cert, key } = certificates.issue('broker', { days: [-30, -1] })
    writeFileSync(expired, key + cert + certificates.ca)
    const all = (lost: string): string =>
      [
        'PLAINTEXT://127.0.0.1:{port}',
        `TLS://127.0.0.1:${ports.tls}`,
        `EXPIRED://127.0.0.1:${ports.expired}`,
        // The certificate has no such address.
        `OTHER://127.0.0.2:${ports.other}`,
        `MUTUAL://127.0.0.1:${ports.mutual}`,
        `SASL://127.0.0.1:${ports.sasl}`,
        `LOST://${lost}:${ports.lost}`,
      ].join(',')
    return {
      listeners: `${all('127.0.0.1')},CONTROLLER://127.0.0.1:{controllerPort}`,
      'advertised.listeners': all('broker-1.invalid'),
      'listener.security.protocol.map':
        'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,EXPIRED:SSL,OTHER:SSL,MUTUAL:SSL,SASL:SASL_PLAINTEXT,LOST:PLAINTEXT',
      'inter.broker.listener.name': 'PLAINTEXT',
      'listener.name.expired.ssl.keystore.location': expired,
      'listener.name.expired.ssl.keystore.type': 'PEM',
      'listener.name.mutual.ssl.client.auth': 'required',
      'sasl.enabled.mechanisms': 'PLAIN',
      'listener.name.sasl.plain.sasl.jaas.config':
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_gateway="secret";',
      'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
      'super.users': 'User:ANONYMOUS;User:CN=client',
    }
  }

  async function newTopic(config: Record<string, string> = {}): Promise<string> {
    const topic = `doctor-${randomUUID()}`
    await createTopic(kafka.brokers[0]!, topic, { partitions: 2, config })
    return topic
  }

  /** An environment with a stream on a topic that is well, unless `stream` says otherwise. */
  async function environment(env: NodeJS.ProcessEnv, stream: object = {}): Promise<NodeJS.ProcessEnv> {
    const file = join(folder, `${randomUUID()}.json`)
    const topic = 'topic' in stream ? {} : { topic: goodTopic }
    writeFileSync(
      file,
      JSON.stringify({ streams: { s: { delivery: 'at-least-once', ...topic, ...stream } } }),
    )
    const limit = { KAFKA_CONNECTION_TIMEOUT_MS: '20000' }
    return { CHUTE_CONFIG: file, KAFKA_BROKERS: kafka.brokers[0], PORT: '0', ...limit, ...env }
  }

  /** Runs the doctor as a process. @param shell goes before the command. */
  async function run(
    env: NodeJS.ProcessEnv,
    shell = '',
  ): Promise<{ code: number | null; findings: Diagnosis[] }> {
    const words = [process.execPath, ...chuteArguments, 'doctor', '--json', '--timeout-ms', '30000']
    const child = execFile('/bin/sh', ['-c', `${shell} exec "$@"`, 'sh', ...words], {
      env: chuteEnvironment(await environment(env)),
    })
    let said = ''
    child.stdout!.on('data', (text: string) => (said += text))
    await once(child, 'close')
    return { code: child.exitCode, findings: (JSON.parse(said) as { findings: Diagnosis[] }).findings }
  }

  const sasl = (port: number, password = 'secret', mechanism = 'plain') => ({
    KAFKA_BROKERS: `127.0.0.1:${port}`,
    KAFKA_SASL_MECHANISM: mechanism,
    KAFKA_SASL_USERNAME: 'gateway',
    KAFKA_SASL_PASSWORD: password,
  })
  const overTls = (address: string) => ({
    KAFKA_BROKERS: address,
    KAFKA_SSL: 'true',
    KAFKA_SSL_CA: certificates.ca,
  })

  test('finds nothing wrong where nothing is wrong', async () => {
    const redis = hasRedis ? await startRedis() : null
    onTestFinished(async () => await redis?.kill())
    const { code, findings } = await run({
      CHUTE_DATA_DIR: join(folder, 'data'),
      ...(redis !== null && { RATE_LIMIT_REDIS_URL: redis.store.url, RATE_LIMIT_MAX: '10' }),
    })
    expect(findings.filter(({ state }) => state === 'failure')).toEqual([])
    expect(code).toBe(0)
    const order = [
      'configuration',
      'descriptors',
      'data',
      'connect',
      'Kafka',
      'topics',
      'rights',
      'topic',
      'clock',
    ]
    const names = findings.map(({ name }) => name.split(' ')[0]!)
    // Other findings come in between.
    expect(order.map((name) => names.indexOf(name))).toEqual(
      order.map((name) => names.indexOf(name)).toSorted((a, b) => a - b),
    )
    expect(names).toEqual(expect.arrayContaining(order))
    expect(findings.find(({ name }) => name === 'clock')?.detail).toMatch(
      /^within \d+ m?s of that of broker 1$/,
    )
  })

  test.runIf(isLong)('finds nothing wrong with TLS and the certificate of a client', async () => {
    const { cert, key } = certificates.client
    const env = { ...overTls(`127.0.0.1:${ports.mutual}`), KAFKA_SSL_CERT: cert, KAFKA_SSL_KEY: key }
    const findings = await diagnose(await environment(env), 30_000)
    expect(findings.filter(({ state }) => state === 'failure' || state === 'skipped')).toEqual([])
    expect(findings.find(({ name }) => name.startsWith('TLS'))?.detail).toMatch(
      /^TLSv1\.[23]; the certificate is that of broker, until /,
    )
  })

  /** Every node of Kafka is a controller, too, and clients often get its port. */
  function controllerPort(): string {
    const properties = readFileSync(join(kafka.nodes[0]!.dataDir, '..', 'server.properties'), 'utf8')
    return /controller\.quorum\.voters=1@127\.0\.0\.1:(\d+)/.exec(properties)![1]!
  }

  /** A server with one answer, on the port of the gateway. */
  async function portThatAnswers(status: number, text: string): Promise<NodeJS.ProcessEnv> {
    const server = createServer((_, reply) => reply.writeHead(status).end(text)).listen(0, '127.0.0.1')
    servers.push(server)
    await once(server, 'listening')
    return { PORT: String((server.address() as AddressInfo).port) }
  }

  interface SetUp {
    readonly fault: string
    /** What is broken about it. */
    readonly env?: () => NodeJS.ProcessEnv | Promise<NodeJS.ProcessEnv>
    readonly stream?: () => object | Promise<object>
    /** What is wrong does not change, so that there is no need to wait for long. */
    readonly isForGood?: boolean
    /** It can be broken only for a process of its own, and this goes before the command. */
    readonly shell?: string
    /** The first finding that is a failure: its name, what it says, and its remedy. */
    readonly name: RegExp
    readonly detail: RegExp
    readonly remedy: RegExp | null
  }

  const setUps: SetUp[] = [
    {
      fault: 'a host name that nobody knows',
      env: () => ({ KAFKA_BROKERS: 'kafka.invalid:9092' }),
      name: /^resolve kafka\.invalid$/,
      detail: /ENOTFOUND|EAI_AGAIN/,
      remedy: /DNS/,
    },
    {
      fault: 'a port at which nothing listens',
      env: async () => ({ KAFKA_BROKERS: `127.0.0.1:${(await freePorts(1))[0]}` }),
      name: /^connect 127/,
      detail: /ECONNREFUSED/,
      remedy: /Nothing listens there.*KAFKA_BROKERS/,
    },
    {
      fault: 'plain text to a TLS port',
      env: () => ({ KAFKA_BROKERS: `127.0.0.1:${ports.tls}` }),
      name: /^Kafka 127/,
      detail: /speaks TLS/,
      remedy: /KAFKA_SSL=true/,
    },
    {
      fault: 'TLS to a plain port',
      env: () => overTls(kafka.brokers[0]!),
      name: /^TLS 127/,
      detail: /./,
      remedy: /may speak no TLS; set KAFKA_SSL=false/,
    },
    {
      fault: 'an authority that is not known here',
      env: () => ({ ...overTls(`127.0.0.1:${ports.tls}`), KAFKA_SSL_CA: '' }),
      name: /^TLS 127/,
      detail: /self-signed certificate in certificate chain|unable to verify/,
      remedy: /give its authority as KAFKA_SSL_CA/,
    },
    {
      fault: 'another authority than that of the broker',
      env: () => ({ ...overTls(`127.0.0.1:${ports.tls}`), KAFKA_SSL_CA: makeAuthority('Other').ca }),
      name: /^TLS 127/,
      detail: /./,
      remedy: /KAFKA_SSL_CA is not the authority/,
    },
    {
      fault: 'a certificate of the broker that has ended',
      env: () => overTls(`127.0.0.1:${ports.expired}`),
      name: /^TLS 127/,
      detail: /certificate has expired/,
      remedy: /renew it/,
    },
    {
      fault: 'a certificate of another name',
      env: () => overTls(`127.0.0.2:${ports.other}`),
      name: /^TLS 127/,
      detail: /127\.0\.0\.2 is not in the cert's list/,
      remedy: /KAFKA_SSL_SERVERNAME/,
    },
    {
      fault: 'no certificate of the client where one is wanted',
      env: () => overTls(`127.0.0.1:${ports.mutual}`),
      name: /^Kafka 127/,
      detail: /./,
      remedy: /KAFKA_SSL_CERT/,
    },
    {
      fault: 'a certificate of the client that the broker does not trust',
      env: () => {
        const { cert, key } = makeAuthority('Strangers').issue('stranger')
        return { ...overTls(`127.0.0.1:${ports.mutual}`), KAFKA_SSL_CERT: cert, KAFKA_SSL_KEY: key }
      },
      name: /^Kafka 127/,
      detail: /./,
      remedy: /trust store/,
    },
    {
      fault: 'the port of a controller',
      env: () => ({ KAFKA_BROKERS: `127.0.0.1:${controllerPort()}` }),
      name: /^Kafka 127/,
      detail: /does not serve Metadata/,
      remedy: /not that of a controller/,
    },
    {
      fault: 'a wrong password',
      env: () => sasl(ports.sasl, 'wrong'),
      name: /^log in 127/,
      detail: /Authentication failed/,
      remedy: /KAFKA_SASL_PASSWORD/,
    },
    {
      fault: 'a mechanism that the listener does not take',
      env: () => sasl(ports.sasl, 'secret', 'scram-sha-512'),
      name: /^log in 127/,
      detail: /mechanism/,
      remedy: /KAFKA_SASL_MECHANISM.*not scram-sha-512/,
    },
    {
      fault: 'no credentials for a listener that wants some',
      env: () => ({ KAFKA_BROKERS: `127.0.0.1:${ports.sasl}` }),
      name: /^Kafka 127/,
      detail: /./,
      remedy: /KAFKA_SASL_MECHANISM/,
    },
    {
      fault: 'credentials for a listener that wants none',
      env: () => sasl(Number(kafka.brokers[0]!.split(':')[1])),
      name: /^log in 127/,
      detail: /./,
      remedy: /takes no credentials/,
    },
    {
      fault: 'no token to be had',
      env: () => ({
        KAFKA_BROKERS: `127.0.0.1:${ports.sasl}`,
        KAFKA_SASL_MECHANISM: 'oauthbearer',
        KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: join(folder, 'no-token'),
      }),
      name: /^token$/,
      detail: /no-token: ENOENT/,
      remedy: /KAFKA_SASL_OAUTHBEARER/,
    },
    {
      fault: 'a broker that gives out an address that nobody resolves',
      env: () => ({ KAFKA_BROKERS: `127.0.0.1:${ports.lost}` }),
      name: /^resolve broker-1\.invalid \(broker 1 by advertised\.listeners\)$/,
      detail: /ENOTFOUND|EAI_AGAIN/,
      remedy: /advertised\.listeners/,
    },
    {
      fault: 'a topic that is missing',
      env: () => ({ KAFKA_CREATE_TOPICS: 'false' }),
      stream: () => ({ topic: `missing-${randomUUID()}` }),
      isForGood: true,
      name: /^topics$/,
      detail: /missing-.* does not exist.*KAFKA_CREATE_TOPICS=true/,
      remedy: null,
    },
    {
      fault: 'more replicas wanted than there are',
      stream: async () => ({ topic: await newTopic({ 'min.insync.replicas': '2' }) }),
      name: /^topic doctor-/,
      detail: /min\.insync\.replicas is 2, and there is 1 replica/,
      remedy: /Set min\.insync\.replicas of the topic to 1/,
    },
    {
      fault: 'a compacted topic of a stream without keys',
      stream: async () => ({ topic: await newTopic({ 'cleanup.policy': 'compact' }), key: 'none' }),
      name: /^topic doctor-/,
      detail: /compacted/,
      remedy: /cleanup\.policy=delete/,
    },
    {
      fault: 'a right that is missing',
      env: () => sasl(ports.sasl),
      isForGood: true,
      name: /^rights$/,
      detail: /WRITE on topic doctor-.* is not permitted/,
      remedy: null,
    },
    {
      fault: 'a data folder that is a file',
      env: () => {
        const path = join(folder, `${randomUUID()}.file`)
        writeFileSync(path, '')
        return { CHUTE_DATA_DIR: join(path, 'data') }
      },
      name: /^data folder /,
      detail: /not a folder \(ENOTDIR\)/,
      remedy: /CHUTE_DATA_DIR/,
    },
    {
      fault: 'too few descriptors',
      shell: 'ulimit -n 256;',
      name: /^descriptors$/,
      detail: /may open 256 files.*MAX_CONNECTIONS lets in 20000/,
      remedy: /ulimit -n/,
    },
    {
      fault: 'a clock two hours ahead',
      env: () => ({ NODE_OPTIONS: shiftedClock(2 * 3_600_000) }),
      shell: '',
      name: /^clock$/,
      detail: /2 h ahead of that of broker 1: doctor-.* refuses such records/,
      remedy: /NTP/,
    },
    {
      fault: 'a clock two minutes behind',
      env: () => ({ NODE_OPTIONS: shiftedClock(-125_000) }),
      shell: '',
      name: /^clock$/,
      detail: /2 min behind that of broker 1/,
      remedy: /NTP/,
    },
    {
      fault: 'a Redis that is away',
      env: async () => ({
        RATE_LIMIT_REDIS_URL: `redis://127.0.0.1:${(await freePorts(1))[0]}`,
        RATE_LIMIT_MAX: '10',
      }),
      name: /^Redis of RATE_LIMIT_REDIS_URL$/,
      detail: /ECONNREFUSED/,
      remedy: /start Redis/,
    },
    {
      fault: 'another program on the port',
      env: async () => await portThatAnswers(404, 'not here'),
      name: /^gateway at 127\.0\.0\.1:/,
      detail: /something else listens there/,
      remedy: /PORT/,
    },
    {
      fault: 'a gateway with TLS on the port, and a shell without its settings',
      // What a gateway answers: test/integration/tls.test.ts.
      env: async () =>
        await portThatAnswers(400, '{"detail":"this port speaks HTTPS, and the request is plain HTTP"}'),
      name: /^gateway at 127\.0\.0\.1:/,
      detail: /speaks HTTPS/,
      remedy: /TLS_CERT/,
    },
    {
      fault: 'a configuration with a mistake',
      env: () => ({ WORKERS: 'two' }),
      name: /^configuration$/,
      detail: /^WORKERS /,
      remedy: /./,
    },
  ]

  /** The short form has a set-up of each step of the way: name, port, TLS, log-in, topic, right, folder and clock. */
  const shortFaults = new Set([
    'a host name that nobody knows',
    'plain text to a TLS port',
    'another authority than that of the broker',
    'a wrong password',
    'a broker that gives out an address that nobody resolves',
    'more replicas wanted than there are',
    'a data folder that is a file',
    'a clock two hours ahead',
  ])

  test.concurrent.each(setUps.filter(({ fault }) => isLong || shortFaults.has(fault)))(
    'names the fault: $fault',
    async ({ env, stream, isForGood, shell, name, detail, remedy }) => {
      const broken = (await env?.()) ?? {}
      const findings =
        shell === undefined
          ? await diagnose(await environment(broken, await stream?.()), isForGood === true ? 5_000 : 30_000)
          : (await run(broken, shell)).findings
      const first = findings.find(({ state }) => state === 'failure')
      expect(first?.name, JSON.stringify(findings, null, 1)).toMatch(name)
      expect(first?.detail).toMatch(detail)
      if (remedy === null) expect(first?.remedy).toBeNull()
      else expect(first?.remedy).toMatch(remedy)
    },
  )

  test.runIf(isLong)('says that the disk of the data folder is full', async (context) => {
    const disk = join(folder, 'disk')
    mkdirSync(disk)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], { stdio: 'ignore' })
    } catch {
      context.skip('this user may not mount a small disk')
    }
    onTestFinished(() => void execFileSync('umount', ['-l', disk]))
    const findings = await diagnose(await environment({ CHUTE_DATA_DIR: disk }), 30_000)
    expect(findings.find(({ state }) => state === 'failure')?.detail).toMatch(
      /the disk is full: (1020 KiB|1 MiB) are free/,
    )
    // A tmpfs goes with the memory that holds it.
    expect(
      findings.find(({ state, detail }) => state === 'warning' && detail.includes('tmpfs')),
    ).toBeDefined()
  })

  test.runIf(isLong)(
    'for people, each line says what was looked at, and the last line where to begin',
    async () => {
      const words = [...chuteArguments, 'doctor', '--timeout-ms', '1000']
      const [port] = await freePorts(1)
      const child = execFile(process.execPath, words, {
        env: chuteEnvironment({ KAFKA_BROKERS: `127.0.0.1:${port}`, PORT: '0' }),
      })
      let said = ''
      child.stdout!.on('data', (text: string) => (said += text))
      await once(child, 'close')
      expect(said).toMatch(/^ok   configuration: 2 streams, 2 topics, Kafka at 127/)
      expect(said).toContain(`FAIL connect 127.0.0.1:${port}: `)
      expect(said).toMatch(/\n {7}→ Nothing listens there: /)
      expect(said).toContain('skip topics, rights, versions, clock: no broker of KAFKA_BROKERS was reached')
      expect(said.trimEnd()).toMatch(
        new RegExp(`\\. Begin with the first: connect 127\\.0\\.0\\.1:${port}\\.$`),
      )
      expect(child.exitCode).toBe(1)
    },
  )
})

/** Options of Node that shift the clock of a process. */
function shiftedClock(byMs: number): string {
  const code = `const now=Date.now;Date.now=()=>now()+${byMs}`
  return `--import data:text/javascript,${encodeURIComponent(code)}`
}

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { compressionTypes } from '../../src/config/config.ts'
import { ephemeralFolder } from '../../src/spool/ephemeral-folder.ts'
import { freePorts } from '../support/free-ports.ts'
import { createTopic, endOffsets, readTopic } from '../support/independent-reader.ts'
import { dumpTopics } from '../support/kafka-tools.ts'
import type { ServedGateway } from '../support/served-gateway.ts'
import { readImage, runContainer, serveContainer, startContainer } from './container.ts'

/** The image that `test/image/run` has built, started as a container against a real Kafka. */
const image = readImage(process.env['CHUTE_IMAGE']!)
const broker = inject('kafkaBroker')
const event = '{"name":"room.temperature","value":21.5}'

/** A folder that is gone after the test, with the owner and the mode that the image has for `path`: a new volume of Docker's. */
function newVolume(path: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-volume-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const { uid, gid, mode } = statSync(image.root + path)
  chownSync(folder, uid, gid)
  chmodSync(folder, mode)
  return folder
}

/** Options for a container with these streams: each stream's settings by its name. */
function withStreams(streams: Readonly<Record<string, object>>) {
  const folder = newVolume('/app')
  writeFileSync(join(folder, 'chute.json'), JSON.stringify({ streams }))
  return {
    env: { CHUTE_OPEN: 'true', KAFKA_BROKERS: broker, CHUTE_CONFIG: '/mnt/chute.json' },
    volumes: { '/mnt': folder },
  }
}

async function send({ url }: ServedGateway, stream: string, body = event, headers = {}): Promise<number> {
  const reply = await fetch(`${url}/v1/streams/${stream}`, { method: 'POST', body, headers })
  await reply.arrayBuffer()
  return reply.status
}

async function valuesIn(topic: string): Promise<string[]> {
  return (await readTopic(broker, topic)).map(({ value }) => value.toString())
}

/** Waits until a topic has a record with this value. */
async function untilWritten(topic: string, value = event): Promise<void> {
  while (!(await valuesIn(topic)).includes(value)) await pause(100)
}

/** Everything below a folder of the image, as paths from its root. */
function* everythingIn(path: string): Generator<string> {
  for (const entry of readdirSync(image.root + path, { withFileTypes: true })) {
    const own = join(path, entry.name)
    yield own
    if (entry.isDirectory()) yield* everythingIn(own)
  }
}

describe('what the image holds', () => {
  test('the user is a number other than root, there is no volume, and no variable names a data folder', () => {
    const { User, Volumes, Env, StopSignal } = image.config
    expect(User).toMatch(/^[1-9]\d*:[1-9]\d*$/)
    expect(Object.keys(Volumes ?? {})).toEqual([])
    expect(Env.filter((each) => each.startsWith('CHUTE_'))).toEqual([])
    expect(Env).toContain('NODE_ENV=production')
    expect(StopSignal).toBe('SIGTERM')
  })

  test('the application has its licence and what it runs with, and nothing of its making', () => {
    expect(readdirSync(join(image.root, 'app')).toSorted()).toEqual([
      'LICENSE',
      'dist',
      'node_modules',
      'openapi.yaml',
      'package.json',
      'public',
    ])
    expect(readFileSync(join(image.root, 'app/LICENSE'), 'utf8')).toBe(readFileSync('LICENSE', 'utf8'))
    expect(readdirSync(join(image.root, 'app/public')).toSorted()).toEqual(readdirSync('public').toSorted())
    const { dependencies, devDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
      'dependencies' | 'devDependencies',
      Record<string, string>
    >
    const installed = new Set(everythingIn('/app/node_modules'))
    const isInstalled = (name: string): boolean => installed.has(`/app/node_modules/${name}`)
    expect(Object.keys(dependencies).filter((name) => !isInstalled(name))).toEqual([])
    expect(Object.keys(devDependencies).filter(isInstalled)).toEqual([])
    expect([...everythingIn('/app/dist')].filter((path) => /\.test\.|(?<!\.d)\.ts$/.test(path))).toEqual([])
  })

  test('any user can read the application, and none but root can change it', () => {
    const wrong = [...everythingIn('/app')].filter((path) => {
      const stats = lstatSync(image.root + path)
      const { mode, uid, gid } = stats
      if (stats.isSymbolicLink()) return false
      const needed = stats.isDirectory() ? 0o5 : 0o4
      return (mode & needed) !== needed || (mode & 0o7022) !== 0 || uid !== 0 || gid !== 0
    })
    expect(wrong).toEqual([])
  })

  test('the build leaves /app and /data on its base, and nothing else', () => {
    const changed: string[] = []
    const compare = (folder: string): void => {
      const before = new Set(readdirSync(image.base + folder))
      for (const entry of readdirSync(image.root + folder, { withFileTypes: true })) {
        const path = join(folder, entry.name)
        if (!before.delete(entry.name)) changed.push(`+ ${path}`)
        else if (entry.isDirectory()) compare(path)
        else if (entry.isFile() && lstatSync(image.root + path).size !== lstatSync(image.base + path).size)
          changed.push(`~ ${path}`)
      }
      for (const name of before) changed.push(`- ${join(folder, name)}`)
    }
    compare('/')
    expect(changed.toSorted()).toEqual(['+ /app', '+ /data'])
  })
})

describe('a container of the image', () => {
  test('is the user that it is started as, is process 1, and cannot write to its root file system', async () => {
    const script =
      'echo "$(id -u):$(id -g) $$ $(pwd)"; for each in . /tmp /data /var/tmp; do touch $each/x; done'
    const { code, stdout, stderr } = await runContainer(image, {
      user: '12345:0',
      command: ['sh', '-c', script],
    })
    expect([code, stdout]).toEqual([1, '12345:0 1 /app\n'])
    expect(stderr.match(/Read-only file system|Permission denied/g)).toHaveLength(4)
  })

  test.for([image.config.User, '12345:0', '12345:12345', '0:0'])(
    'runs as %s: it is ready, an event arrives, and SIGTERM ends it with its account',
    async (user) => {
      const topic = `user-${randomUUID()}`
      await createTopic(broker, topic)
      const streams = { s: { topic, delivery: 'at-most-once' } }
      const gateway = await serveContainer(image, { user, ...withStreams(streams) })
      await gateway.ready()
      expect(await send(gateway, 's')).toBe(202)
      for (const path of ['/', '/docs', '/openapi.yaml', '/metrics', '/livez']) {
        const reply = await fetch(gateway.url + path)
        await reply.arrayBuffer()
        expect([path, reply.status]).toEqual([path, 200])
      }
      gateway.signal('SIGTERM')
      expect(await gateway.ended()).toBe(0)
      expect(gateway.lines.at(-1)).toMatchObject({ account: { s: { accepted: 1, suspectedLost: 0 } } })
      expect(await valuesIn(topic)).toEqual([event])
    },
  )

  test('starts with two workers', async () => {
    const topic = `workers-${randomUUID()}`
    await createTopic(broker, topic)
    const { env, volumes } = withStreams({ s: { topic, delivery: 'at-most-once' } })
    const [port] = await freePorts(1)
    const gateway = await serveContainer(image, {
      user: '12345:0',
      env: { ...env, WORKERS: '2', PORT: String(port) },
      volumes,
    })
    await gateway.ready()
    expect(await send(gateway, 's')).toBe(202)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    expect(gateway.lines.at(-1)).toMatchObject({ account: { s: { accepted: 1 } } })
    expect(await valuesIn(topic)).toEqual([event])
  })

  test('loads its native parts: each codec, checksums, and the lock of a data folder on a new volume', async () => {
    const codecs = compressionTypes.filter((type) => type !== 'none')
    const run = randomUUID()
    const topicOf = (codec: string): string => `codec-${codec}-${run}`
    await Promise.all(codecs.map(async (codec) => await createTopic(broker, topicOf(codec))))
    const streams = codecs.map((codec) => {
      const producer = { 'compression.type': codec }
      return [codec, { topic: topicOf(codec), delivery: 'at-least-once', producer }] as const
    })
    const { env, volumes } = withStreams(Object.fromEntries(streams))
    const data = newVolume('/data')
    const options = {
      user: '12345:0',
      env: { ...env, CHUTE_DATA_DIR: '/data' },
      volumes: { ...volumes, '/data': data },
    }
    const gateway = await serveContainer(image, options)
    await gateway.ready()
    expect(readdirSync(data)).not.toEqual([])
    // A batch that does not get smaller is sent as it is.
    const long = JSON.stringify({ name: 'room.temperature', value: 21.5, text: 'ab'.repeat(1_000) })
    for (const codec of codecs) expect([codec, await send(gateway, codec, long)]).toEqual([codec, 202])
    // Kafka's own tool reads them: the Node that runs the tests may not know each codec.
    for (const codec of codecs) {
      const isThere = async () => [...(await endOffsets(broker, topicOf(codec))).values()].includes(1)
      while (!(await isThere())) await pause(100)
    }
    const batches = await dumpTopics(
      inject('kafkaClasspath'),
      inject('kafkaDataDir'),
      ...codecs.map((codec) => topicOf(codec)),
    )
    for (const codec of codecs) {
      const own = batches.filter(({ topic }) => topic === topicOf(codec))
      expect(own.map((batch) => [batch.codec, batch.isValid])).toEqual([[codec, true]])
      expect(own[0]!.records.map(({ valueBytes }) => valueBytes)).toEqual([long.length])
    }

    const second = await runContainer(image, { ...options, env: { ...options.env, PORT: '0' } })
    expect([second.code, second.stdout + second.stderr]).toEqual([1, expect.stringContaining('/data')])
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
  })

  test('calls a 202 durable with a volume, and not where the data folder goes with the container', async () => {
    const env = { CHUTE_OPEN: 'true', KAFKA_BROKERS: broker, CHUTE_DATA_DIR: '/data' }
    const deliveryOf = async ({ url }: ServedGateway): Promise<string | null> => {
      const reply = await fetch(`${url}/v1/streams/metrics-critical`, { method: 'POST', body: event })
      expect([reply.status, await reply.text()]).toEqual([202, expect.anything()])
      return reply.headers.get('chute-delivery')
    }
    const without = await serveContainer(image, { env, rootFileSystem: 'overlay' })
    expect(await deliveryOf(without)).toBe('at-least-once')
    await without.logged('CHUTE_DATA_DIR: /data is on overlayfs and goes with the container')

    const data = newVolume('/data')
    const withVolume = await serveContainer(image, {
      env,
      rootFileSystem: 'overlay',
      volumes: { '/data': data },
    })
    // The volume is on this machine's disk, unless this machine is a container without one.
    const lasts = ephemeralFolder(data) === null
    expect(await deliveryOf(withVolume)).toBe(lasts ? 'at-least-once; durable' : 'at-least-once')
    for (const gateway of [without, withVolume]) {
      gateway.signal('SIGTERM')
      expect(await gateway.ended()).toBe(0)
    }
  })

  test('answers chute check, --help and a command that there is not', async () => {
    const env = { CHUTE_OPEN: 'true', KAFKA_BROKERS: broker }
    const chute = async (...args: string[]) =>
      await runContainer(image, { user: '12345:0', env, command: ['node', 'dist/main.js', ...args] })
    const checked = await chute('check')
    expect([checked.code, checked.stdout]).toEqual([0, expect.stringContaining('metrics-realtime')])
    const helped = await chute('--help')
    expect([helped.code, helped.stdout]).toEqual([0, expect.stringContaining('usage: chute')])
    expect((await chute('nothing')).code).toBe(2)
  })

  test.for(['PORT', 'ADMIN_PORT'])('is healthy by its HEALTHCHECK, which asks %s', async (name) => {
    const [port, adminPort] = await freePorts(2)
    const env = {
      CHUTE_OPEN: 'true',
      KAFKA_BROKERS: broker,
      PORT: String(port),
      ...(name === 'ADMIN_PORT' ? { ADMIN_PORT: String(adminPort) } : {}),
    }
    const [form, ...command] = image.config.Healthcheck!.Test
    expect(form).toBe('CMD')
    expect((await runContainer(image, { env, command })).code).toBe(1)
    const gateway = await serveContainer(image, { env })
    expect((await runContainer(image, { env, command })).code).toBe(0)
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
  })
})

/** The part of a service of compose.yaml that concerns its container. */
interface ComposeService {
  readonly command?: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly volumes?: readonly string[]
  readonly healthcheck?: { readonly test: readonly string[] }
}

test('the services of compose.yaml run in the image: an event goes through the gateway and its volume to the consumer', async () => {
  const [metricsPort] = await freePorts(1)
  // Two stacks may run on this machine.
  const text = readFileSync('compose.yaml', 'utf8').replaceAll('9464', String(metricsPort))
  const { services } = parse(text) as { services: Readonly<Record<'chute' | 'consumer', ComposeService>> }
  const { chute, consumer } = services

  const volumes = Object.fromEntries(
    chute.volumes!.map((each) => {
      const [source = '', path = ''] = each.split(':')
      return [path, source.startsWith('./') ? resolve(source) : newVolume(path)]
    }),
  )
  const env = { ...chute.environment, KAFKA_BROKERS: broker }
  const gateway = await serveContainer(image, { env, volumes })
  await gateway.ready()
  // The topics have their names from the image: an event is known by its own.
  const name = `compose.${randomUUID()}`
  const own = JSON.stringify({ name, value: 1 })
  expect(await send(gateway, 'metrics-critical', own)).toBe(401)
  const key = { 'x-chute-key': 'chk_pub_only_for_this_machine' }
  expect(await send(gateway, 'metrics-critical', own, key)).toBe(202)
  expect(readdirSync(volumes[chute.environment['CHUTE_DATA_DIR']!]!)).not.toEqual([])
  await untilWritten('metrics-critical', own)

  const reader = startContainer(image, {
    env: { ...consumer.environment, KAFKA_BROKERS: broker },
    command: consumer.command!,
  })
  reader.process.stderr.resume()
  const received = createInterface(reader.process.stdout)[Symbol.asyncIterator]()
  // A group begins at the end of a topic, at a moment that nobody is told: events come until one is there.
  const sending = { isOver: false }
  const sent = (async () => {
    while (!sending.isOver) {
      expect(await send(gateway, 'metrics-realtime', own, key)).toBe(202)
      await pause(200)
    }
  })()
  const line = await received.next()
  sending.isOver = true
  await sent
  expect(line.value).toContain(name)

  const [form, ...healthcheck] = consumer.healthcheck!.test
  expect(form).toBe('CMD')
  expect((await runContainer(image, { command: healthcheck })).code).toBe(0)
  const ended = once(reader.process, 'exit')
  reader.signal('SIGTERM')
  expect(await ended).toEqual([0, null])
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
})

import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { drain, DurableSetup, pendingIn } from '../support/durable-gateway.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { readTopic } from '../support/independent-reader.ts'
import type { ServedGateway } from '../support/served-gateway.ts'

const broker = inject('kafkaBroker')

/** A gateway whose Kafka is not there has accepted `count` events. */
async function withBacklog(
  setup: DurableSetup,
  count: number,
  env: NodeJS.ProcessEnv = {},
): Promise<ServedGateway> {
  const gateway = await setup.start({ KAFKA_BROKERS: '127.0.0.1:1', ...env })
  const body = JSON.stringify(
    Array.from({ length: count }, (_, value) => ({ name: 'left', source: 's', value })),
  )
  const reply = await fetch(`${gateway.url}/v1/streams/critical`, { method: 'POST', body })
  expect([reply.status, reply.headers.get('chute-delivery')]).toEqual([202, 'at-least-once; durable'])
  return gateway
}

async function valuesIn(topic: string): Promise<number[]> {
  const records = await readTopic(broker, topic)
  return records.map(({ value }) => (JSON.parse(value.toString()) as { value: number }).value)
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, value) => value)

test('chute drain sends what a gateway that was killed has left on disk, once and in order, and ends', async () => {
  const setup = new DurableSetup({ broker, name: `drain-${randomUUID()}` })
  const gateway = await withBacklog(setup, 500)
  const inUse = await drain(setup.env)
  expect([inUse.code, inUse.stderr]).toEqual([1, expect.stringContaining('in use')])
  gateway.signal('SIGKILL')
  await gateway.ended()
  expect(pendingIn(setup.dataDir)).toHaveLength(500)

  // Kafka is still away: nothing is lost by a drain that gives up.
  const away = await drain({ ...setup.env, KAFKA_BROKERS: '127.0.0.1:1' }, '--timeout-ms', '300')
  expect([away.code, away.log]).toEqual([
    1,
    expect.stringContaining('"records":500,"msg":"the folder still holds'),
  ])

  const { CHUTE_DATA_DIR: dataDir, ...env } = setup.env
  // Nobody sends requests, so the keys of the gateway need not be there.
  const doors = { HOST: '0.0.0.0', WORKERS: '2', CHUTE_KEYS_FILE: '/not/there', LIVE_EVENTS: 'true' }
  const sent = await drain({ ...env, ...doors }, '--data-dir', dataDir!)
  expect([sent.code, sent.stderr]).toEqual([0, ''])
  expect(await valuesIn(setup.critical)).toEqual(upTo(500))
  expect(pendingIn(setup.dataDir)).toEqual([])

  const again = await drain(setup.env)
  expect([again.code, again.log]).toEqual([0, expect.stringContaining('"records":0,"msg":"sending')])
  expect(await valuesIn(setup.critical)).toHaveLength(500)
})

test.runIf(isLong)(
  'chute drain fails for a folder with dead letters, which nobody sends, and names their file',
  async () => {
    const setup = new DurableSetup({ broker, name: `drain-${randomUUID()}` })
    const gateway = await withBacklog(setup, 1)
    gateway.signal('SIGKILL')
    await gateway.ended()
    const letters = join(setup.dataDir, 'dead-letters')
    mkdirSync(letters)
    writeFileSync(join(letters, 'critical.ndjson'), '{}\n')
    const { code, log } = await drain(setup.env)
    expect([code, log]).toEqual([1, expect.stringContaining(join(letters, 'critical.ndjson'))])
    expect(pendingIn(setup.dataDir)).toEqual([])
  },
)

test.runIf(isLong)(
  'chute drain says what is wrong with a folder that it cannot use, and makes none',
  async () => {
    const setup = new DurableSetup({ broker, name: `drain-${randomUUID()}` })
    const missing = await drain(setup.env, '--data-dir', `${setup.dataDir}/none`)
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('There is no folder')])
    const empty = await drain(setup.env)
    expect([empty.code, empty.stderr]).toEqual([1, expect.stringContaining('no data folder of Chute')])
    const unnamed = await drain({ ...setup.env, CHUTE_DATA_DIR: '' })
    expect([unnamed.code, unnamed.stderr]).toEqual([1, expect.stringContaining('--data-dir')])
    expect((await drain(setup.env, '--folder', '/tmp')).code).toBe(2)
  },
)

test('a gateway that stops waits for SPOOL_DRAIN_TIMEOUT_MS until Kafka has what is on its disk', async () => {
  const setup = new DurableSetup({ broker, name: `drain-${randomUUID()}` })
  const [port] = await freePorts(1)
  const gateway = await withBacklog(setup, 200, {
    KAFKA_BROKERS: `127.0.0.1:${port}`,
    SPOOL_DRAIN_TIMEOUT_MS: '60000',
  })
  gateway.signal('SIGTERM')
  await gateway.logged('draining')
  // Kafka comes back while the gateway waits.
  const [host, brokerPort] = broker.split(':')
  const relay = createServer((socket) => {
    const there = connect(Number(brokerPort), host)
    socket.pipe(there).pipe(socket)
    socket.on('error', () => there.destroy())
    there.on('error', () => socket.destroy())
  }).listen(port, '127.0.0.1')
  onTestFinished(() => void relay.close())
  expect(await gateway.ended()).toBe(0)
  expect(pendingIn(setup.dataDir)).toEqual([])
  expect(await valuesIn(setup.critical)).toEqual(upTo(200))
})

test.runIf(isLong)('a second signal ends the wait for Kafka, and what is on disk stays there', async () => {
  const setup = new DurableSetup({ broker, name: `drain-${randomUUID()}` })
  const gateway = await withBacklog(setup, 10, { SPOOL_DRAIN_TIMEOUT_MS: '600000' })
  gateway.signal('SIGTERM')
  await gateway.logged('draining')
  gateway.signal('SIGTERM')
  await gateway.ended()
  expect(pendingIn(setup.dataDir)).toHaveLength(10)
})

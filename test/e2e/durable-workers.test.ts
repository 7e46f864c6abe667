import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { createInterface } from 'node:readline'
import { expect, inject, onTestFinished, test, vi } from 'vitest'
import { DurableSetup, scrape, untilDrained } from '../support/durable-gateway.ts'
import { isLong } from '../support/forms.ts'
import { readTopic } from '../support/independent-reader.ts'
import { chuteArguments, chuteEnvironment, type ServedGateway } from '../support/served-gateway.ts'

// Up to four processes a gateway.
vi.setConfig({ testTimeout: 180_000 })

const broker = inject('kafkaBroker')
const withoutKafka = { KAFKA_BROKERS: '127.0.0.1:1' }

/** Sends events one by one, each over a connection of its own: the workers take them in turn. All get a durable 202. */
async function accept({ url }: ServedGateway, from: number, to: number): Promise<void> {
  for (let value = from; value < to; value++) {
    const sent = request(`${url}/v1/streams/critical`, { method: 'POST', agent: false })
    sent.end(JSON.stringify({ name: 'left', value }))
    const [reply] = (await once(sent, 'response')) as [IncomingMessage]
    reply.resume()
    expect([reply.statusCode, reply.headers['chute-delivery']]).toEqual([
      202,
      expect.stringMatching(/^at-least-once; durable/),
    ])
  }
}

/** kill -9 of the primary, and the end of the workers that it leaves. */
async function kill(gateway: ServedGateway): Promise<void> {
  gateway.signal('SIGKILL')
  await gateway.ended()
}

async function valuesIn(topic: string): Promise<number[]> {
  const records = await readTopic(broker, topic)
  return records
    .map(({ value }) => (JSON.parse(value.toString()) as { value: number }).value)
    .toSorted((one, other) => one - other)
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, value) => value)

test('three workers, one process, two workers: each start takes over what is on disk, and all of it is sent once', async () => {
  const setup = new DurableSetup({ broker, name: `handed-on-${randomUUID()}` })
  const three = await setup.start({ ...withoutKafka, WORKERS: '3' })
  await accept(three, 0, 12)
  await kill(three)

  const one = await setup.start({ ...withoutKafka })
  await accept(one, 12, 15)
  const sums = await scrape(one)
  expect(sums.get('chute_spool_records')).toBe(15)
  expect(sums.get('chute_records_recovered_total')).toBe(12)
  // What is left shares the ceilings of the stream.
  expect(sums.get('chute_spool_max_bytes')).toBe(4 * 2 ** 30)
  expect(sums.get('kafka_producer_buffer_total_bytes')).toBe(67_108_864)
  one.signal('SIGTERM')
  expect(await one.ended()).toBe(0)
  expect(one.lines.at(-1)).toMatchObject({ spooled: 15 })

  const two = await setup.start({ WORKERS: '2' })
  const drained = await untilDrained(two)
  expect(drained.get('chute_records_recovered_total')).toBe(15)
  expect(drained.get('chute_spool_max_bytes')).toBe(4 * 2 ** 30)
  await accept(two, 15, 19)
  await untilDrained(two)
  two.signal('SIGTERM')
  expect(await two.ended()).toBe(0)
  expect(await valuesIn(setup.critical)).toEqual(upTo(19))
})

test.runIf(isLong)(
  'a worker that is killed without Kafka takes its folder back, and a stop waits for what is on disk',
  async () => {
    const setup = new DurableSetup({ broker, name: `taken-back-${randomUUID()}` })
    const gateway = await setup.start({
      ...withoutKafka,
      WORKERS: '2',
      SHUTDOWN_TIMEOUT_MS: '100',
      SPOOL_DRAIN_TIMEOUT_MS: '4000',
    })
    await accept(gateway, 0, 6)
    const workers = gateway.lines.find(({ msg }) => String(msg).startsWith('listening on'))!['workers']
    await gateway.reported((families) => families.get('chute_spool_records')?.samples[0]?.value === 6)
    process.kill((workers as { pid: number }[])[0]!.pid, 'SIGKILL')
    expect(await gateway.logged('a worker ended by itself')).toMatchObject({ worker: 1, lost: 0 })
    await gateway.logged('a worker takes requests again')
    const sums = await scrape(gateway)
    expect(sums.get('chute_spool_records')).toBe(6)
    expect(sums.get('chute_records_total')).toBe(0)
    const beganMs = performance.now()
    gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
    expect(performance.now() - beganMs).toBeGreaterThan(4_000)
    expect(gateway.lines.at(-1)).toMatchObject({ spooled: 6, account: { critical: { spooled: 6 } } })

    const child = spawn(process.execPath, [...chuteArguments, 'drain'], {
      env: chuteEnvironment(setup.env),
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    await once(child, 'close')
    expect(child.exitCode).toBe(0)
    expect(await valuesIn(setup.critical)).toEqual(upTo(6))
  },
)

test.runIf(isLong)(
  'the next gateway waits for a worker that a killed primary left, and finds what that worker still accepted',
  async () => {
    const setup = new DurableSetup({ broker, name: `orphaned-${randomUUID()}` })
    // The worker waits for the body as long as the next gateway takes to get that far.
    const waits = { SHUTDOWN_TIMEOUT_MS: '100000', BODY_TIMEOUT_MS: '100000' }
    const env = { ...setup.env, ...withoutKafka, ...waits, WORKERS: '2', PORT: '0', DRAIN_DELAY_MS: '0' }
    const gateway = await setup.start(env)
    const body = JSON.stringify({ name: 'late', value: 1 })
    const sent = request(`${gateway.url}/v1/streams/critical`, {
      method: 'POST',
      agent: false,
      headers: { 'content-length': body.length },
    })
    sent.write(body.slice(0, 5))
    const reply = once(sent, 'response') as Promise<[IncomingMessage]>
    await gateway.reported((families) => families.get('chute_bodies')?.samples[0]?.value === 1)
    gateway.signal('SIGKILL')

    const serve = () => {
      const child = spawn(process.execPath, [...chuteArguments, 'serve'], {
        env: chuteEnvironment(env),
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      onTestFinished(() => void child.kill('SIGKILL'))
      const lines = createInterface(child.stdout)
      const logged = async (message: string): Promise<Record<string, unknown>> =>
        await new Promise((resolve) => {
          lines.on('line', (line) => {
            const said = JSON.parse(line) as Record<string, unknown>
            if (String(said['msg']).startsWith(message)) resolve(said)
          })
        })
      return { child, logged }
    }
    const stillHas = 'a worker of an earlier start still has its folder'
    // A start that waits can be ended.
    const impatient = serve()
    await impatient.logged(stillHas)
    impatient.child.kill('SIGTERM')
    expect(await once(impatient.child, 'exit')).toEqual([0, null])

    const { logged } = serve()
    const listening = logged('listening on')
    expect(await logged(stillHas)).toMatchObject({
      cause: expect.stringContaining('in use by another worker'),
    })
    sent.end(body.slice(5))
    const [answer] = await reply
    expect([answer.statusCode, answer.headers['chute-delivery']]).toEqual([
      202,
      expect.stringContaining('durable'),
    ])
    const { url } = await listening
    const metrics = await (await fetch(`${String(url)}/metrics`)).text()
    expect(metrics).toMatch(/^chute_records_recovered_total\{stream="critical".*\} 1$/m)
  },
)

test.runIf(isLong)('workers whose primary is killed while they start end too', async () => {
  const setup = new DurableSetup({ broker, name: `starting-${randomUUID()}` })
  const child = spawn(process.execPath, [...chuteArguments, 'serve'], {
    env: chuteEnvironment({ ...setup.env, ...withoutKafka, WORKERS: '2', PORT: '0' }),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  // The workers have their folders now, and look for Kafka for two seconds before they listen.
  for await (const line of createInterface(child.stdout)) if (line.includes('Kafka was not reached')) break
  child.stdout.resume()
  child.kill('SIGKILL')
  // The output ends with the last process that has it.
  await once(child, 'close')
})

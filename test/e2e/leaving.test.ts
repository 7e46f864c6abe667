import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, inject, onTestFinished, test } from 'vitest'
import { hasBalancers, startHaproxy, startNginx } from '../support/balancers.ts'
import { byForm, isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { eachRecord } from '../support/independent-reader.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

/** A stream, `s`, with a topic of the test's own. */
function environment(): { topic: string; env: NodeJS.ProcessEnv } {
  const folder = mkdtempSync(join(tmpdir(), 'chute-leaving-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const topic = `leaving-${randomUUID()}`
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-most-once, schema: any } }\n`)
  return { topic, env: { KAFKA_BROKERS: inject('kafkaBroker'), CHUTE_CONFIG: file } }
}

async function start(env: NodeJS.ProcessEnv): Promise<ServedGateway> {
  const gateway = await serveGateway(env)
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return gateway
}

/** Clients of one balancer: each sends one numbered event after the other, over a connection that it keeps. */
class Clients {
  readonly taken: string[] = []
  readonly failed: string[] = []
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 8 })
  readonly #loops: Promise<void>[]
  #isOver = false
  #number = 0

  constructor(name: string, port: number) {
    this.#loops = Array.from({ length: 8 }, async () => {
      while (!this.#isOver) {
        const event = `${name}-${this.#number++}`
        const outcome = await this.#post(port, event)
        if (outcome === '202') this.taken.push(event)
        else this.failed.push(`${event}: ${outcome}`)
        // About a thousand a second in all leave the machine room for what is restarted.
        await pause(5)
      }
    })
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#loops)
    this.#agent.destroy()
  }

  async #post(port: number, event: string): Promise<string> {
    return await new Promise((resolve) => {
      const sent = request(
        { port, host: '127.0.0.1', agent: this.#agent, method: 'POST', path: '/v1/streams/s' },
        (reply) => {
          reply.resume().once('end', () => resolve(String(reply.statusCode)))
          reply.once('error', (error) => resolve(error.message))
        },
      )
      sent.once('error', (error) => resolve(error.message))
      sent.end(JSON.stringify(event))
    })
  }
}

describe.skipIf(!hasBalancers)('two gateways behind HAProxy and behind nginx', () => {
  test.each(isLong ? ['1', '2'] : ['1'])(
    'with %s worker(s) are restarted by SIGTERM, and no request fails, no event is lost, none comes twice',
    { timeout: 400_000 },
    async (WORKERS) => {
      const { topic, env } = environment()
      const ports = await freePorts(4)
      const [one, two, haproxyPort, nginxPort] = ports as [number, number, number, number]
      const serve = async (port: number) =>
        await start({ ...env, WORKERS, PORT: String(port), DRAIN_DELAY_MS: '2500' })
      const gateways = await Promise.all([serve(one), serve(two)])
      const untilHaproxySees = await startHaproxy(haproxyPort, [one, two])
      const nginxErrors = await startNginx(nginxPort, [one, two])
      const clients = [new Clients('haproxy', haproxyPort), new Clients('nginx', nginxPort)]

      const restarts = WORKERS === '1' ? byForm({ short: 2, ci: 6, full: 6 }) : 2
      for (let nth = 0; nth < restarts; nth++) {
        const place = nth % 2
        gateways[place]!.signal('SIGTERM')
        expect(await gateways[place]!.ended()).toBe(0)
        gateways[place] = await serve([one, two][place]!)
        await untilHaproxySees()
        // nginx takes it back a second (`fail_timeout`) after it was refused. nginx counts whole seconds, so that can be two.
        await pause(2_100)
      }
      await Promise.all(clients.map(async (each) => await each.stop()))
      for (const gateway of gateways) gateway.signal('SIGINT')
      for (const gateway of gateways) expect(await gateway.ended()).toBe(0)

      expect(
        clients.flatMap(({ failed }) => failed),
        nginxErrors().slice(0, 5_000),
      ).toEqual([])
      const landed: string[] = []
      await eachRecord(inject('kafkaBroker'), topic, ({ value }) =>
        landed.push(JSON.parse(value.toString()) as string),
      )
      expect(landed.toSorted()).toEqual(clients.flatMap(({ taken }) => taken).toSorted())
      for (const { taken } of clients) expect(taken.length).toBeGreaterThan(1_000)
    },
  )
})

/**
 * A client that follows a gateway that leaves: it is sent away with each reply during the delay, then it may stay, and then it is
 * sent away for good.
 * @returns whether the port took a connection after that.
 */
async function untilSentAway(port: number): Promise<'taken' | 'refused'> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  onTestFinished(() => agent.destroy())
  for (const step of ['close', 'keep-alive', 'close']) {
    for (;;) {
      const { headers } = await new Promise<IncomingMessage>((resolve, reject) => {
        const sent = request(
          { port, host: '127.0.0.1', agent, method: 'POST', path: '/v1/streams/s' },
          (reply) => reply.resume().once('end', () => resolve(reply)),
        )
        sent.once('error', reject).end('1')
      })
      if (headers.connection === step) break
      await pause(5)
    }
  }
  return await new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve('taken'))
    socket.once('error', () => resolve('refused')).once('connect', () => socket.destroy())
  })
}

test.runIf(isLong)(
  'no worker sends its clients away for good while another one still takes connections',
  async () => {
    const { env } = environment()
    const gateway = await start({ ...env, WORKERS: '2', DRAIN_DELAY_MS: '500' })
    const port = Number(new URL(gateway.url).port)
    gateway.signal('SIGTERM')
    await gateway.logged('draining')
    // A worker that has each second one of these connections takes the moment for quiet, and one that has all of them does not.
    const others = setInterval(() => {
      const socket = connect(port, '127.0.0.1', () => socket.destroy())
      socket.once('error', () => {})
    }, 150)
    onTestFinished(() => clearInterval(others))
    const clients = Array.from({ length: 6 }, async () => await untilSentAway(port))
    expect(await Promise.all(clients)).toEqual(Array(6).fill('refused'))
    expect(await gateway.ended()).toBe(0)
  },
)

describe('DRAIN_DELAY_MS', () => {
  test('SIGTERM makes /readyz 503 at once, requests are taken until it is over, and then the gateway leaves', async () => {
    const { env } = environment()
    const gateway = await start({ ...env, DRAIN_DELAY_MS: '1500' })
    gateway.signal('SIGTERM')
    await gateway.logged('draining')
    const beforeMs = performance.now()
    const readiness = await fetch(`${gateway.url}/readyz`)
    expect(readiness.status).toBe(503)
    expect(await readiness.json()).toMatchObject({ ready: false })
    const reply = await fetch(`${gateway.url}/v1/streams/s`, { method: 'POST', body: '1' })
    expect([reply.status, reply.headers.get('connection')]).toEqual([202, 'close'])
    expect(await gateway.ended()).toBe(0)
    expect(performance.now() - beforeMs).toBeGreaterThan(1_200)
  })

  test.each(isLong ? ['1', '2'] : ['1'])(
    'a second signal ends the delay and not the drain, with %s worker(s)',
    async (WORKERS) => {
      const { env } = environment()
      const gateway = await start({ ...env, WORKERS, DRAIN_DELAY_MS: '60000' })
      const reply = await fetch(`${gateway.url}/v1/streams/s`, { method: 'POST', body: '1' })
      expect(reply.status).toBe(202)
      gateway.signal('SIGTERM')
      await gateway.logged('draining')
      gateway.signal('SIGTERM')
      expect(await gateway.ended()).toBe(0)
      expect(gateway.lines.at(-1)).toMatchObject({ account: { s: { accepted: 1, confirmed: 1 } } })
    },
  )

  test.runIf(isLong).each([
    ['SIGTERM', 5_000],
    ['SIGINT', 0],
  ] as const)('unset is for %s %d ms', async (signal, drainDelayMs) => {
    const { env } = environment()
    const gateway = await start({ ...env, DRAIN_DELAY_MS: undefined })
    gateway.signal(signal)
    expect(await gateway.logged('draining')).toMatchObject({ signal, drainDelayMs })
    if (drainDelayMs > 0) gateway.signal('SIGTERM')
    expect(await gateway.ended()).toBe(0)
  })
})

test.each(isLong ? ['1', '2'] : ['1'])('SIGHUP ends nothing, with %s worker(s)', async (WORKERS) => {
  const { env } = environment()
  const gateway = await start({ ...env, WORKERS })
  gateway.signal('SIGHUP')
  await gateway.logged('SIGHUP: the files of the configuration have nothing new')
  const reply = await fetch(`${gateway.url}/v1/streams/s`, { method: 'POST', body: '1' })
  expect(reply.status).toBe(202)
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
})

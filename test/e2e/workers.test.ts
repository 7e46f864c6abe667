import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request, type OutgoingHttpHeaders } from 'node:http'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, inject, onTestFinished, test, vi } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { isLong } from '../support/forms.ts'
import { endOffsets } from '../support/independent-reader.ts'
import { parseExposition, sumOf, valueOf, type ParsedFamily } from '../support/parse-exposition.ts'
import {
  chuteArguments,
  chuteEnvironment,
  serveGateway,
  type ServedGateway,
} from '../support/served-gateway.ts'

// Three processes each, from their sources.
vi.setConfig({ testTimeout: 180_000 })

/** A gateway of two workers with one at-most-once stream, `s`, and a topic of the test's own. */
async function serveWorkers(broker: string, env: NodeJS.ProcessEnv = {}): Promise<[ServedGateway, string]> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-workers-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const topic = `workers-${randomUUID()}`
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, `streams: { s: { topic: ${topic}, delivery: at-most-once } }\n`)
  const gateway = await serveGateway({ KAFKA_BROKERS: broker, CHUTE_CONFIG: file, WORKERS: '2', ...env })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return [gateway, topic]
}

/** The process of each worker, as the log's start line names it. */
function pidsOf({ lines }: ServedGateway): Map<number, number> {
  const start = lines.find(({ msg }) => String(msg).startsWith('listening on'))
  const workers = start?.['workers'] as { worker: number; pid: number }[]
  return new Map(workers.map(({ worker, pid }) => [worker, pid]))
}

/** Asks over the agent's connections, or over a new one, which can end at any worker. */
async function ask(
  url: string,
  options: { body?: string; agent?: Agent; headers?: OutgoingHttpHeaders } = {},
): Promise<{ status: number; body: string }> {
  return await new Promise((resolve, reject) => {
    const { body, agent = false, headers = {} } = options
    const method = body === undefined ? 'GET' : 'POST'
    request(url, { method, agent, headers }, (response) => {
      text(response).then((answer) => resolve({ status: response.statusCode ?? 0, body: answer }), reject)
    })
      .on('error', reject)
      .end(body)
  })
}

/** `connections` clients side by side send bodies of `events` events until `takeTurn` says no; what was accepted. */
async function sendEvents(
  { url }: ServedGateway,
  options: {
    connections: number
    events: number
    takeTurn: () => boolean
    /** Pause of a client between two requests, so that a load without an end leaves the machine room. 0 unless set. */
    pauseMs?: number
    /** A request of so many events got no reply: the worker may have taken it. */
    onUnanswered?: (events: number) => void
  },
): Promise<number> {
  const { connections, events, takeTurn, pauseMs = 0, onUnanswered } = options
  const body = Array.from({ length: events }, (_, value) => `{"name":"a","value":${value}}\n`).join('')
  let accepted = 0
  const client = async (): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    while (takeTurn()) {
      // A worker that is killed takes its connections along; one that has just started does not know Kafka yet.
      const reply = await ask(`${url}/v1/streams/s`, { body, agent }).catch(() => ({ status: 0 }))
      if (reply.status === 202) accepted += events
      else if (reply.status === 0) onUnanswered?.(events)
      if (pauseMs > 0) await pause(pauseMs)
    }
    agent.destroy()
  }
  await Promise.all(Array.from({ length: connections }, client))
  return accepted
}

/** Connections on which nothing was sent yet. */
async function connectTo({ url }: ServedGateway, count: number): Promise<Socket[]> {
  const port = Number(new URL(url).port)
  const connections = Array.from({ length: count }, () => connect(port, '127.0.0.1'))
  onTestFinished(() => connections.forEach((connection) => connection.destroy()))
  await Promise.all(connections.map(async (connection) => await once(connection, 'connect')))
  return connections
}

async function scrape({ url }: ServedGateway): Promise<Map<string, ParsedFamily>> {
  const { status, body } = await ask(`${url}/metrics`)
  expect(status).toBe(200)
  return parseExposition(body, 'prometheus')
}

/** The accounts close, and no counter is below what the scrape before said. */
function checkScrape(
  families: Map<string, ParsedFamily>,
  before: Map<string, ParsedFamily> | undefined,
): void {
  expect(valueOf(families, 'chute_records_accepted_total')).toBe(
    sumOf(families, 'chute_records_pending') + sumOf(families, 'chute_records_total'),
  )
  expect(sumOf(families, 'chute_events_total', { result: 'accepted' })).toBe(
    valueOf(families, 'chute_records_accepted_total'),
  )
  expect(sumOf(families, 'chute_workers')).toBe(2)
  for (const { name, type, samples } of before?.values() ?? []) {
    if (type === 'gauge') continue
    for (const sample of samples) {
      const now = families
        .get(name)
        ?.samples.find(
          (each) =>
            each.name === sample.name && JSON.stringify(each.labels) === JSON.stringify(sample.labels),
        )
      expect(now?.value, `${sample.name} ${JSON.stringify(sample.labels)}`).toBeGreaterThanOrEqual(
        sample.value,
      )
    }
  }
}

/** Scrapes over new connections until `work` is done, and once more; the last scrape. */
async function scrapeDuring(
  gateway: ServedGateway,
  work: Promise<unknown>,
): Promise<Map<string, ParsedFamily>> {
  const state = { done: false }
  const finished = work.finally(() => (state.done = true))
  let last: Map<string, ParsedFamily> | undefined
  while (!state.done) {
    const families = await scrape(gateway).catch((error: NodeJS.ErrnoException) => {
      // The worker that was to answer was killed; another scrape meets another.
      if (error.code === 'ECONNRESET') return null
      throw error
    })
    if (families === null) continue
    checkScrape(families, last)
    last = families
    await pause(20)
  }
  await finished
  const families = await scrape(gateway)
  checkScrape(families, last)
  return families
}

test('10,000 events over 40 connections: every scrape adds up, all land, and SIGTERM drains', async () => {
  const broker = inject('kafkaBroker')
  const [gateway, topic] = await serveWorkers(broker)
  let last: Map<string, ParsedFamily> | undefined
  for (let part = 0; part < 10; part++) {
    let turns = 0
    const sending = sendEvents(gateway, { connections: 40, events: 20, takeTurn: () => turns++ < 50 })
    const families = await scrape(gateway)
    checkScrape(families, last)
    last = families
    expect(await sending).toBe(1_000)
  }
  await gateway.reported((families) => {
    checkScrape(families, last)
    const running = valueOf(families, 'chute_workers', { state: 'running' })
    return running === 2 && valueOf(families, 'chute_records_accepted_total') === 10_000
  })
  expect(valueOf(await scrape(gateway), 'kafka_producer_buffer_total_bytes')).toBe(67_108_864)
  const live = JSON.parse((await ask(`${gateway.url}/live.json`)).body) as { streams: { accepted: number }[] }
  expect(live.streams[0]?.accepted).toBe(10_000)
  expect((await ask(`${gateway.url}/livez`)).status).toBe(200)

  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
  expect(gateway.lines.at(-1)).toMatchObject({
    level: 'info',
    account: { s: { accepted: 10_000, confirmed: 10_000, suspectedLost: 0, buffered: 0, inFlight: 0 } },
  })
  const ends = await endOffsets(broker, topic)
  expect([...ends.values()].reduce((sum, end) => sum + end, 0)).toBe(10_000)
})

test('a worker that is killed is started again, and no counter goes back', async () => {
  const broker = inject('kafkaBroker')
  const [gateway, topic] = await serveWorkers(broker)
  let again = false
  let turnsAfter = 0
  let unanswered = 0
  const sending = sendEvents(gateway, {
    connections: 20,
    events: 20,
    takeTurn: () => !again || turnsAfter++ < 200,
    pauseMs: 20,
    onUnanswered: (events) => (unanswered += events),
  })
  const scraping = scrapeDuring(gateway, sending)
  await gateway.reported((families) => valueOf(families, 'chute_records_accepted_total') > 1_000)
  process.kill(pidsOf(gateway).get(2)!, 'SIGKILL')
  expect(await gateway.logged('a worker ended by itself')).toMatchObject({
    level: 'error',
    worker: 2,
    signal: 'SIGKILL',
    lost: expect.any(Number),
    account: { s: { buffered: 0, inFlight: 0 } },
  })
  const restarted = await gateway.logged('a worker takes requests again')
  expect(restarted).toMatchObject({ worker: 2 })
  expect(restarted['pid']).not.toBe(pidsOf(gateway).get(2))
  await gateway.ready()
  again = true
  const last = await scraping
  const accepted = await sending
  expect(valueOf(last, 'chute_worker_restarts_total')).toBe(1)
  // What the worker took between its last report and its end, nobody could add up. It may have counted and written a request
  // whose reply went with it.
  const counted = valueOf(last, 'chute_records_accepted_total')
  expect(counted).toBeLessThanOrEqual(accepted + unanswered)

  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
  const { account } = gateway.lines.at(-1) as { account: { s: Record<string, number> } }
  expect(account['s']).toMatchObject({ accepted: counted, buffered: 0, inFlight: 0 })
  const landed = [...(await endOffsets(broker, topic)).values()].reduce((sum, end) => sum + end, 0)
  expect(landed).toBeGreaterThanOrEqual(account.s['confirmed']!)
  expect(landed).toBeLessThanOrEqual(accepted + unanswered)
})

test('a connection that a killed worker had not taken goes to another worker', async () => {
  const [gateway] = await serveWorkers(inject('kafkaBroker'))
  const pid = pidsOf(gateway).get(1)!
  process.kill(pid, 'SIGSTOP')
  // Connections go to the workers in turns: of four, one at least is handed to the worker that stands still.
  const connections = await connectTo(gateway, 4)
  const replies = connections.map(async (connection) => {
    connection.write('GET /readyz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n')
    return await text(connection)
  })
  // The other worker's answers come by way of the primary: it has handed over what came before.
  await untilAnswered(async () => await ask(`${gateway.url}/readyz`))
  process.kill(pid, 'SIGKILL')
  for (const reply of await Promise.all(replies)) expect(reply).toMatch(/^HTTP\/1\.1 (200|503) /)
  await gateway.logged('a worker takes requests again')
})

test('where every worker is killed, a connection that none had taken is closed', async () => {
  const [gateway] = await serveWorkers(inject('kafkaBroker'))
  const pids = [...pidsOf(gateway).values()]
  for (const pid of pids) process.kill(pid, 'SIGSTOP')
  const connections = await connectTo(gateway, 4)
  const closed = connections.map(async (connection) => {
    connection.on('error', () => {})
    await once(connection.resume(), 'close')
  })
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await Promise.all(closed)
  await gateway.logged('a worker takes requests again')
})

test.runIf(isLong)('of a worker that throws every record is accounted for', async () => {
  const bug = `process.on('SIGUSR2', () => { throw new Error('a bug') })`
  const [gateway] = await serveWorkers(inject('kafkaBroker'), {
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(bug)}`,
  })
  let turns = 0
  expect(await sendEvents(gateway, { connections: 8, events: 20, takeTurn: () => turns++ < 80 })).toBe(1_600)
  process.kill(pidsOf(gateway).get(2)!, 'SIGUSR2')
  const ended = await gateway.logged('a worker ended by itself')
  const families = await scrape(gateway)
  expect(valueOf(families, 'chute_records_accepted_total')).toBe(1_600)
  expect(ended).toMatchObject({ worker: 2, account: { s: { buffered: 0, inFlight: 0 } } })
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
})

test.runIf(isLong)('Ctrl-C, which every process of the group gets, drains once', async () => {
  const [gateway] = await serveWorkers(inject('kafkaBroker'))
  let turns = 0
  expect(await sendEvents(gateway, { connections: 4, events: 20, takeTurn: () => turns++ < 40 })).toBe(800)
  for (const pid of pidsOf(gateway).values()) process.kill(pid, 'SIGINT')
  gateway.signal('SIGINT')
  expect(await gateway.ended()).toBe(0)
  expect(gateway.lines.at(-1)).toMatchObject({ account: { s: { accepted: 800, confirmed: 800 } } })
})

test.runIf(isLong)('a second SIGTERM ends all workers at once and says what is lost', async () => {
  const kafka = await startKafka({})
  onTestFinished(async () => await kafka.stop())
  const [gateway] = await serveWorkers(kafka.brokers[0]!, { SHUTDOWN_TIMEOUT_MS: '50000' })
  await kafka.nodes[0]!.kill('SIGSTOP')
  let turns = 0
  const accepted = await sendEvents(gateway, { connections: 4, events: 20, takeTurn: () => turns++ < 40 })
  gateway.signal('SIGTERM')
  await gateway.logged('draining')
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(1)
  await kafka.nodes[0]!.kill('SIGCONT')
  expect(gateway.lines.at(-1)).toMatchObject({
    level: 'error',
    lost: accepted,
    msg: expect.stringContaining('second signal'),
    account: { s: { accepted, confirmed: 0, buffered: 0, inFlight: 0 } },
  })
})

test.runIf(isLong)('workers whose primary is killed drain and leave', async () => {
  const broker = inject('kafkaBroker')
  const [gateway, topic] = await serveWorkers(broker)
  let turns = 0
  const accepted = await sendEvents(gateway, { connections: 4, events: 20, takeTurn: () => turns++ < 40 })
  gateway.signal('SIGKILL')
  // The log ends when no process has it open.
  await gateway.ended()
  const last = gateway.lines.filter(({ msg }) => String(msg).startsWith('stopped'))
  expect(new Set(last.map(({ worker }) => worker))).toEqual(new Set([1, 2]))
  const landed = [...(await endOffsets(broker, topic)).values()].reduce((sum, end) => sum + end, 0)
  expect(landed).toBe(accepted)
})

test('a worker that does not answer makes the gateway not ready, and no scrape hangs', async () => {
  const [gateway] = await serveWorkers(inject('kafkaBroker'))
  const pid = pidsOf(gateway).get(1)!
  process.kill(pid, 'SIGSTOP')
  onTestFinished(() => endProcess(pid))
  const [ready, families] = await untilAnswered(async () => {
    const answer = await ask(`${gateway.url}/readyz`)
    return [answer, await scrape(gateway)] as const
  })
  process.kill(pid, 'SIGCONT')
  expect(ready.status).toBe(503)
  expect(ready.body).toContain('worker 1 is silent')
  expect(valueOf(families, 'chute_workers', { state: 'silent' })).toBe(1)
  await gateway.ready()
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
})

/** Ends a process that may have ended by itself. */
function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone.
  }
}

/** A connection can be handed to the very worker that is stopped: then another is tried. */
async function untilAnswered<T>(attempt: () => Promise<T>): Promise<T> {
  return await Promise.any(Array.from({ length: 4 }, attempt))
}

test.runIf(isLong)('the rate limit of an address holds over all workers', async () => {
  const [gateway] = await serveWorkers(inject('kafkaBroker'), {
    RATE_LIMIT_MAX: '10',
    RATE_LIMIT_WINDOW: '1h',
  })
  let turns = 0
  expect(await sendEvents(gateway, { connections: 6, events: 1, takeTurn: () => turns++ < 60 })).toBe(10)
})

test.runIf(isLong)('a primary that does not answer stops no request, and no scrape hangs', async () => {
  const [gateway] = await serveWorkers(inject('kafkaBroker'), { RATE_LIMIT_MAX: '1000' })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  onTestFinished(() => agent.destroy())
  const url = `${gateway.url}/v1/streams/s`
  const body = '{"name":"a","value":1}'
  expect((await ask(url, { body, agent })).status).toBe(202)
  gateway.signal('SIGSTOP')
  expect((await ask(url, { body, agent })).status).toBe(202)
  const scraped = await ask(`${gateway.url}/metrics`, { agent })
  expect(scraped.status).toBe(500)
  expect(JSON.parse(scraped.body)).toMatchObject({ code: 'internal' })
  gateway.signal('SIGCONT')
  await gateway.ready()
  await gateway.reported((families) => valueOf(families, 'chute_records_accepted_total') === 2)
  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
})

test.runIf(isLong)(
  'a port that is taken ends the start of all, with the message that one process has',
  async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const { port } = other.address() as AddressInfo
    const env = { KAFKA_BROKERS: inject('kafkaBroker'), PORT: String(port) }
    const ends = await Promise.all(
      ['1', '2'].map(async (WORKERS) => {
        const child = spawn(process.execPath, [...chuteArguments, 'serve'], {
          env: chuteEnvironment({ ...env, WORKERS }),
          stdio: ['ignore', 'ignore', 'pipe'],
        })
        const [message] = await Promise.all([text(child.stderr), once(child, 'close')])
        return { message, code: child.exitCode }
      }),
    )
    expect(ends[0]).toMatchObject({
      code: 1,
      message: expect.stringContaining('is taken by another process'),
    })
    expect(ends[1]).toEqual(ends[0])
  },
)

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { request, Agent } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { singleEvent } from './events.ts'
import { hostileShapes, type HostileShape } from './hostile-shapes.ts'
import { openLoop } from './open-loop.ts'
import { say } from './rounds.ts'
import { startChute, type ChuteProcess } from './server-process.ts'

/** What one connection that sends a hostile body over and over does to everybody else. */
export interface HostileRow {
  readonly shape: string
  /** Of its last reply. */
  readonly status: number
  readonly requests: number
  /** Longest pause of the event loop for work of our own. */
  readonly ownMaxMs: number
  /** Of another client, 200 single events a second. */
  readonly p50Ms: number
  readonly p99Ms: number
  /** Beside the same client in the calm of the same run. */
  readonly p50AboveCalmMs: number
}

const ratePerSecond = 200

/**
 * Bodies that are made to take long, each by one connection, beside a client that sends single events. `HOSTILE_SHAPES` is a regular
 * expression: only the shapes whose names it matches are sent.
 */
export async function benchHostile(
  kafka: LocalKafka,
  options: { seconds: number },
): Promise<{ rows: HostileRow[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  const jsonSchema = join(folder, 'schema.json')
  writeFileSync(jsonSchema, JSON.stringify({ type: 'object', required: ['name'] }))
  const uniqueSchema = join(folder, 'unique.json')
  writeFileSync(uniqueSchema, JSON.stringify({ properties: { items: { uniqueItems: true } } }))
  const streams = {
    'bench-telemetry': { delivery: 'at-most-once' },
    'bench-critical': { delivery: 'at-least-once' },
    'bench-durable': { delivery: 'at-least-once' },
    'bench-any': { delivery: 'at-most-once', schema: 'any' },
    'bench-schema': { delivery: 'at-most-once', schema: jsonSchema },
    'bench-page': { delivery: 'at-most-once', schema: 'page' },
    'bench-reports': { delivery: 'at-most-once', schema: 'reports' },
    'bench-unique': { delivery: 'at-most-once', schema: uniqueSchema },
  }
  const config = join(folder, 'streams.json')
  writeFileSync(config, JSON.stringify({ streams }))
  const asked = new RegExp(process.env['HOSTILE_SHAPES'] ?? '')
  const shapes = hostileShapes().filter(({ name }) => asked.test(name))
  const isDurable = ({ path }: HostileShape): boolean => path.endsWith('/bench-durable')
  const durable = { CHUTE_DATA_DIR: join(folder, 'data'), CHUTE_DATA_DIR_EPHEMERAL: 'true' }
  const runs = [
    { env: {}, some: shapes.filter((each) => !isDurable(each)) },
    { env: durable, some: shapes.filter(isDurable) },
  ]
  const rows: HostileRow[] = []
  try {
    for (const { env, some } of runs) {
      if (some.length === 0) continue
      const chute = await startChute(kafka.brokers[0]!, { CHUTE_CONFIG: config, ...env }, { probe: true })
      try {
        rows.push(...(await benchShapes(chute, some, options)))
      } finally {
        await chute.stop()
      }
    }
    return { rows }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function benchShapes(
  chute: ChuteProcess,
  shapes: readonly HostileShape[],
  options: { seconds: number },
): Promise<HostileRow[]> {
  // The first of each shape compiles what the others use.
  for (const shape of shapes) await send(chute, shape, null)
  const calm = await others(chute, options.seconds)
  const rows: HostileRow[] = []
  for (const shape of shapes) {
    await chute.readProbe()
    const ended = { isEnded: false }
    const sending = sendUntil(chute, shape, ended)
    const { p50Ms, p99Ms } = await others(chute, options.seconds)
    ended.isEnded = true
    const { status, requests } = await sending
    const { ownMaxMs } = await chute.readProbe()
    rows.push({
      shape: shape.name,
      status,
      requests,
      ownMaxMs,
      p50Ms,
      p99Ms,
      p50AboveCalmMs: p50Ms - calm.p50Ms,
    })
    say(
      `${shape.name}: ${status}, longest pause ${ownMaxMs.toFixed(1)} ms, others' p50 ${p50Ms.toFixed(1)} ms (calm: ${calm.p50Ms.toFixed(1)} ms)`,
    )
  }
  return rows
}

async function others(chute: ChuteProcess, seconds: number) {
  const url = `${chute.url}/v1/streams/bench-telemetry`
  return await openLoop({ ...singleEvent, url, ratePerSecond, seconds, connections: 8 })
}

async function sendUntil(chute: ChuteProcess, shape: HostileShape, ended: { isEnded: boolean }) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  let [status, requests] = [0, 0]
  while (!ended.isEnded) {
    status = await send(chute, shape, agent)
    requests++
  }
  agent.destroy()
  return { status, requests }
}

/** @returns the status; 0: the connection was closed before all of the body was sent. */
async function send(chute: ChuteProcess, shape: HostileShape, agent: Agent | null): Promise<number> {
  if (shape.raw !== undefined) return await sendRaw(chute, shape.raw)
  const { path, contentType, body, isGzip } = shape
  return await new Promise((resolve) => {
    const headers = {
      ...shape.headers,
      'content-type': contentType,
      'content-length': body.length,
      ...(isGzip ? { 'content-encoding': 'gzip' } : {}),
    }
    const sent = request(
      `${chute.url}${path}`,
      { method: 'POST', headers, ...(agent === null ? {} : { agent }) },
      (reply) => {
        reply.resume()
        reply.once('close', () => resolve(reply.statusCode ?? 0))
      },
    )
    sent.once('error', () => resolve(0))
    sent.end(body)
  })
}

async function sendRaw({ url }: ChuteProcess, { bytes, replies }: NonNullable<HostileShape['raw']>) {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.end(bytes)
  let text = ''
  socket.on('data', (piece: Buffer) => (text += piece.toString('latin1')))
  socket.once('error', () => undefined)
  await once(socket, 'close')
  const statuses = text.match(/(?<=HTTP\/1\.1 )\d+/g) ?? []
  return statuses.length === replies ? Number(statuses.at(-1)) : 0
}

import { randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { ConnectionUse, Delivery } from '../../src/config/config.ts'
import { serveGateway } from '../support/served-gateway.ts'

/** Descriptors of a gateway's process: with a kept connection of a client for each stream, and with `more` beside them. */
async function descriptorsOf(
  streams: number,
  more: number,
  connection: ConnectionUse,
  delivery: Delivery = 'at-most-once',
): Promise<[number, number]> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-descriptors-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const names = Array.from({ length: streams }, () => `descriptors-${randomUUID()}`)
  const file = join(folder, 'chute.json')
  const stream = { delivery, schema: 'any', connection }
  writeFileSync(file, JSON.stringify({ streams: Object.fromEntries(names.map((name) => [name, stream])) }))
  const gateway = await serveGateway({ KAFKA_BROKERS: inject('kafkaBroker'), CHUTE_CONFIG: file })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  // The connection over which the test asked whether the gateway is ready counts in both.
  const count = (): number => readdirSync(`/proc/${gateway.pid}/fd`).length

  const post = async (nth: number): Promise<number | undefined> =>
    await new Promise((resolve, reject) => {
      const agent = new Agent({ keepAlive: true })
      onTestFinished(() => agent.destroy())
      const path = `/v1/streams/${names[nth % streams]}`
      const sent = request(`${gateway.url}${path}`, { agent, method: 'POST' }, (reply) =>
        reply.resume().once('end', () => resolve(reply.statusCode)),
      )
      sent.once('error', reject).end('1')
    })
  const postAll = async (requests: number): Promise<void> => {
    const statuses = await Promise.all(Array.from({ length: requests }, async (_, nth) => await post(nth)))
    expect(statuses).toEqual(Array.from(statuses, () => 202))
  }
  await postAll(streams)
  const few = count()
  await postAll(more)
  return [few, count()]
}

test.skipIf(!existsSync('/proc/self/fd'))(
  'a gateway has a descriptor for each connection of a client, and one a broker for each stream with connections of its own',
  async () => {
    const [[one], [four, many], [shared], [oneCritical], [fourCritical], [sharedCritical]] =
      await Promise.all([
        descriptorsOf(1, 0, 'own'),
        descriptorsOf(4, 100, 'own'),
        descriptorsOf(4, 0, 'shared'),
        descriptorsOf(1, 0, 'own', 'at-least-once'),
        descriptorsOf(4, 0, 'own', 'at-least-once'),
        descriptorsOf(4, 0, 'shared', 'at-least-once'),
      ])
    expect(many - four).toBe(100)
    // Three streams more, each with a connection to the one broker, and three connections of clients.
    expect(four - one).toBe(6)
    expect(shared - one).toBe(3)
    expect([fourCritical - oneCritical, sharedCritical - oneCritical]).toEqual([6, 3])
    expect(one).toBeLessThan(40)
  },
  60_000,
)

test('a thousand clients connect at the same time, even if the gateway takes none of them for a while', async () => {
  const gateway = await serveGateway({ KAFKA_BROKERS: inject('kafkaBroker') })
  onTestFinished(() => gateway.signal('SIGKILL'))
  // The kernel makes the connections, as far as the queue of the listening socket has room.
  gateway.signal('SIGSTOP')
  const clients = Array.from({ length: 1_000 }, () => connect(Number(new URL(gateway.url).port), '127.0.0.1'))
  onTestFinished(() => {
    for (const client of clients) client.destroy()
  })
  await Promise.all(clients.map(async (client) => await once(client, 'connect')))
})

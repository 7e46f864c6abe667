import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { KafkaConfig } from '../../../../src/config/config.ts'
import { KafkajsTransport } from '../../../../src/kafka/network/kafkajs-transport.ts'
import { AuthenticationError } from '../../../../src/kafka/network/transport.ts'
import { requestVersions, type RequestName } from '../../../../src/kafka/protocol/requests.ts'
import { LoopbackBroker } from '../../../support/loopback-broker.ts'
import { LogKeeper } from '../../../support/producer-fixture.ts'

type Ranges = Partial<Record<RequestName, [min: number, max: number]>>

/** @returns the port of a server that does this with each connection. */
async function serve(handle: (socket: Socket) => Promise<void>): Promise<number> {
  const server = createServer((socket) => {
    onTestFinished(() => void socket.destroy())
    void handle(socket)
  })
  server.listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** Answers ApiVersions, version 2. @param served API keys and their versions. */
async function answerVersions(broker: LoopbackBroker, served: readonly number[][]): Promise<void> {
  const all = [[18, 0, 4], ...served]
  const answer = Buffer.alloc(4 + 4 + 2 + 4 + 6 * all.length + 4)
  answer.writeInt32BE(answer.length - 4, 0)
  let at = answer.writeInt32BE(all.length, 10)
  for (const numbers of all) for (const number of numbers) at = answer.writeInt16BE(number, at)
  const [asked] = await broker.until(1)
  expect(asked).toMatchObject({ apiKey: 18, apiVersion: 2 })
  answer.writeInt32BE(asked!.correlationId, 4)
  broker.socket.write(answer)
}

/** A broker that answers ApiVersions, and nothing else. @returns its port. */
async function brokerThatServes(ranges: Ranges): Promise<number> {
  const entries = Object.entries(ranges) as [RequestName, [number, number]][]
  const served = entries.map(([name, range]) => [requestVersions[name].apiKey, ...range])
  return await serve(async (socket) => await answerVersions(new LoopbackBroker(socket), served))
}

function transportTo(port: number, more: Partial<KafkaConfig> = {}): KafkajsTransport {
  const config: KafkaConfig = {
    brokers: [`127.0.0.1:${port}`],
    clientId: 'versions',
    ssl: null,
    sasl: null,
    connectionTimeoutMs: 5_000,
    topics: { create: false, partitions: 1, replicationFactor: 1 },
    metadataMaxAgeMs: 5_000,
    ...more,
  }
  return new KafkajsTransport(config, new LogKeeper())
}

test('a connection knows what its broker said that it serves', async () => {
  const port = await brokerThatServes({ Produce: [3, 7], ListOffsets: [0, 2], Metadata: [9, 12] })
  const connection = await transportTo(port).connect('127.0.0.1', port, 5_000)
  onTestFinished(() => connection.destroy(new Error('the test is over')))
  const broker = `127.0.0.1:${port}`
  expect(connection.lacks(['Produce'])).toBeNull()
  expect(connection.lacks(['Produce', 'ListOffsets'])).toBe(
    `${broker} serves ListOffsets 0 to 2, Chute needs 4`,
  )
  expect(connection.lacks(['Metadata', 'InitProducerId'])).toBe(
    `${broker} serves Metadata 9 to 12, Chute needs 8; ${broker} does not serve InitProducerId, Chute needs 1`,
  )
})

describe('a login', () => {
  const sasl = { mechanism: 'plain', username: 'u', password: 'p' } as const
  const [handshake, authenticate] = [
    [17, 0, 1],
    [36, 0, 1],
  ]
  const failureOf = async (port: number, connectionTimeoutMs = 5_000): Promise<Error> => {
    const connecting = transportTo(port, { sasl, connectionTimeoutMs }).connect('127.0.0.1', port, 5_000)
    return await connecting.then(
      () => new Error('the connection was made'),
      (error: unknown) => error as Error,
    )
  }
  /** Answers the handshake: no error, and one mechanism. */
  const shakeHands = async (broker: LoopbackBroker): Promise<void> => {
    const asked = (await broker.until(2))[1]!
    const mechanisms = Buffer.concat([Buffer.from([0, 0, 0, 0, 0, 1, 0, 5]), Buffer.from('PLAIN')])
    broker.answer(asked.correlationId, mechanisms.toString('latin1'))
  }

  test.each(['ends', 'resets'])(
    'in which the broker %s the connection says nothing of the credentials',
    async (how) => {
      const port = await serve(async (socket) => {
        const broker = new LoopbackBroker(socket)
        await answerVersions(broker, [handshake, authenticate])
        await shakeHands(broker)
        await broker.until(3)
        if (how === 'ends') socket.end()
        else socket.resetAndDestroy()
      })
      const failure = await failureOf(port)
      expect(failure).not.toBeInstanceOf(AuthenticationError)
      expect(failure.message).toMatch(/^the connection ended during the login: SASL PLAIN/)
      expect(failure.message).not.toContain('KAFKA_SASL_PASSWORD')
    },
  )

  test('that the broker refuses is an authentication error, also where it ends the connection at once', async () => {
    const port = await serve(async (socket) => {
      const broker = new LoopbackBroker(socket)
      await answerVersions(broker, [handshake, authenticate])
      await shakeHands(broker)
      const asked = (await broker.until(3))[2]!
      // SASL_AUTHENTICATION_FAILED, a message, no bytes, and no end of the session.
      const refusal = Buffer.concat([Buffer.from([0, 58, 0, 2]), Buffer.from('no'), Buffer.alloc(4 + 8)])
      broker.answer(asked.correlationId, refusal.toString('latin1'))
      socket.end()
    })
    const failure = await failureOf(port)
    expect(failure).toBeInstanceOf(AuthenticationError)
    expect(failure.message).toContain('KAFKA_SASL_PASSWORD')
  })

  test('whose end kafkajs does not notice is over when its time is', async () => {
    const port = await serve(async (socket) => {
      const broker = new LoopbackBroker(socket)
      // Without SaslAuthenticate, kafkajs sends the credentials in no request.
      await answerVersions(broker, [handshake])
      await shakeHands(broker)
      socket.removeAllListeners('data')
      await once(socket, 'data')
      socket.resetAndDestroy()
    })
    expect((await failureOf(port, 300)).message).toContain('did not answer within 300 ms')
  })
})

test.each([
  ['four zero bytes', Buffer.alloc(4)],
  ['a negative size', Buffer.from([255, 255, 255, 251])],
  ['an answer of three bytes', Buffer.from([0, 0, 0, 3, 1, 2, 3])],
])('a peer that sends %s ends its connection, and not the process', async (_name, bytes) => {
  const port = await serve(async (socket) => void socket.write(bytes))
  const connecting = transportTo(port, { connectionTimeoutMs: 1_000 }).connect('127.0.0.1', port, 5_000)
  await expect(connecting).rejects.toThrow(/no answer of Kafka|did not answer/)
})

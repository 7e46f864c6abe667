import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { KafkajsTransport } from '../../../../src/kafka/network/kafkajs-transport.ts'
import { requestVersions, type RequestName } from '../../../../src/kafka/protocol/requests.ts'
import { LoopbackBroker } from '../../../support/loopback-broker.ts'
import { LogKeeper } from '../../../support/producer-fixture.ts'

type Ranges = Partial<Record<RequestName, [min: number, max: number]>>

/** A broker that answers ApiVersions, version 2, and nothing else. @returns its port. */
async function brokerThatServes(ranges: Ranges): Promise<number> {
  const entries = Object.entries(ranges) as [RequestName, [number, number]][]
  const answer = Buffer.alloc(4 + 4 + 2 + 4 + 6 * (entries.length + 1) + 4)
  answer.writeInt32BE(answer.length - 4, 0)
  let at = answer.writeInt32BE(entries.length + 1, 10)
  const served = [[18, 0, 4], ...entries.map(([name, range]) => [requestVersions[name].apiKey, ...range])]
  for (const numbers of served) for (const number of numbers) at = answer.writeInt16BE(number, at)
  const serve = async (socket: Socket): Promise<void> => {
    onTestFinished(() => void socket.destroy())
    const [asked] = await new LoopbackBroker(socket).until(1)
    expect(asked).toMatchObject({ apiKey: 18, apiVersion: 2 })
    answer.writeInt32BE(asked!.correlationId, 4)
    socket.write(answer)
  }
  const server = createServer((socket) => void serve(socket))
  server.listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

test('a connection knows what its broker said that it serves', async () => {
  const port = await brokerThatServes({ Produce: [3, 7], ListOffsets: [0, 2], Metadata: [9, 12] })
  const transport = new KafkajsTransport(
    {
      brokers: [`127.0.0.1:${port}`],
      clientId: 'versions',
      ssl: null,
      sasl: null,
      connectionTimeoutMs: 5_000,
      topics: { create: false, partitions: 1, replicationFactor: 1 },
      metadataMaxAgeMs: 5_000,
    },
    new LogKeeper(),
  )
  const connection = await transport.connect('127.0.0.1', port, 5_000)
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

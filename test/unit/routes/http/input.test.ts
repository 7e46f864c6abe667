import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { holdInput, prepareInput } from '../../../../src/routes/http/input.ts'

test('a connection that two hold is read again when both let it go, and not before', async () => {
  const taken: string[] = []
  const server = createServer((request, response) => {
    taken.push(request.url!)
    response.end()
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [socket] = (await once(server, 'connection')) as Parameters<typeof holdInput>
  prepareInput(socket)
  const get = (path: string): boolean => client.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`)
  /** A request of another connection, which comes behind what the client has sent. */
  const overtake = async (): Promise<void> => {
    const { status } = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/other`)
    expect(status).toBe(200)
  }
  for (const order of ['first', 'second']) {
    const [one, two] = [holdInput(socket), holdInput(socket)]
    get(`/${order}`)
    await overtake()
    ;(order === 'first' ? one : two)()
    await overtake()
    expect(taken).not.toContain(`/${order}`)
    ;(order === 'first' ? two : one)()
    await once(client, 'data')
    expect(taken).toContain(`/${order}`)
  }
  client.destroy()
})

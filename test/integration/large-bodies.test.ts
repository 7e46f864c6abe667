import { once } from 'node:events'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterEach, expect, test } from 'vitest'
import { buildEdge, fakeLimits, type Edge } from '../support/edge.ts'

let edge: Edge
let url: URL

const stream = '/v1/streams/metrics-realtime'
const eventsPerBody = 2_000

/** Some 200 KB, no two alike, in plain lines, or as an array that only a parser can read. */
function bodyOf(nth: number): { events: string[]; text: string; type: string } {
  const isArray = nth % 3 === 2
  const events = Array.from({ length: eventsPerBody }, (_, line) =>
    isArray
      ? `{"name":"n","value":1,"source":"\\u0073-${nth}","text":"${`${nth}-${line};`.repeat(10)}"}`
      : `{"name":"n","value":1,"source":"s-${nth}","text":"${`${nth}-${line};`.repeat(10)}"}`,
  )
  return isArray
    ? { events, text: `[${events.join(',')}]`, type: 'application/json' }
    : { events, text: events.join('\n'), type: 'application/x-ndjson' }
}

/** Begins a request whose body does not come to its end. */
async function beginSlowly(body: string): Promise<Socket> {
  const socket = connect(Number(url.port), '127.0.0.1')
  await once(socket, 'connect')
  socket.write(`POST ${stream} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n`)
  socket.write(`Content-Type: application/x-ndjson\r\n\r\n${body.slice(0, body.length / 2)}`)
  return socket
}

afterEach(async () => {
  expect(edge.faults).toEqual([])
  await edge.app.close()
})

test('many large bodies at once, among them slow, aborted and bad ones, become the records that they were', async () => {
  edge = buildEdge({
    limits: { ...fakeLimits, bodyBytes: 1 << 20, eventBytes: 1_000, eventsPerRequest: 5_000 },
  })
  await edge.app.listen({ port: 0, host: '127.0.0.1' })
  url = new URL(stream, `http://127.0.0.1:${(edge.app.server.address() as AddressInfo).port}`)
  const slow = bodyOf(1_000)
  const slowOnes = await Promise.all(Array.from({ length: 12 }, async () => await beginSlowly(slow.text)))
  const bodies = Array.from({ length: 40 }, (_, nth) => bodyOf(nth))
  const replies = await Promise.all(
    bodies.map(async ({ text, type }, nth) => {
      const isBad = nth % 8 === 7
      const isGzip = nth % 5 === 4
      const sent = isBad ? `${text.slice(0, -1)}\u0000` : text
      const headers = { 'content-type': type, ...(isGzip ? { 'content-encoding': 'gzip' } : {}) }
      const reply = await fetch(url, { method: 'POST', headers, body: isGzip ? gzipSync(sent) : sent })
      return { isBad, status: reply.status, text: await reply.text() }
    }),
  )
  const [patient, ...others] = slowOnes
  for (const socket of others) socket.destroy()
  patient!.write(slow.text.slice(slow.text.length / 2))
  expect(String(await once(patient!, 'data'))).toContain('HTTP/1.1 202')
  patient!.destroy()

  const valuesOf = (source: string): string[] =>
    edge.producer.records.filter(({ key }) => key === source).map(({ value }) => value)
  for (const [nth, { isBad, status, text }] of replies.entries()) {
    const { events, type } = bodies[nth]!
    // A bad line harms nobody but itself; an array with a flaw is refused as a whole.
    const expected = !isBad ? events : type === 'application/json' ? [] : events.slice(0, -1)
    expect({ nth, status, text }).toMatchObject({ status: expected.length > 0 ? 202 : 400 })
    expect(valuesOf(`s-${nth}`)).toEqual(expected)
  }
  expect(valuesOf('s-1000')).toEqual(slow.events)
})

import { afterEach, describe, expect, test } from 'vitest'
import { buildEdge, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

/** The table of docs/devices.md: what pages and libraries send by mistake. Each is taken, or refused with the way out. */
let edge: Edge

afterEach(async () => {
  await edge.app.close()
})

const routes = ['/v1/streams/metrics-realtime', '/v1/beacon/metrics-realtime']
const good = '{"name":"a","value":1}'

async function post(
  url: string,
  payload: string,
  type: string,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await edge.app.inject({ method: 'POST', url, payload, headers: { 'content-type': type } })
  return {
    status: response.statusCode,
    body: response.body === '' ? {} : response.json(),
  }
}

describe.each(routes)('%s', (url) => {
  test('a form as FormData is refused, and the way out is taken', async () => {
    edge = buildEdge()
    const form = new FormData()
    form.append('name', 'a')
    form.append('value', '1')
    const request = new Request('http://a/', { method: 'POST', body: form })
    const refused = await post(url, await request.text(), request.headers.get('content-type')!)
    expect(refused).toMatchObject({ status: 415, body: { code: 'unsupported_media_type' } })
    expect(refused.body['detail']).toContain('new URLSearchParams(new FormData(form))')
    const fields = new URLSearchParams({ name: 'a', value: '1' })
    const taken = await post(routes[1]!, fields.toString(), 'application/x-www-form-urlencoded;charset=UTF-8')
    expect(taken.status).toBe(202)
    expect(edge.producer.values).toEqual([good])
  })

  test('the fields of a form are taken, or refused with the way to the route that reads them', async () => {
    edge = buildEdge()
    const form = 'application/x-www-form-urlencoded'
    for (const fields of [
      'name=a&value=1',
      'value=1&name=a',
      '1=2&name=a&value=1',
      'true=1&name=a&value=1',
    ]) {
      const reply = await post(url, fields, form)
      if (url === routes[1]) expect(reply.body['detail'] ?? '').not.toContain('beacon route')
      else
        expect(reply).toMatchObject({
          status: 400,
          body: {
            code: 'malformed_json',
            detail: expect.stringContaining('the fields of a form to the beacon route') as string,
          },
        })
    }
    expect(await post(routes[1]!, 'name=a&value=1', form)).toMatchObject({ status: 202 })
    // What curl -d sends is JSON, and has no fields.
    for (const [body, type] of [
      ['{"name":"a","value":}', form],
      ['"name', form],
      ['name=a&value=1', 'text/plain'],
    ] as const) {
      const reply = await post(url, body, type)
      expect(reply).toMatchObject({ status: 400, body: { code: 'malformed_json' } })
      expect(reply.body['detail']).not.toContain('beacon route')
    }
  })

  test('null in an optional field is refused for this event alone, and the way out is to leave it out', async () => {
    edge = buildEdge()
    const fields = ['unit', 'source', 'id', 'labels', 'timestamp']
    const events = fields.map((field) => `{"name":"a","value":1,"${field}":null}`)
    const ndjson = [...events, good].join('\n')
    expect(await post(url, ndjson, 'application/x-ndjson')).toMatchObject({ status: 202 })
    expect(edge.producer.values).toEqual([good])
    const { body } = await post(url, events.join('\n'), 'application/x-ndjson')
    expect(body['errors']).toEqual(
      fields.map((field, index) => ({
        index,
        code: 'invalid_event',
        pointer: `/${field}`,
        detail: expect.stringMatching(/got null; leave the field out/) as string,
      })),
    )
  })

  test('null in any field is taken byte for byte where the schema is any', async () => {
    edge = buildEdge({}, [new FakeProducer({ schema: 'any' })])
    const event = '{"name":null,"source":null,"unit": null}'
    expect(await post(url, event, 'application/json')).toMatchObject({ status: 202 })
    expect(edge.producer.values).toEqual([event])
  })

  test('NDJSON as application/json is refused as a whole, and the way out is taken', async () => {
    edge = buildEdge()
    for (const ndjson of [`${good}\n${good}`, `${good}\n${good}\n`, `${good}\r\n${good}\r\n`]) {
      const refused = await post(url, ndjson, 'application/json')
      expect(refused).toMatchObject({ status: 400, body: { code: 'malformed_json' } })
      expect(refused.body['detail']).toContain('application/x-ndjson')
    }
    expect(edge.producer.values).toEqual([])
    expect(await post(url, `${good}\n${good}`, 'application/x-ndjson')).toMatchObject({ status: 202 })
    expect(await post(url, `${good}\n${good}`, 'text/plain')).toMatchObject({ status: 202 })
    expect(edge.producer.values).toEqual([good, good, good, good])
    // A single line is JSON, whatever it was meant as.
    expect(await post(url, `${good}\n`, 'application/json')).toMatchObject({ status: 202 })
  })
})

import { readFileSync } from 'node:fs'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import { afterEach, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { codesOf, operations } from '../../dev/openapi-operations.ts'
import { errorTable } from '../../src/errors.ts'
import { registerApiDocs } from '../../src/routes/admin/api-docs.ts'
import { buildAdminServer } from '../../src/routes/server.ts'
import { buildEdge, fakeHttp, FakeTelemetry, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

let edge: Edge

/** What the contract says of a form. */
interface Form {
  readonly properties: Readonly<Record<string, unknown>>
  readonly example: Record<string, string>
}

/** What the contract says of a body. */
interface Body {
  readonly type?: string
  readonly example?: readonly object[]
}

afterEach(async () => {
  await edge.app.close()
})

describe('paths and methods', () => {
  test('a stream that is not there is 404 and names those that are', async () => {
    edge = buildEdge({}, [new FakeProducer(), new FakeProducer({ name: 'metrics-critical' })])
    for (const url of [
      '/v1/streams/nope',
      '/v1/beacon/nope',
      '/v1/streams/__proto__',
      '/v1/streams/constructor',
    ]) {
      const response = await edge.app.inject({ method: 'POST', url, payload: '{}' })
      expect(response.statusCode).toBe(404)
      expect(response.json()).toMatchObject({
        code: 'unknown_stream',
        streams: ['metrics-realtime', 'metrics-critical'],
      })
    }
    expect((await edge.app.inject({ url: '/v1/beacon/nope.gif' })).json()).toMatchObject({
      code: 'unknown_stream',
    })
  })

  test.each([
    ['GET', '/v1/streams/metrics-realtime', 'POST, OPTIONS'],
    ['DELETE', '/v1/streams/metrics-realtime', 'POST, OPTIONS'],
    ['PUT', '/v1/beacon/metrics-realtime', 'POST, OPTIONS'],
    ['POST', '/livez', 'GET, HEAD'],
    ['PROPFIND', '/livez', 'GET, HEAD'],
    ['QUERY', '/livez', 'GET, HEAD'],
    ['QUERY', '/v1/streams/metrics-realtime', 'POST, OPTIONS'],
  ])('%s %s is 405 with Allow', async (method, url, allow) => {
    edge = buildEdge()
    const response = await edge.app.inject({ method: method as 'GET', url, payload: '{}' })
    expect(response.statusCode).toBe(405)
    expect(response.headers['allow']).toBe(allow)
    expect(response.json()).toMatchObject({ code: 'method_not_allowed' })
  })

  test.each([
    ['/nope', 404, 'not_found'],
    ['/v1/streams/', 404, 'unknown_stream'],
    ['/v1/streams', 404, 'not_found'],
    ['/v1/streams/a/b', 404, 'not_found'],
    [`/v1/streams/${'x'.repeat(300)}`, 404, 'not_found'],
    ['/v1/streams/%E0%A4%A', 400, 'invalid_request'],
  ])('POST %s is %i %s', async (url, status, code) => {
    edge = buildEdge()
    const response = await edge.app.inject({ method: 'POST', url, payload: '{}' })
    expect([response.statusCode, response.json<{ code: string }>().code]).toEqual([status, code])
  })
})

describe('health', () => {
  test('liveness answers whatever readiness says, and readiness says what each check saw', async () => {
    const checks = [{ name: 'kafka', ok: false, detail: 'Kafka was not reached yet' }]
    edge = buildEdge({}, [new FakeProducer()], { readiness: () => ({ ready: false, checks }) })
    expect((await edge.app.inject({ url: '/livez' })).statusCode).toBe(200)
    const response = await edge.app.inject({ url: '/readyz' })
    expect(response.statusCode).toBe(503)
    expect(response.json()).toEqual({ ready: false, checks })
    expect(response.headers['cache-control']).toBe('no-store')
  })

  test('is ready with 200', async () => {
    edge = buildEdge()
    expect((await edge.app.inject({ url: '/readyz' })).statusCode).toBe(200)
  })
})

function admin(app: FastifyInstance): void {
  registerApiDocs(app)
  app.get('/metrics', (_request, reply) => reply.send('metrics'))
}

function broken(app: FastifyInstance): void {
  app.get('/broken', () => {
    throw new Error('secret')
  })
}

describe('ADMIN_PORT', () => {
  test('unset has the admin routes beside the others', async () => {
    edge = buildEdge({}, [new FakeProducer()], { admin })
    expect((await edge.app.inject({ url: '/metrics' })).body).toBe('metrics')
    expect((await edge.app.inject({ url: '/openapi.yaml' })).statusCode).toBe(200)
  })

  test('set has them on a server of their own, and only there', async () => {
    const http = fakeHttp({ adminPort: 9090 })
    edge = buildEdge(http, [new FakeProducer()], { admin })
    const second = buildAdminServer({
      http,
      producers: [],
      telemetry: new FakeTelemetry(),
      readiness: () => ({ ready: true, checks: [] }),
      logger: console,
      admin,
    })
    for (const url of ['/metrics', '/readyz', '/livez', '/docs', '/openapi.yaml']) {
      const none = await edge.app.inject({ url })
      expect(none.statusCode).toBe(404)
      expect(none.json()).toMatchObject({ detail: expect.stringContaining('/v1/streams/:stream') })
      expect(none.json<{ detail: string }>().detail).not.toContain('/docs')
      expect((await second?.inject({ url }))?.statusCode).toBe(200)
    }
    expect((await second?.inject({ method: 'POST', url: '/v1/streams/metrics-realtime' }))?.statusCode).toBe(
      404,
    )
    await second?.close()
  })
})

test('a bug is answered with a problem that tells nothing of it, and is logged', async () => {
  const producer = new FakeProducer()
  producer.reserve = () => {
    throw new Error('secret')
  }
  edge = buildEdge({}, [producer], { admin: broken })
  const event = '{"name":"a","value":1}'
  for (const response of [
    await edge.app.inject({ method: 'POST', url: '/v1/streams/metrics-realtime', payload: event }),
    await edge.app.inject({ url: '/broken' }),
  ]) {
    expect(response.statusCode).toBe(500)
    expect(response.json()).toMatchObject({ code: 'internal' })
    expect(response.body).not.toContain('secret')
  }
  expect(edge.faults).toHaveLength(2)
})

describe('the contract', () => {
  const yaml = readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')

  test('has every route, and no route that is not there', async () => {
    // What the live page and the metrics register is theirs to test.
    const others = new Set(['/metrics', '/', '/live.json', '/live/events'])
    const listed = operations
      .filter(({ path }) => !others.has(path))
      .map(({ method, path }) => `${method} ${path}`)
    const registered: string[] = ['GET /livez', 'GET /readyz']
    edge = buildEdge({}, [new FakeProducer()], { admin: registerApiDocs })
    edge.app.addHook('onRoute', ({ method, url }) => {
      if (method === 'GET' || method === 'POST') registered.push(`${method} ${url.replace(/:(\w+)/, '{$1}')}`)
    })
    await edge.app.ready()
    expect(registered.toSorted()).toEqual(listed.toSorted())
    expect(
      edge.app.hasRoute({ method: 'GET', url: '/livez' }) &&
        edge.app.hasRoute({ method: 'GET', url: '/readyz' }),
    ).toBe(true)
  })

  test('has every error code that a client can meet', () => {
    const used = new Set(operations.flatMap(({ errors }) => errors))
    const notOfARequest = new Set<string>([...codesOf('event'), ...codesOf('unlisted')])
    expect(
      Object.keys(errorTable).filter((code) => !used.has(code as never) && !notOfARequest.has(code)),
    ).toEqual([])
  })

  test('gives the fields of a pixel and of a form the limits of those of JSON', async () => {
    edge = buildEdge({}, [new FakeProducer()])
    const { paths } = parse(yaml) as {
      paths: {
        '/v1/beacon/{stream}.gif': { get: { parameters: { name?: string; schema?: object }[] } }
        '/v1/beacon/{stream}': { post: { requestBody: { content: Record<string, { schema: Form }> } } }
      }
    }
    const pixel = paths['/v1/beacon/{stream}.gif'].get.parameters
    const { content } = paths['/v1/beacon/{stream}'].post.requestBody
    const form = content['application/x-www-form-urlencoded']!.schema
    const name = { $ref: '#/components/schemas/TelemetryEvent/properties/name' }
    expect(pixel.find((parameter) => parameter.name === 'name')?.schema).toEqual(name)
    expect(form.properties['name']).toEqual(name)
    const { example } = form
    const send = async (fields: Record<string, string>): Promise<number[]> => {
      const text = new URLSearchParams(fields).toString()
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      const asForm = { method: 'POST', url: '/v1/beacon/metrics-realtime', headers, payload: text } as const
      const asPixel = { url: `/v1/beacon/metrics-realtime.gif?${text}` } as const
      return [(await edge.app.inject(asForm)).statusCode, (await edge.app.inject(asPixel)).statusCode]
    }
    expect(await send(example)).toEqual([202, 200])
    expect(await send({ ...example, name: '' })).toEqual([400, 400])
    // What the contract says of `labels`.
    expect(form.properties['labels']).toBe(false)
    expect(await send({ name: 'a', value: '1', labels: '{}' })).toEqual([400, 400])
  })

  test('has no limit for an Idempotency-Key, since a stream without dedupe reads none', async () => {
    edge = buildEdge({}, [new FakeProducer()])
    const { components } = parse(yaml) as {
      components: { parameters: { idempotencyKey: { schema: object } } }
    }
    expect(Object.keys(components.parameters.idempotencyKey.schema)).toEqual(['type', 'examples'])
    const response = await edge.app.inject({
      method: 'POST',
      url: '/v1/streams/metrics-realtime',
      headers: { 'idempotency-key': 'x'.repeat(1_000) },
      payload: '{"name":"a","value":1}',
    })
    expect(response.statusCode).toBe(202)
  })

  test('has every header of ours that a page may read', async () => {
    const http = fakeHttp({ corsOrigins: ['https://app.example.com'] })
    edge = buildEdge(http, [new FakeProducer()])
    const { components } = parse(yaml) as { components: { headers: Record<string, object> } }
    const { headers } = await edge.app.inject({
      method: 'POST',
      url: '/v1/streams/metrics-realtime',
      headers: { origin: 'https://app.example.com' },
      payload: '{"name":"a","value":1}',
    })
    const readable = String(headers['access-control-expose-headers']).split(', ')
    const listed = Object.keys(components.headers).map((name) => name.toLowerCase())
    expect(readable).toContain('chute-error')
    expect(listed).toEqual(expect.arrayContaining(readable))
  })

  test('has the code of the 404 for a name that is too long', async () => {
    edge = buildEdge({}, [new FakeProducer()])
    const response = await edge.app.inject({ url: `/v1/beacon/${'x'.repeat(300)}.gif?name=a&value=1` })
    const { code } = response.json<{ code: never }>()
    expect([response.statusCode, code]).toEqual([404, 'not_found'])
    for (const { path, errors } of operations.filter(({ tag }) => tag === 'events'))
      expect(errors, path).toContain(code)
  })

  test('has the content codings that are read', async () => {
    edge = buildEdge({}, [new FakeProducer()])
    const { components } = parse(yaml) as {
      components: { parameters: { encoding: { schema: { enum: string[] } } } }
    }
    const compress: Readonly<Record<string, (text: string) => Buffer>> = {
      gzip: gzipSync,
      'x-gzip': gzipSync,
      deflate: deflateSync,
      br: brotliCompressSync,
    }
    const listed = components.parameters.encoding.schema.enum
    for (const coding of ['', 'identity', ...Object.keys(compress), 'zstd', 'compress', 'gzip, gzip']) {
      const text = '{"name":"a","value":1}'
      const response = await edge.app.inject({
        method: 'POST',
        url: '/v1/streams/metrics-realtime',
        headers: { 'content-encoding': coding },
        payload: compress[coding]?.(text) ?? text,
      })
      expect(response.statusCode, coding).toBe(listed.includes(coding) ? 202 : 415)
    }
  })

  test('has no fields of a form where they are refused, and lines as lines', async () => {
    edge = buildEdge({}, [new FakeProducer()])
    const { paths } = parse(yaml) as {
      paths: Record<string, { post: { requestBody: { content: Record<string, { schema: Body }> } } }>
    }
    const { content } = paths['/v1/streams/{stream}']!.post.requestBody
    const send = async (type: string, payload: string): Promise<number> => {
      const headers = { 'content-type': type }
      const request = { method: 'POST', url: '/v1/streams/metrics-realtime', headers, payload } as const
      return (await edge.app.inject(request)).statusCode
    }
    const formType = 'application/x-www-form-urlencoded'
    expect(await send(formType, 'name=a&value=1')).toBe(400)
    expect(content).not.toHaveProperty([formType])
    const ndjson = Object.entries(content).filter(([, { schema }]) => schema.type === 'array')
    expect(ndjson).toHaveLength(6)
    for (const [type, { schema }] of ndjson) {
      const { example = [] } = schema
      expect(await send(type, example.map((line) => JSON.stringify(line)).join('\n')), type).toBe(202)
    }
  })

  test('is served as it is in the repository, and as JSON', async () => {
    edge = buildEdge({}, [new FakeProducer()], { admin: registerApiDocs })
    const asYaml = await edge.app.inject({ url: '/openapi.yaml' })
    expect(asYaml.body).toBe(yaml)
    expect(asYaml.headers['content-type']).toMatch(/^application\/yaml/)
    expect((await edge.app.inject({ url: '/openapi.json' })).json()).toEqual(parse(yaml))
  })

  test('can be tried on a page that loads nothing from elsewhere', async () => {
    edge = buildEdge({}, [new FakeProducer()], { admin: registerApiDocs })
    const page = await edge.app.inject({ url: '/docs' })
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8')
    expect(page.headers['content-security-policy']).toContain("default-src 'none'")
    expect(page.body).not.toMatch(/(?:src|href)="(?:https?:)?\/\//)
    expect(page.body, 'style and script are in the page').not.toMatch(
      /<script[^>]+src=|<link rel="stylesheet"/,
    )
  })
})

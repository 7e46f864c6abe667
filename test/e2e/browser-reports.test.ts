import { createHash, randomUUID, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { sha256OfKey } from '../../src/config/config.ts'
import { launchChromium } from '../support/browser.ts'
import { makeAuthority } from '../support/certificates.ts'
import { isLong } from '../support/forms.ts'
import { startGatewayWith, testConfig, untilReady, type TestGateway } from '../support/gateway.ts'
import { readTopic } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'

// What a page has and Node has not; the functions below that use it run in Chromium.
declare const document: {
  readonly body: { append(element: object): void }
  createElement(tag: string): object
}

/** A report as it landed: of `application/reports+json`, or of `application/csp-report`. */
interface Report {
  readonly type?: string
  readonly url?: string
  readonly body?: Readonly<Record<string, unknown>>
  readonly 'csp-report'?: Readonly<Record<string, unknown>>
}

const broker = inject('kafkaBroker')
const topic = `reports-${randomUUID()}`
const value = `chk_pub_${randomUUID()}`
const pair = makeAuthority().issue('localhost')
let gateway: TestGateway
let gatewayUrl: string
let adminUrl: string
let pages: Server
let origin: string
let browser: Browser

beforeAll(async () => {
  pages = createServer(pair, (request, response) => {
    const { url = '' } = request
    if (url === '/cut') return void request.socket.destroy()
    if (url === '/missing') response.statusCode = 404
    for (const [name, text] of Object.entries(headersOf(url))) response.setHeader(name, text)
    response
      .setHeader('content-type', 'text/html')
      .end(`<!doctype html><title>a shop</title><body>${url === '/' ? faults : ''}`)
  }).listen(0, '127.0.0.1')
  await once(pages, 'listening')
  origin = `https://localhost:${(pages.address() as AddressInfo).port}`
  const reports = {
    ...streamConfig(topic, 'at-most-once'),
    name: 'reports',
    preset: 'reports',
    schema: 'reports',
    key: 'none',
  } as const
  const key = {
    name: 'shop',
    kind: 'public',
    sha256: [sha256OfKey(value)],
    streams: ['reports', 'old'],
    origins: [origin],
    sources: null,
    notAfterMs: null,
    limits: null,
    addressLimits: null,
  } as const
  const http = { tls: { ...pair, clientCa: null }, adminPort: 0, keys: [key] }
  gateway = await startGatewayWith(
    testConfig({ brokers: [broker], streams: [reports], retiredStreams: ['old'], http }),
    { awaitReady: false },
  )
  const portOf = (server: FastifyInstance) => (server.server.address() as AddressInfo).port
  gatewayUrl = `https://127.0.0.1:${portOf(gateway.gateway.server)}`
  adminUrl = `http://127.0.0.1:${portOf(gateway.gateway.adminServer!)}`
  await untilReady(adminUrl)
  // Chromium sends no reports over a connection whose certificate it only tolerates. This flag makes it a certificate without fault.
  const publicKey = new X509Certificate(pair.cert).publicKey.export({ type: 'spki', format: 'der' })
  const pin = createHash('sha256').update(publicKey).digest('base64')
  // Reports go out after 100 ms, and not after a minute.
  browser = await launchChromium([`--ignore-certificate-errors-spki-list=${pin}`, '--short-reporting-delay'])
})

afterAll(async () => {
  await browser?.close()
  await gateway?.stop()
  pages?.close()
})

/** What browsers report. Whatever Playwright evaluates counts as a gesture of a person, so no browser intervenes there. */
const faults = `<script>
  navigator.geolocation.getCurrentPosition(() => {}, () => {})
  navigator.vibrate(200)
  onunload = () => {}
  fetch('/missing')
  fetch('/cut').catch(() => {})
</script>`

/** The header fields of docs/browser.md, by the path of the page. */
function headersOf(path: string): Record<string, string> {
  if (path === '/after') return {}
  const to = (stream: string) => `${gatewayUrl}/v1/streams/${stream}?key=${value}`
  const endpoint = to(path === '/retired' ? 'old' : 'reports')
  const group = { group: 'chute', max_age: 86_400, endpoints: [{ url: endpoint }] }
  return {
    'reporting-endpoints': `default="${to('reports')}", csp="${to('reports')}"`,
    'content-security-policy': `img-src 'none'; report-uri ${to('reports')}${path === '/old-form' ? '' : '; report-to csp'}`,
    'permissions-policy': 'geolocation=()',
    'report-to': JSON.stringify(group),
    nel: JSON.stringify({ report_to: 'chute', max_age: 86_400, success_fraction: 1 }),
  }
}

async function landed(path: string): Promise<Report[]> {
  const records = await readTopic(broker, topic)
  return records
    .map((record) => JSON.parse(record.value.toString()) as Report)
    .filter((report) => [report.url, report['csp-report']?.['document-uri']].includes(origin + path))
}

async function expectTypes(path: string, types: readonly string[]): Promise<Report[]> {
  const found = async () => (await landed(path)).map(({ type = 'csp-report' }) => type).toSorted()
  await expect.poll(found, { timeout: 20_000 }).toEqual(types.toSorted())
  return await landed(path)
}

async function openPage(path: string) {
  const page = await browser.newPage()
  await page.goto(origin + path)
  return page
}

const violate = (): void => {
  document.body.append(Object.assign(document.createElement('img'), { src: 'https://other.example/a.png' }))
}

test.runIf(isLong)(
  'Chromium\u2019s own reports are one record each: CSP, deprecation, intervention, permissions, network',
  async () => {
    const page = await openPage('/')
    await page.evaluate(violate)
    const reports = await expectTypes('/', [
      'csp-violation',
      'deprecation',
      'intervention',
      'network-error',
      'permissions-policy-violation',
    ])
    const bodyOf = (type: string) => reports.find((report) => report.type === type)?.body
    expect(bodyOf('csp-violation')).toMatchObject({ blockedURL: 'https://other.example/a.png' })
    expect(bodyOf('deprecation')).toMatchObject({ id: 'UnloadHandler' })
    expect(bodyOf('network-error')).toMatchObject({ type: 'ok', status_code: 200 })
    const [missing] = await expectTypes('/missing', ['network-error'])
    expect(missing?.body).toMatchObject({ type: 'http.error', status_code: 404 })
    await expect.poll(async () => (await landed('/cut')).length, { timeout: 20_000 }).toBeGreaterThan(0)
    for (const { body } of await landed('/cut')) expect(body).toMatchObject({ status_code: 0 })
  },
)

test.runIf(isLong)('the old form of a CSP report is one record too', async () => {
  const page = await openPage('/old-form')
  await page.evaluate(violate)
  const reports = await expectTypes('/old-form', ['csp-report', 'network-error'])
  const report = reports.find((each) => each['csp-report'] !== undefined)
  expect(report?.['csp-report']).toMatchObject({ 'blocked-uri': 'https://other.example/a.png' })
})

test.runIf(isLong)('Chromium sends no more network errors to a stream that is retired', async () => {
  const refused = async (): Promise<string | undefined> => {
    const text = await (await fetch(`${adminUrl}/metrics`)).text()
    return /^chute_requests_refused_total{code="stream_retired",.*stream="old"} (.*)$/m.exec(text)?.[1]
  }
  const page = await openPage('/retired')
  await expect.poll(refused, { timeout: 20_000 }).toBe('1')
  // Chromium would report this request too. The reports of another stream go out together with it.
  await page.evaluate(async () => await fetch('/after'))
  await page.evaluate(violate)
  await expectTypes('/retired', ['csp-violation'])
  expect(await refused()).toBe('1')
})

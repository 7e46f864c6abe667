import { randomUUID } from 'node:crypto'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { launchChromium, servePage } from '../support/browser.ts'
import { isLong } from '../support/forms.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { parseExposition, valueOf } from '../support/parse-exposition.ts'

// What a page has and Node has not; the functions below that use it run in Chromium.
declare const navigator: { sendBeacon(url: string, body: unknown): boolean }
declare const Image: new () => EventTarget & { src: string }

let browser: Browser
let pages: Awaited<ReturnType<typeof servePage>>
let gateway: TestGateway

beforeAll(async () => {
  pages = await servePage()
  browser = await launchChromium()
  const topics = { web: `refused-${randomUUID()}` }
  gateway = await startGateway({ broker: inject('kafkaBroker'), topics, corsOrigins: [pages.origin] })
})

afterAll(async () => {
  await browser?.close()
  await gateway?.stop()
  pages?.close()
})

/** What the network panel of DevTools shows of one request. */
interface Seen {
  readonly path: string
  readonly type: string
  readonly status: number
  readonly chuteError: string | undefined
}

/** Opens a page whose network panel is open. */
async function openPanel(origin: string): Promise<{ page: Page; seen: Seen[] }> {
  const page = await browser.newPage()
  await page.goto(origin)
  const seen: Seen[] = []
  const requests = new Map<string, { path: string; type: string }>()
  const replies = new Map<string, { status: number; chuteError: string | undefined }>()
  // What is sent and what is answered are told by two processes, in any order.
  const pair = (requestId: string): void => {
    const [request, reply] = [requests.get(requestId), replies.get(requestId)]
    if (request === undefined || reply === undefined) return
    replies.delete(requestId)
    seen.push({ ...request, ...reply })
  }
  const devTools = await page.context().newCDPSession(page)
  devTools.on('Network.requestWillBeSent', ({ requestId, request, type = '' }) => {
    if (request.method === 'OPTIONS' || !request.url.startsWith(gateway.url)) return
    requests.set(requestId, { path: request.url.slice(gateway.url.length), type })
    pair(requestId)
  })
  // The header as it came, also where the page itself may not read it.
  devTools.on('Network.responseReceivedExtraInfo', ({ requestId, statusCode, headers }) => {
    const name = Object.keys(headers).find((header) => header.toLowerCase() === 'chute-error')
    const chuteError = name === undefined ? undefined : headers[name]
    replies.set(requestId, { status: statusCode, chuteError })
    pair(requestId)
  })
  await devTools.send('Network.enable')
  return { page, seen }
}

const good = '{"name":"a","value":1}'

/** By transport: what is sent, and what the network panel must show of it. */
const beacons: readonly [body: string, status: number, chuteError: RegExp][] = [
  ['{"name":', 400, /^malformed_json; ./],
  [' ', 400, /^empty_body; ./],
  ['{"name":"a"}', 400, /^invalid_event; \/value must be a finite number, got nothing$/],
  [`[${good},{"name":"b"}]`, 202, /^invalid_event; \/value must be .*; event 1, 1 of 2 refused$/],
]
/** What `sendBeacon` sends besides text: made in the page. */
const forms: readonly [fields: number, isMultipart: boolean, status: number, chuteError: RegExp][] = [
  [300, false, 413, /^too_many_fields; ./],
  [2, true, 415, /^unsupported_media_type; ./],
]
const pixels: readonly [query: string, status: number, chuteError: RegExp][] = [
  ['web.gif?name=%ff&value=1', 400, /^invalid_utf8; ./],
  ['web.gif?name=a', 400, /^invalid_event; \/value must/],
  ['none.gif?name=a&value=1', 404, /^unknown_stream; ./],
  [`web.gif?name=a&value=1${'&x=1'.repeat(300)}`, 413, /^too_many_fields; ./],
]

test.runIf(isLong)(
  'the network panel of Chromium shows why a beacon or a pixel was refused, and the live page counts it',
  async () => {
    const { page, seen } = await openPanel(pages.origin)
    const url = `${gateway.url}/v1/beacon/`
    // A beacon at a time, so that the panel's rows are in the order of the table.
    for (const [nth, [body]] of beacons.entries()) {
      await page.evaluate(([to, sent]) => navigator.sendBeacon(to, sent), [`${url}web`, body] as const)
      await expect.poll(() => seen.length, { timeout: 10_000 }).toBe(nth + 1)
    }
    for (const [nth, [fields, isMultipart]] of forms.entries()) {
      await page.evaluate(
        ([to, count, multipart]) => {
          const form = multipart ? new FormData() : new URLSearchParams()
          for (let field = 0; field < count; field++) form.append(`f${field}`, '1')
          navigator.sendBeacon(to, form)
        },
        [`${url}web`, fields, isMultipart] as const,
      )
      await expect.poll(() => seen.length, { timeout: 10_000 }).toBe(beacons.length + nth + 1)
    }
    const sentBeacons = beacons.length + forms.length
    for (const [nth, [query]] of pixels.entries()) {
      await page.evaluate((to) => {
        new Image().src = to
      }, `${url}${query}`)
      await expect.poll(() => seen.length, { timeout: 10_000 }).toBe(sentBeacons + nth + 1)
    }
    const formRows = forms.map(([fields, , status, told]) => [`${fields} fields`, status, told] as const)
    for (const [index, [sent, status, chuteError]] of [...beacons, ...formRows, ...pixels].entries()) {
      expect(seen[index], sent).toMatchObject({ status, type: index < sentBeacons ? 'Ping' : 'Image' })
      expect(seen[index]!.chuteError, sent).toMatch(chuteError)
    }

    const stranger = await openPanel(pages.origin.replace('127.0.0.1', 'localhost'))
    await stranger.page.evaluate(([to, sent]) => navigator.sendBeacon(to, sent), [`${url}web`, good] as const)
    await expect.poll(() => stranger.seen.length, { timeout: 10_000 }).toBe(1)
    expect(stranger.seen[0]).toMatchObject({ status: 403 })
    expect(stranger.seen[0]!.chuteError).toMatch(/^origin_not_allowed; .*http:\/\/localhost:/)

    const read = await page.evaluate(async (to) => {
      const response = await fetch(to, { method: 'POST', body: '{' })
      return [response.status, response.headers.get('chute-error')] as const
    }, `${url}web`)
    expect(read).toEqual([400, expect.stringMatching(/^malformed_json; ./)])

    const live = await browser.newPage()
    await live.goto(gateway.url)
    const rows = async () => await live.locator('[data-list="refused"] tr').allInnerTexts()
    const shown = async () =>
      (await rows()).map((row) => row.split('\t').slice(0, 4).join(' ').trim()).toSorted()
    await expect
      .poll(shown, { timeout: 10_000 })
      .toEqual([
        'all_events_invalid beacon web 1',
        'all_events_invalid pixel web 1',
        'empty_body beacon web 1',
        'invalid_utf8 pixel web 1',
        'malformed_json beacon web 2',
        'origin_not_allowed beacon web 1',
        'too_many_fields beacon web 1',
        'too_many_fields pixel web 1',
        'unknown_stream pixel – 1',
        'unsupported_media_type beacon web 1',
      ])
    expect(await live.locator('[data-field="refused"]').innerText()).toBe('11')

    // What is refused while somebody looks is there with the next poll but one.
    await page.evaluate(async (to) => await fetch(to, { method: 'POST', body: ' ' }), `${url}web`)
    await expect.poll(shown, { timeout: 5_000 }).toContain('empty_body beacon web 2')

    const metrics = parseExposition(await (await fetch(`${gateway.url}/metrics`)).text(), 'prometheus')
    const labels = { code: 'malformed_json', transport: 'beacon', stream: 'web' }
    expect(valueOf(metrics, 'chute_requests_refused_total', labels)).toBe(2)
  },
)

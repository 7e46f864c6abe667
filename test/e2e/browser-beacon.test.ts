import { randomUUID } from 'node:crypto'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { launchChromium, servePage } from '../support/browser.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { readTopic } from '../support/independent-reader.ts'
import { parseExposition, sumOf } from '../support/parse-exposition.ts'

// What a page has and Node has not; the functions below that use it run in Chromium.
declare const navigator: { sendBeacon(url: string, body: unknown): boolean }
declare const Image: new () => EventTarget & { src: string; readonly naturalWidth: number }
declare const addEventListener: EventTarget['addEventListener']

const broker = inject('kafkaBroker')

describe('a page of another origin, in Chromium', () => {
  const topic = `beacon-${randomUUID()}`
  let browser: Browser
  let pages: Awaited<ReturnType<typeof servePage>>
  let gateway: TestGateway
  let page: Page

  beforeAll(async () => {
    pages = await servePage()
    browser = await launchChromium()
    gateway = await startGateway({ broker, topics: { web: topic }, corsOrigins: [pages.origin] })
  })

  afterAll(async () => {
    await browser?.close()
    await gateway?.stop()
    pages?.close()
  })

  beforeEach(async () => {
    page = await browser.newPage()
    await page.goto(pages.origin)
    return async () => await page.close()
  })

  test('sends a string, a Blob of JSON, form fields, a keepalive fetch and a pixel, and each event lands once', async () => {
    const sent = await page.evaluate(async (url) => {
      const event = (name: string): string => JSON.stringify({ name, value: 1 })
      const beacon = `${url}/v1/beacon/web`
      const queued = [
        navigator.sendBeacon(beacon, event('string')),
        navigator.sendBeacon(beacon, new Blob([event('blob')], { type: 'application/json' })),
        navigator.sendBeacon(beacon, new URLSearchParams({ name: 'form', value: '1' })),
        navigator.sendBeacon(beacon, new TextEncoder().encode(event('bytes'))),
      ]
      const reply = await fetch(beacon, {
        method: 'POST',
        body: event('fetch'),
        keepalive: true,
        credentials: 'include',
      })
      const width = await new Promise<number>((resolve, reject) => {
        const image = new Image()
        image.addEventListener('load', () => resolve(image.naturalWidth))
        image.addEventListener('error', () => reject(new Error('the pixel did not load')))
        image.src = `${url}/v1/beacon/web.gif?name=pixel&value=1`
      })
      return { queued, status: reply.status, body: await reply.text(), width }
    }, gateway.url)

    expect(sent).toEqual({ queued: [true, true, true, true], status: 202, body: '', width: 1 })
    const names = ['blob', 'bytes', 'fetch', 'form', 'pixel', 'string']
    await expect.poll(async () => (await landedNames(topic)).toSorted(), { timeout: 10_000 }).toEqual(names)
    const metrics = parseExposition(await (await fetch(`${gateway.url}/metrics`)).text(), 'prometheus')
    expect(sumOf(metrics, 'chute_events_total', { result: 'accepted', transport: 'beacon' })).toBe(5)
    expect(sumOf(metrics, 'chute_events_total', { result: 'accepted', transport: 'pixel' })).toBe(1)
  })

  test('sends its last event while it is being left, and it lands once', async () => {
    const name = `pagehide-${randomUUID()}`
    await page.evaluate(
      ([url, last]) => {
        addEventListener('pagehide', () => {
          navigator.sendBeacon(`${url}/v1/beacon/web`, JSON.stringify({ name: last, value: 1 }))
        })
      },
      [gateway.url, name],
    )
    await page.goto('about:blank')
    const count = async (): Promise<number> =>
      (await landedNames(topic)).filter((landed) => landed === name).length
    await expect.poll(count, { timeout: 10_000 }).toBe(1)
  })

  test('reads the reply of the streams route, whose preflight is answered', async () => {
    const reply = await page.evaluate(async (url) => {
      const headers = { 'content-type': 'application/json', prefer: 'wait=5' }
      const body = JSON.stringify({ name: 'read', value: 1 })
      const response = await fetch(`${url}/v1/streams/web`, { method: 'POST', headers, body })
      return { status: response.status, delivery: response.headers.get('chute-delivery') }
    }, gateway.url)
    expect(reply).toEqual({ status: 200, delivery: 'at-most-once; no-dedupe' })
  })

  test('is refused when its origin is not allowed, and its beacon does not land', async () => {
    const strangerOrigin = pages.origin.replace('127.0.0.1', 'localhost')
    const stranger = await browser.newPage()
    await stranger.goto(strangerOrigin)
    const refused = stranger.waitForResponse((response) => response.url().endsWith('/v1/beacon/web'))
    await stranger.evaluate(
      (url) => navigator.sendBeacon(`${url}/v1/beacon/web`, JSON.stringify({ name: 'stranger', value: 1 })),
      gateway.url,
    )
    expect((await refused).status()).toBe(403)
    await stranger.close()
    expect(await landedNames(topic)).not.toContain('stranger')
  })
})

async function landedNames(topic: string): Promise<string[]> {
  const records = await readTopic(broker, topic)
  return records.map(({ value }) => (JSON.parse(value.toString()) as { name: string }).name)
}

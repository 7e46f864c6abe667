import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import Fastify from 'fastify'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import { stringify } from 'yaml'
import { sha256OfKey } from '../../src/config/config.ts'
import { errorTable, type ErrorCode } from '../../src/errors.ts'
import { EdgeCounters } from '../../src/metrics/edge-metrics.ts'
import { registerLivePage } from '../../src/routes/admin/live-page.ts'
import { launchChromium, servePage } from '../support/browser.ts'
import { readEvents } from '../support/event-reader.ts'
import { isLong } from '../support/forms.ts'
import { producerStats } from '../support/producer-stats.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

// What a page has and Node has not; the functions below that use it run in Chromium.
declare const document: {
  readonly documentElement: { readonly scrollWidth: number; readonly clientWidth: number }
}
declare function getComputedStyle(element: unknown): { readonly color: string }

const folder = mkdtempSync(join(tmpdir(), 'chute-live-'))
let browser: Browser
let pages: Awaited<ReturnType<typeof servePage>>
let gateway: ServedGateway
const key = { web: 'chk_pub_ofthepage', ops: 'chk_admin_ofoperators' }
/** A page of the shop, which may send events. */
let shop: Page
/** The live page, and what the browser complained about: breaches of its policy too. */
let live: { readonly page: Page; readonly complaints: string[] }

beforeAll(async () => {
  pages = await servePage()
  const [config, keys] = [join(folder, 'chute.yaml'), join(folder, 'keys.yaml')]
  const topic = `live-${process.pid}`
  writeFileSync(
    config,
    stringify({
      streams: { web: { topic, delivery: 'at-most-once' }, more: { topic, delivery: 'at-most-once' } },
    }),
  )
  const web = { kind: 'public', sha256: sha256OfKey(key.web), streams: ['*'], origins: [pages.origin] }
  const ops = { kind: 'admin', sha256: sha256OfKey(key.ops) }
  writeFileSync(keys, stringify({ keys: { web, ops } }))
  gateway = await serveGateway({
    KAFKA_BROKERS: inject('kafkaBroker'),
    CHUTE_CONFIG: config,
    CHUTE_KEYS_FILE: keys,
    MAX_BODY_BYTES: '2000',
    WORKERS: '2',
  })
  await gateway.ready()
  browser = await launchChromium()
  shop = await browser.newPage()
  await shop.goto(pages.origin)
  live = await openLive()
})

afterAll(async () => {
  await browser?.close()
  pages?.close()
  gateway?.signal('SIGKILL')
  rmSync(folder, { recursive: true })
})

async function openLive(options: Parameters<Browser['newPage']>[0] = {}): Promise<typeof live> {
  const page = await browser.newPage({ httpCredentials: { username: key.ops, password: '' }, ...options })
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('dialog', (dialog) => complaints.push(dialog.message()))
  page.on('console', (message) => {
    // Each poll is answered 401 first, until the browser has sent the key.
    if (!message.text().includes('401')) complaints.push(message.text())
  })
  await page.goto(gateway.url)
  await page.locator('[data-field="eventsState"]', { hasText: 'live' }).waitFor()
  return { page, complaints }
}

/** Sends a beacon as a page does. */
async function beacon(from: Page, stream: string, value: string | null, body: string): Promise<void> {
  await from.evaluate(
    async ([url, sent]) => void (await fetch(url, { method: 'POST', body: sent, mode: 'no-cors' })),
    [`${gateway.url}/v1/beacon/${stream}${value === null ? '' : `?key=${value}`}`, body] as const,
  )
}

/** The events of a list whose text has all of `texts`. */
function eventsWith(page: Page, list: 'refused' | 'taken', ...texts: string[]) {
  let found = page.locator(`[data-list="${list}Events"] li`)
  for (const text of texts) found = found.filter({ hasText: text })
  return found
}

const good = '{"name":"a","value":1}'
const patient = { timeout: 10_000 }

describe('the live page in Chromium, of a gateway with two workers and keys', () => {
  test('shows within two seconds why an event of a page was refused, and what to do', async () => {
    const { page, complaints } = live
    const stranger = await browser.newPage()
    const evil = pages.origin.replace('127.0.0.1', 'localhost')
    await stranger.goto(evil)
    const refusals: readonly [code: ErrorCode, sender: string, send: () => Promise<void>, shown: string[]][] =
      [
        ['origin_not_allowed', evil, async () => await beacon(stranger, 'web', key.web, good), []],
        ['key_unknown', pages.origin, async () => await beacon(shop, 'web', `${key.web}x`, good), []],
        [
          'invalid_event',
          pages.origin,
          async () => await beacon(shop, 'web', key.web, '{"name":"no value"}'),
          [
            '/value must be a finite number, got nothing',
            '{"name":"no value"}',
            'key web',
            'all_events_invalid',
          ],
        ],
        [
          'body_too_large',
          pages.origin,
          async () => await beacon(shop, 'web', key.web, 'x'.repeat(3_000)),
          ['key web'],
        ],
      ]
    const tookMs: Record<string, number> = {}
    for (const [code, sender, send, shown] of refusals) {
      const startedAtMs = performance.now()
      await send()
      const { wayOut } = errorTable[code]
      await eventsWith(page, 'refused', code, sender, 'web · beacon', `What to do: ${wayOut}`, ...shown)
        .first()
        .waitFor({ timeout: 10_000 })
      tookMs[code] = performance.now() - startedAtMs
    }
    expect(Math.max(...Object.values(tookMs)), JSON.stringify(tookMs)).toBeLessThan(2_000)

    await beacon(shop, 'web', key.web, '{"name":"taken","value":1}')
    await eventsWith(page, 'taken', 'taken', 'web · beacon', '{"name":"taken","value":1}', 'key web')
      .first()
      .waitFor()
    expect(await page.content()).not.toContain(key.web)
    expect(complaints).toEqual([])
    await stranger.close()
  })

  test.runIf(isLong)(
    'shows the events of all workers, and those that were refused before it was opened',
    async () => {
      // Each connection goes to the next worker.
      for (let nth = 0; nth < 4; nth++) {
        await fetch(`${gateway.url}/v1/streams/more`, {
          method: 'POST',
          body: `{"name":"before ${nth}"}`,
          headers: { 'x-chute-key': key.web, connection: 'close' },
        })
      }
      const { page } = await openLive()
      for (let nth = 0; nth < 4; nth++)
        await eventsWith(page, 'refused', `{"name":"before ${nth}"}`).waitFor()
      const reader = await readEvents(gateway.url, { authorization: `Bearer ${key.ops}` })
      await expect
        .poll(() => reader.events.filter(({ text }) => text?.includes('before')).length, patient)
        .toBe(4)
      const processes = new Set(reader.events.map(({ id }) => id.split('-')[0]))
      expect(processes.size).toBe(2)
      reader.close()
      await page.close()
    },
  )

  test.runIf(isLong)('filters by stream and code, and holds still while it is paused', async () => {
    const { page } = live
    await beacon(shop, 'web', key.web, '{"name":"of web"}')
    await beacon(shop, 'more', key.web, '{"name":"of more"')
    await beacon(shop, 'more', key.web, '{"name":"of more"}')
    const shown = async () =>
      (await page.locator('[data-list="refusedEvents"] [data-field="text"]').allInnerTexts()).filter(
        (text) => text.includes(' of ') || text.includes('"of '),
      )
    await expect
      .poll(shown, patient)
      .toEqual(['{"name":"of more"}', '{"name":"of more"', '{"name":"of web"}'])
    await page.locator('[data-filter="stream"]').selectOption('more')
    expect(await shown()).toEqual(['{"name":"of more"}', '{"name":"of more"'])
    await page.locator('[data-filter="code"]').selectOption('malformed_json')
    expect(await shown()).toEqual(['{"name":"of more"'])

    await page.locator('[data-field="pause"]').click()
    await beacon(shop, 'more', key.web, '{"name":"of later"')
    const reader = await readEvents(gateway.url, { authorization: `Bearer ${key.ops}` })
    await expect
      .poll(() => reader.events.some(({ text }) => text === '{"name":"of later"'), patient)
      .toBe(true)
    reader.close()
    expect(await shown()).toEqual(['{"name":"of more"'])
    await page.locator('[data-field="pause"]').click()
    await expect.poll(shown, patient).toEqual(['{"name":"of later"', '{"name":"of more"'])
  })

  test.runIf(isLong)('fits a phone, dark and light, and what a client sends stays text', async () => {
    const html = '<img src=x onerror=alert(1)></script><script>alert(2)</script>'
    await beacon(shop, 'web', key.web, `{"name":"${html}"}`)
    await beacon(shop, 'web', key.web, JSON.stringify({ name: 'x'.repeat(300), value: 1, html }))
    await beacon(shop, 'web', key.web, `{"${'y'.repeat(250)}":"`)
    const { page, complaints } = await openLive({ viewport: { width: 320, height: 700 } })
    const attack = eventsWith(page, 'refused', `{"name":"${html}"}`).first()
    await attack.waitFor()
    await eventsWith(page, 'refused', 'yyyy').first().waitFor()
    const brightness: number[] = []
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme })
      const { scroll, client } = await page.evaluate(() => ({
        scroll: document.documentElement.scrollWidth,
        client: document.documentElement.clientWidth,
      }))
      expect(scroll, colorScheme).toBeLessThanOrEqual(client)
      const color = await attack.evaluate((element) => getComputedStyle(element).color)
      brightness.push(Number(/\d+/.exec(color)![0]))
    }
    expect(brightness[0]).toBeGreaterThan(200)
    expect(brightness[1]).toBeLessThan(60)
    expect(await page.locator('img').count()).toBe(0)
    expect(complaints).toEqual([])
    await page.close()
  })
})

test('the live page shows the account of a stream that is gone, and a backlog on disk as a part of the account', async () => {
  const spool = {
    records: 4,
    bytes: 400,
    maxBytes: 4_096,
    oldestAgeSeconds: 1,
    drained: 3,
    writeFailures: 0,
    readFailures: 0,
    available: true,
  }
  const gone = { bufferTotalBytes: 0, bufferAvailableBytes: 0, accepted: 3, confirmed: 3 }
  const orders = {
    delivery: 'at-least-once',
    accepted: 5,
    recovered: 2,
    spooled: 4,
    acked: 3,
    spool,
  } as const
  const streams = [producerStats({ stream: 'gone', ...gone }), producerStats({ stream: 'orders', ...orders })]
  const app = Fastify()
  registerLivePage(app, {
    version: '1.2.3',
    hasEvents: false,
    look: async () => () => ({
      metrics: { streams, edge: new EdgeCounters().totals() },
      readiness: { ready: true, checks: [] },
      uptimeSeconds: 3,
    }),
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  onTestFinished(async () => await app.close())
  const page = await browser.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  await page.goto(url)
  for (const { stream } of streams) {
    const card = page.locator('[data-list="streams"] > *', { hasText: stream })
    await card.getByText('Accepted, the sum of these').waitFor()
  }
  await page.getByText('On disk', { exact: true }).waitFor()
  await page.getByText('and found on disk at the start').waitFor()
  expect(await page.locator('[data-field="pending"]').first().textContent()).toBe('4')
  expect(await page.locator('[data-list="notices"]').textContent()).toBe('')
  expect(complaints).toEqual([])
  await page.close()
})

import { randomUUID } from 'node:crypto'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { launchChromium, servePage } from '../support/browser.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { readTopic } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'

/**
 * Every way of sending, from every kind of page, over every way of leaving it. Each event that its way can save is in the topic once,
 * and no event is there twice.
 */
const broker = inject('kafkaBroker')
const topic = `matrix-${randomUUID()}`

/** What sends the events of a page. `raw`: without the client, by all that a browser has. `npm test` has the last two. */
const allSenders = ['client without sendBeacon', 'client', 'raw'] as const
type Sender = (typeof allSenders)[number]
const senders = isLong ? allSenders : allSenders.slice(1)

/** Where the gateway is, seen from the page. `npm test` has the last one. */
const allPlaces = ['same origin', 'other origin'] as const
type Place = (typeof allPlaces)[number]
const places = isLong ? allPlaces : allPlaces.slice(1)

/** What only a browser has. The functions that use it run there. */
declare const window: { send(label: string): void }

let browser: Browser
let gateway: TestGateway
let devTools: string
const pages: Partial<Record<Place, Awaited<ReturnType<typeof servePage>>>> = {}

beforeAll(async () => {
  pages['other origin'] = await servePage(() => headFor(gateway.url))
  pages['same origin'] = await servePage(
    () => headFor(''),
    () => gateway.url,
  )
  const [port] = (await freePorts(1)) as [number]
  devTools = `http://127.0.0.1:${port}/json`
  browser = await launchChromium([`--remote-debugging-port=${port}`], ['--disable-back-forward-cache'])
  const web = {
    ...streamConfig(topic, 'at-most-once'),
    name: 'web',
    schema: 'page',
    key: '/session',
    dedupe: { windowMs: 600_000, maxEntries: 100_000 },
    beaconOnBufferFull: 'reject',
  } as const
  const http = { corsOrigins: [pages['other origin'].origin] }
  gateway = await startGatewayWith(testConfig({ brokers: [broker], streams: [web], http }))
})

afterAll(async () => {
  await browser?.close()
  await gateway?.stop()
  for (const each of Object.values(pages)) each.close()
})

/** `send(label)` sends three events of a label, and `drive` has the page do the rest by itself. */
const headFor = (url: string): string => `<script>
  const { searchParams: asked } = new URL(location)
  const sender = asked.get('sender'), drive = asked.get('drive'), run = asked.get('run')
  const to = '${url}/v1/beacon/web'
  const body = (name) => JSON.stringify({ name })
  const ways = {
    beacon: (name) => navigator.sendBeacon(to, body(name)),
    keepalive: (name) => fetch(to, { method: 'POST', body: body(name), keepalive: true }).catch(() => {}),
    fetch: (name) => fetch(to, { method: 'POST', body: body(name) }).catch(() => {}),
    pixel: (name) => { new Image().src = to + '.gif?name=' + name },
  }
  window.send = (label) => {
    if (sender == 'raw') for (const way in ways) ways[way](run + '-' + label + '-' + way)
    else for (let nth = 0; nth < 3; nth++) chute(run + '-' + label + '-' + nth)
  }
  if (sender == 'client without sendBeacon') navigator.sendBeacon = undefined
</script>
<script src="${url}/chute.js" data-stream="web"></script>
<script>
  if (drive == 'cached') {
    send('first')
    addEventListener('pageshow', ({ persisted }) => {
      if (persisted) send('second')
      else setTimeout(() => { location.href = '/?drive=back' }, 500)
    })
  }
  if (drive == 'back') setTimeout(() => history.back(), 500)
  const sendOnce = () => {
    if (document.visibilityState != 'visible' || document.title == 'sent') return
    send('first')
    document.title = 'sent'
  }
  if (drive == 'shown') {
    sendOnce()
    addEventListener('visibilitychange', sendOnce)
  }
</script>`

/** One cell: a page, and what has to come of it. */
interface Cell {
  readonly sender: Sender
  readonly place: Place
  readonly run: string
}

const cells = (): Cell[] =>
  places.flatMap((place) => senders.map((sender) => ({ sender, place, run: randomUUID() })))

const urlOf = ({ sender, place, run }: Cell, drive = ''): string =>
  `${pages[place]!.origin}/?${new URLSearchParams({ sender, run, drive }).toString()}`

async function openPage(cell: Cell): Promise<{ page: Page; context: BrowserContext }> {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(urlOf(cell))
  return { page, context }
}

const send = async (page: Page, label: string): Promise<void> =>
  await page.evaluate((of) => window.send(of), label)

/** The names of the events of a label. @param saved only those that a browser sends whatever becomes of the page. */
function namesOf({ sender, run }: Cell, label: string, saved: 'all' | 'saved'): string[] {
  const raw = saved === 'all' ? ['beacon', 'keepalive', 'fetch', 'pixel'] : ['beacon', 'keepalive']
  return (sender === 'raw' ? raw : ['0', '1', '2']).map((nth) => `${run}-${label}-${nth}`)
}

/** Waits until all of `must` are there, once each. Of the events of the cells nothing else is there that `may` does not have, or twice. */
async function expectLanded(all: readonly Cell[], must: string[], may: string[] = []): Promise<void> {
  const runs = all.map(({ run }) => run)
  const landed = async (): Promise<string[]> =>
    (await readTopic(broker, topic))
      .map(({ value }) => (JSON.parse(value.toString()) as { name: string }).name)
      .filter((name) => runs.some((run) => name.startsWith(run)))
      .toSorted()
  const missing = async (): Promise<string[]> => {
    const names = new Set(await landed())
    return must.filter((name) => !names.has(name))
  }
  await expect.poll(missing, { timeout: 30_000, interval: 500 }).toEqual([])
  const names = await landed()
  expect(names.filter((name, nth) => names[nth - 1] === name)).toEqual([])
  expect(names.filter((name) => !must.includes(name) && !may.includes(name))).toEqual([])
}

describe.runIf(isLong)(
  'each event of a page lands once, or is known to be lost, and none lands twice',
  () => {
    const leaving: Readonly<Record<string, (page: Page) => Promise<unknown>>> = {
      'is left open': async () => {},
      'is left for another page': async (page) => await page.goto('about:blank'),
      'is reloaded': async (page) => await page.reload(),
      'is closed': async (page) => await page.close(),
    }
    test.each(Object.keys(leaving))('the page %s', async (way) => {
      const all = cells()
      const contexts = await Promise.all(
        all.map(async (cell) => {
          const { page, context } = await openPage(cell)
          await send(page, 'last')
          await leaving[way]!(page)
          return context
        }),
      )
      const saved = way === 'is left open' ? 'all' : 'saved'
      const must = all.flatMap((cell) => namesOf(cell, 'last', saved))
      await expectLanded(
        all,
        must,
        all.flatMap((cell) => namesOf(cell, 'last', 'all')),
      )
      await Promise.all(contexts.map(async (context) => await context.close()))
    })

    test('the renderer of the page is killed', async () => {
      const all = cells()
      const contexts = await Promise.all(
        all.map(async (cell) => {
          const { page, context } = await openPage(cell)
          await send(page, 'early')
          await expectLanded([cell], namesOf(cell, 'early', 'all'))
          const crashed = page.waitForEvent('crash')
          await send(page, 'late')
          const session = await context.newCDPSession(page)
          session.send('Page.crash').catch(() => {})
          await crashed
          const next = await context.newPage()
          await next.goto(urlOf(cell))
          await send(next, 'after')
          return context
        }),
      )
      const must = all.flatMap((cell) => ['early', 'after'].flatMap((label) => namesOf(cell, label, 'all')))
      // No code of the page runs any more. What waited in the client is lost.
      const may = all.flatMap((cell) => namesOf(cell, 'late', 'all'))
      await expectLanded(all, must, may)
      await Promise.all(contexts.map(async (context) => await context.close()))
    })

    test('the network is away and comes back', async () => {
      const all = cells()
      const contexts = await Promise.all(
        all.map(async (cell) => {
          const { page, context } = await openPage(cell)
          await context.setOffline(true)
          await send(page, 'away')
          await context.setOffline(false)
          await send(page, 'back')
          return context
        }),
      )
      const must = all.flatMap((cell) => [
        ...(cell.sender === 'raw' ? [] : namesOf(cell, 'away', 'all')),
        ...namesOf(cell, 'back', 'all'),
      ])
      // Whoever sends without the client has to send again.
      const may = all.flatMap((cell) => namesOf(cell, 'away', 'all'))
      await expectLanded(all, must, may)
      await Promise.all(contexts.map(async (context) => await context.close()))
    })

    // The next two tests look at tabs that Playwright has no part in: its pages are always visible, and no page of its is cached.
    const openTab = async (url: string): Promise<string> => {
      const reply = await fetch(`${devTools}/new?${encodeURIComponent(url)}`, { method: 'PUT' })
      return ((await reply.json()) as { id: string }).id
    }
    const titleOf = async (id: string): Promise<string | undefined> => {
      const tabs = (await (await fetch(devTools)).json()) as { id: string; title: string }[]
      return tabs.find((tab) => tab.id === id)?.title
    }
    const closeTabs = async (ids: readonly string[]): Promise<void> => {
      for (const id of ids) await fetch(`${devTools}/close/${id}`)
    }

    test('the page comes back from the back/forward cache', async () => {
      const all = cells()
      const tabs: string[] = []
      for (const cell of all) tabs.push(await openTab(urlOf(cell, 'cached')))
      const must = all.flatMap((cell) => [
        ...namesOf(cell, 'first', 'saved'),
        ...namesOf(cell, 'second', 'all'),
      ])
      await expectLanded(
        all,
        must,
        all.flatMap((cell) => namesOf(cell, 'first', 'all')),
      )
      await closeTabs(tabs)
    })

    test('the page is hidden, and nothing else happens to it', async () => {
      const all = cells()
      // The first tab of a browser is not shown at once. From then on each tab hides the one before.
      const tabs = [await openTab('about:blank')]
      for (const cell of all) {
        const id = await openTab(urlOf(cell, 'shown'))
        tabs.push(id)
        await fetch(`${devTools}/activate/${id}`)
        await expect.poll(async () => await titleOf(id), { timeout: 10_000 }).toBe('sent')
      }
      tabs.push(await openTab('about:blank'))
      await expectLanded(
        all,
        all.flatMap((cell) => namesOf(cell, 'first', 'all')),
      )
      await closeTabs(tabs)
    })
  },
)

import { randomUUID } from 'node:crypto'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { launchChromium, servePage } from '../support/browser.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { readTopic } from '../support/independent-reader.ts'
import { streamConfig } from '../support/producer-fixture.ts'
import { isLong } from '../support/forms.ts'

// What a page has and Node has not; the functions below that use it run in Chromium.
interface Client {
  (name: string, fields?: object): void
  vital(metric: object): void
  error(error: unknown): void
  page(): void
  flush(): void
}
declare const window: EventTarget & {
  chute: Client
  CompressionStream: new (format: string) => object
  fetch: () => Promise<Response>
  /** The timers that are set, in the test that counts them. */
  pending: Set<unknown>
  setTimeout: (run: () => void, afterMs?: number) => unknown
  clearTimeout: (timer: unknown) => void
  setUncounted: (run: () => void) => unknown
}
declare const document: EventTarget & { title: string }
declare const history: { pushState(data: null, title: string, url: string): void }
declare const navigator: object
declare const location: { readonly href: string }
declare const localStorage: Readonly<Record<string, string>>

const broker = inject('kafkaBroker')

/** An event as it landed. */
interface Landed {
  readonly name: string
  readonly id: string
  readonly session: string
  readonly [field: string]: unknown
}

/** An event of Chromium's trace. Times are microseconds; `tdur` is CPU time. */
interface Traced {
  readonly name: string
  readonly pid: number
  readonly tid: number
  readonly ts: number
  readonly dur?: number
  readonly tdur?: number
}

const topic = `client-${randomUUID()}`
let browser: Browser
let gateway: TestGateway
let pages: Awaited<ReturnType<typeof servePage>>
let context: BrowserContext
/** What the pages of this test have in their head. */
let head = ''

const tag = (attributes = ''): string =>
  `<script src="${gateway.url}/chute.js" data-stream="web" ${attributes}></script>`

beforeAll(async () => {
  pages = await servePage(() => head)
  browser = await launchChromium()
  const web = {
    ...streamConfig(topic, 'at-most-once'),
    name: 'web',
    schema: 'page',
    key: '/session',
    dedupe: { windowMs: 600_000, maxEntries: 100_000 },
  } as const
  const http = { corsOrigins: [pages.origin], beaconPath: '/in' }
  gateway = await startGatewayWith(testConfig({ brokers: [broker], streams: [web], http }))
})

afterAll(async () => {
  await browser?.close()
  await gateway?.stop()
  pages?.close()
})

beforeEach(async () => {
  head = tag()
  context = await browser.newContext()
  return async () => await context.close()
})

/** Opens a page that has the client. */
async function openPage(path = '/'): Promise<Page> {
  const page = await context.newPage()
  await page.goto(pages.origin + path)
  return page
}

async function landed(prefix: string): Promise<Landed[]> {
  const records = await readTopic(broker, topic)
  return records
    .map(({ value }) => JSON.parse(value.toString()) as Landed)
    .filter(({ name }) => name.startsWith(prefix))
}

/** Waits until the events of a test are there, each of them once. */
async function expectOnce(prefix: string, count: number): Promise<Landed[]> {
  const names = Array.from({ length: count }, (_, nth) => `${prefix}-${nth}`).toSorted()
  await expect
    .poll(async () => (await landed(prefix)).map(({ name }) => name).toSorted(), { timeout: 20_000 })
    .toEqual(names)
  return await landed(prefix)
}

const sendMany = ([prefix, count, padding]: readonly [string, number, number]): void => {
  for (let nth = 0; nth < count; nth++) window.chute(`${prefix}-${nth}`, { padding: 'x'.repeat(padding) })
}

describe('the browser client, in Chromium', () => {
  test('sends events, vitals, errors and page views without a preflight, and the calls before it has loaded', async () => {
    const name = randomUUID()
    head = `<script>
      (() => { const q = [], f = (n) => (...a) => q.push([n, a])
      window.chute = Object.assign(f(''), { q, vital: f('vital'), error: f('error'), page: f('page') }) })()
      chute('${name}-early', { plan: 'pro' })
    </script>${tag('data-errors data-page data-path="/in" async')}`
    const page = await context.newPage()
    const sent: string[] = []
    page.on('request', (request) => {
      if (request.url().startsWith(gateway.url))
        sent.push(`${request.method()} ${new URL(request.url()).pathname}`)
    })
    await page.goto(`${pages.origin}/start?token=secret`)
    await page.waitForFunction(() => 'flush' in window.chute)
    await page.evaluate((prefix) => {
      window.chute.vital({
        name: `${prefix}-LCP`,
        value: 12.5,
        id: 'v5-1',
        rating: 'good',
        entries: [document],
        navigationURL: location.href,
      })
      window.chute.error(new TypeError(`${prefix} caught`))
      setTimeout(() => {
        throw new RangeError(`${prefix} uncaught`)
      })
      void Promise.reject(new Error(`${prefix} rejected`))
      history.pushState(null, '', '/cart')
      document.title = 'the cart'
      const circle: { self?: unknown } = {}
      circle.self = circle
      window.chute(`${prefix}-circle`, circle)
    }, name)
    const ofTest = async () => {
      const all = await landed('')
      const session = all.find((event) => event.name === `${name}-early`)?.session
      return all.filter((event) => event.session === session)
    }
    await expect.poll(async () => (await ofTest()).length, { timeout: 20_000 }).toBe(7)
    const events = await ofTest()
    const of = (wanted: string) => events.filter((event) => event.name === wanted)
    const url = `${pages.origin}/start`
    expect(of(`${name}-early`)).toMatchObject([{ plan: 'pro', value: 1, url, source: events[0]!.session }])
    expect(of(`${name}-LCP`)).toMatchObject([{ value: 12.5, rating: 'good', metricId: 'v5-1' }])
    expect(JSON.stringify(events)).not.toContain('secret')
    expect(
      of('error')
        .map(({ message }) => String(message).replace(/^Uncaught /, ''))
        .toSorted(),
    ).toEqual([`${name} caught`, `${name} rejected`, `${name} uncaught`])
    expect(of('page.view')).toMatchObject([
      { url, title: 'a page of a shop', referrer: '' },
      { url: `${pages.origin}/cart`, title: 'the cart', referrer: url },
    ])
    expect(new Set(events.map(({ id }) => id)).size).toBe(7)
    expect(events.every(({ id, session }) => id.startsWith(`${session}-`))).toBe(true)
    expect(sent.filter((line) => line !== 'GET /chute.js')).toEqual(sent.slice(1).map(() => 'POST /in/web'))
    expect((await context.cookies()).length).toBe(0)
  })

  const leaving: Readonly<Record<string, (page: Page) => Promise<unknown>>> = {
    'leaves for another page': async (page) => await page.goto(`${pages.origin}/next`),
    'leaves for another origin': async (page) => await page.goto(gateway.url),
    reloads: async (page) => await page.reload(),
    'closes the tab': async (page) => await page.close(),
  }
  test.each(Object.keys(leaving))(
    'has 200 events of the last moment of a page in the topic once: it %s',
    async (way) => {
      const page = await openPage()
      const prefix = randomUUID()
      await page.evaluate(sendMany, [`${prefix}-a`, 100, 10] as const)
      // One more sender that is called behind the client.
      await page.evaluate(
        (last) =>
          window.addEventListener('pagehide', () => {
            for (let nth = 0; nth < 100; nth++) window.chute(`${last}-${nth}`)
          }),
        `${prefix}-b`,
      )
      await leaving[way]!(page)
      const events = [...(await expectOnce(`${prefix}-a`, 100)), ...(await expectOnce(`${prefix}-b`, 100))]
      expect(new Set(events.map(({ session }) => session)).size).toBe(1)
    },
  )

  test.runIf(isLong)('numbers the events of one tab through, and those of a second tab anew', async () => {
    const prefix = randomUUID()
    const page = await openPage()
    await page.evaluate(sendMany, [`${prefix}-a`, 2, 0] as const)
    await page.goto(`${pages.origin}/next`)
    await page.evaluate(sendMany, [`${prefix}-b`, 2, 0] as const)
    await page.goBack()
    await page.evaluate(sendMany, [`${prefix}-c`, 2, 0] as const)
    const opened = context.waitForEvent('page')
    await page.evaluate(`window.open('/')`)
    const second = await opened
    await second.waitForFunction(() => 'flush' in window.chute)
    await second.evaluate(sendMany, [`${prefix}-d`, 2, 0] as const)
    await expect.poll(async () => (await landed(prefix)).length, { timeout: 20_000 }).toBe(8)
    const events = await landed(prefix)
    const numbers = (letter: string) =>
      events
        .filter(({ name }) => name.startsWith(`${prefix}-${letter}`))
        .map(({ id }) => Number(id.split('-')[1]))
        .toSorted((a, b) => a - b)
    expect(['a', 'b', 'c', 'd'].map(numbers)).toEqual([
      [1, 2],
      [3, 4],
      [5, 6],
      [1, 2],
    ])
    expect(new Set(events.map(({ session }) => session)).size).toBe(2)
  })

  test.runIf(isLong)(
    'tells with the first event of a session how far the sessions before it came, each of them once',
    async () => {
      const prefix = randomUUID()
      const first = await openPage()
      const second = await openPage()
      await first.evaluate(sendMany, [`${prefix}-a`, 3, 0] as const)
      await second.evaluate(sendMany, [`${prefix}-b`, 2, 0] as const)
      await first.evaluate(sendMany, [`${prefix}-c`, 1, 0] as const)
      await first.close()
      await second.close()
      const third = await openPage()
      await third.evaluate(sendMany, [`${prefix}-d`, 2, 0] as const)
      await third.close()
      await expect.poll(async () => (await landed(prefix)).length, { timeout: 20_000 }).toBe(8)
      const events = await landed(prefix)
      const last = (letter: string) => events.findLast(({ name }) => name.startsWith(`${prefix}-${letter}`))!
      const told = Object.fromEntries(
        events.flatMap(({ name, before }) => (before === undefined ? [] : [[name, before]])),
      ) as Record<string, string[]>
      expect(told[`${prefix}-b-0`]).toEqual([last('a').id])
      expect(told[`${prefix}-d-0`]!.toSorted()).toEqual([last('b').id, last('c').id].toSorted())
      expect(Object.keys(told)).toHaveLength(2)
    },
  )

  test.runIf(isLong)(
    'has 300 KB of backlog sent: what the browser lets through at once, and the rest at the next visit',
    async () => {
      const prefix = randomUUID()
      const page = await openPage()
      await page.evaluate(sendMany, [prefix, 300, 800] as const)
      await page.close()
      await expect.poll(async () => (await landed(prefix)).length, { timeout: 20_000 }).toBeGreaterThan(20)
      expect((await landed(prefix)).length).toBeLessThan(300)
      const next = await openPage()
      await expectOnce(prefix, 300)
      const backlog = `${gateway.url}/v1/beacon/web`
      expect(await next.evaluate((name) => localStorage[name], backlog)).toBeUndefined()
    },
  )

  test('keeps its events while it is offline, also over the end of a page', async () => {
    const prefix = randomUUID()
    const page = await openPage()
    await context.setOffline(true)
    await page.evaluate(sendMany, [`${prefix}-a`, 3, 0] as const)
    await page.evaluate(() => window.chute.flush())
    await context.setOffline(false)
    await expectOnce(`${prefix}-a`, 3)
    await context.setOffline(true)
    await page.evaluate(sendMany, [`${prefix}-b`, 3, 0] as const)
    await page.close()
    await context.setOffline(false)
    await openPage()
    await expectOnce(`${prefix}-b`, 3)
  })

  test('sends a batch again whose reply was lost, and each event lands once', async () => {
    const prefix = randomUUID()
    const page = await openPage()
    let requests = 0
    await page.route(`${gateway.url}/v1/beacon/**`, async (route) => {
      if (requests++ > 0) return await route.continue()
      await route.fetch()
      await route.abort('connectionreset')
    })
    await page.evaluate(sendMany, [prefix, 3, 0] as const)
    await page.evaluate(() => window.chute.flush())
    await expect.poll(() => requests, { timeout: 20_000 }).toBe(2)
    await expectOnce(prefix, 3)
  })

  test('comes back when a 503 says, and not before', async () => {
    const prefix = randomUUID()
    const page = await openPage()
    const times: number[] = []
    await page.route(`${gateway.url}/v1/beacon/**`, async (route) => {
      times.push(performance.now())
      const headers = {
        'retry-after': '3',
        'access-control-allow-origin': pages.origin,
        'access-control-expose-headers': 'retry-after',
      }
      if (times.length > 1) await route.continue()
      else await route.fulfill({ status: 503, headers })
    })
    await page.evaluate(sendMany, [prefix, 3, 0] as const)
    await page.evaluate(() => window.chute.flush())
    await expectOnce(prefix, 3)
    expect(times).toHaveLength(2)
    expect(times[1]! - times[0]!).toBeGreaterThan(2_900)
  })

  test('names a refused event in the console once, and sends the others', async () => {
    const prefix = randomUUID()
    const page = await openPage()
    const warnings: string[] = []
    page.on('console', (message) => {
      if (message.text().startsWith('chute:')) warnings.push(message.text())
    })
    for (const round of [0, 1, 2]) {
      await page.evaluate(
        ([own, nth]) => {
          window.chute(`${own}-${nth}`)
          window.chute(`${own}-bad`, { value: 'much' })
          window.chute.flush()
        },
        [prefix, round] as const,
      )
      await expectOnce(prefix, round + 1)
    }
    await expect.poll(() => warnings.length, { timeout: 10_000 }).toBe(1)
    expect(warnings[0]).toContain('invalid_event; /value must be a finite number')
    expect(warnings[0]).toContain(`${prefix}-bad`)
  })

  test.runIf(isLong)('takes 1,000 events in a few milliseconds, and sends a long body as gzip', async () => {
    const prefix = randomUUID()
    const page = await openPage()
    const compressed = page.waitForRequest((request) => request.postDataBuffer()?.[0] === 0x1f)
    const took = await page.evaluate((own) => {
      const rounds = Array.from({ length: 10 }, (_, round) => {
        const startedAt = performance.now()
        for (let nth = 0; nth < 100; nth++)
          window.chute(`${own}-${round * 100 + nth}`, { step: nth, plan: 'pro' })
        return performance.now() - startedAt
      })
      // Other processes take their time from some rounds, and not from all.
      return Math.min(...rounds) * rounds.length
    }, prefix)
    await compressed
    await expectOnce(prefix, 1_000)
    // About 4 ms on a machine with nothing else to do. Here others run beside it.
    expect(took).toBeLessThan(15)
  })

  /**
   * The longest task of a fresh page from its first call to its first request, in milliseconds of CPU time of the page's thread.
   * The time is from Chromium's own trace, and a task that waits for a core has none meanwhile.
   */
  async function longestTaskMs(tasks: number, callsPerTask: number): Promise<number> {
    const fresh = await browser.newContext()
    const page = await fresh.newPage()
    await page.goto(pages.origin)
    const tracing = await browser.newBrowserCDPSession()
    const events: Traced[] = []
    tracing.on('Tracing.dataCollected', ({ value }) => events.push(...(value as unknown as Traced[])))
    await tracing.send('Tracing.start', {
      transferMode: 'ReportEvents',
      traceConfig: { includedCategories: ['toplevel', 'blink.user_timing'] },
    })
    const sent = page.waitForRequest((request) => request.method() === 'POST')
    await page.evaluate(
      async ([all, calls]) => {
        for (let task = 0; task < all; task++) {
          await new Promise<void>((resolve) =>
            setTimeout(() => {
              if (task === 0) performance.mark('first call')
              for (let step = 0; step < calls; step++) window.chute('step', { step, plan: 'pro' })
              resolve()
            }),
          )
        }
      },
      [tasks, callsPerTask] as const,
    )
    await sent
    const complete = new Promise((resolve) => tracing.once('Tracing.tracingComplete', resolve))
    await tracing.send('Tracing.end')
    await complete
    await tracing.detach()
    await fresh.close()
    const first = events.find(({ name }) => name === 'first call')!
    const ofPage = events.filter(
      ({ name, pid, tid, ts, dur = 0 }) =>
        name.endsWith('RunTask') && pid === first.pid && tid === first.tid && ts + dur >= first.ts,
    )
    expect(ofPage.length).toBeGreaterThan(tasks)
    return Math.max(...ofPage.map(({ tdur = 0 }) => tdur)) / 1_000
  }

  test.runIf(isLong).each([
    ['in ten tasks, 5', 10, 5],
    // The goal is 5 ms here as well. A slow machine misses it: docs/browser.md has the figures of two.
    ['in one task, 15', 1, 15],
  ] as const)(
    'keeps the tasks of a page that sends 1,000 events short: %s ms of CPU time at most',
    async (_, tasks, limitMs) => {
      const all: number[] = []
      for (let nth = 0; nth < 9; nth++) all.push(await longestTaskMs(tasks, 1_000 / tasks))
      all.sort((a, b) => a - b)
      const [least, , , , median] = all as [number, number, number, number, number]
      process.stderr.write(
        `1,000 events, ${tasks} tasks: the longest has ${median.toFixed(1)} ms (median of 9 pages), ${least.toFixed(1)} ms (least)\n`,
      )
      expect(median).toBeLessThan(limitMs)
    },
  )

  test('has one timer, however often it is flushed while requests fail or have to wait', async () => {
    const page = await context.newPage()
    await page.addInitScript(() => {
      const { setTimeout: set, clearTimeout: clear } = window
      window.pending = new Set()
      window.setUncounted = set
      window.setTimeout = (run, afterMs) => {
        const timer = set(() => {
          window.pending.delete(timer)
          run()
        }, afterMs)
        window.pending.add(timer)
        return timer
      }
      window.clearTimeout = (timer) => {
        window.pending.delete(timer)
        clear(timer)
      }
    })
    await page.goto(pages.origin)
    const timers = await page.evaluate(async () => {
      let reply: ResponseInit = { status: 500 }
      window.fetch = async () => new Response('', reply)
      const flushed = async (): Promise<number> => {
        window.chute.flush()
        // The reply is there at once, so the client has read it a task later.
        await new Promise<void>((resolve) => void window.setUncounted(resolve))
        return window.pending.size
      }
      window.chute('one-timer')
      const failing = [await flushed(), await flushed(), await flushed()]
      reply = { status: 503, headers: { 'retry-after': '30' } }
      return [...failing, await flushed(), await flushed()]
    })
    expect(timers).toEqual([1, 1, 1, 1, 1])
  })

  test.runIf(isLong)(
    'leaves a full batch to a task of its own, and makes the task of the page no longer',
    async () => {
      const prefix = randomUUID()
      const page = await openPage()
      const zipped = await page.evaluate(async (own) => {
        const { CompressionStream } = window
        let made = 0
        window.CompressionStream = class extends CompressionStream {
          constructor(format: string) {
            super(format)
            made++
          }
        }
        for (let nth = 0; nth < 200; nth++) window.chute(`${own}-${nth}`, { padding: 'x'.repeat(200) })
        // The client's part of this task is over.
        await Promise.resolve()
        const ofTask = made
        await new Promise((resolve) => setTimeout(resolve, 100))
        return [ofTask, made > 0]
      }, prefix)
      expect(zipped).toEqual([0, true])
      await expectOnce(prefix, 200)
    },
  )

  test.runIf(isLong)(
    'sends nothing for a session that is not sampled, or where Global Privacy Control is to be obeyed',
    async () => {
      const prefix = randomUUID()
      head = tag('data-sample="0"')
      const unsampled = await openPage()
      head = tag('data-respect="gpc"')
      const private_ = await context.newPage()
      await private_.addInitScript(() => {
        Object.defineProperty(navigator, 'globalPrivacyControl', { value: true })
      })
      await private_.goto(pages.origin)
      for (const page of [unsampled, private_]) {
        await page.evaluate(sendMany, [`${prefix}-no`, 3, 0] as const)
        await page.close()
      }
      head = tag('data-respect="gpc dnt" data-sample="1" data-storage="none"')
      const page = await openPage()
      await page.evaluate(sendMany, [`${prefix}-yes`, 3, 0] as const)
      await page.close()
      await expectOnce(`${prefix}-yes`, 3)
      expect(await landed(`${prefix}-no`)).toEqual([])
    },
  )
})

import { randomInt } from 'node:crypto'
import { expect, test } from 'vitest'
import { endpoint, FakePage, settled } from './fake-page.ts'

/** A page whose last `count` requests got no reply. `a` is the event that it could not send. */
async function failing(count: number, page = new FakePage()): Promise<FakePage> {
  await page.send('a')
  for (let nth = 0; nth < count; nth++) {
    await page.flush()
    await page.request.fail()
  }
  return page
}

/** A backlog of one event. */
const backlog = (name = 'kept', padding = ''): Record<string, string> => ({
  [endpoint]: JSON.stringify({ name, padding, id: `${randomInt(1e6)}-1` }),
})

test('a page that is left while the gateway is away gives its events to localStorage, and none to beacons', async () => {
  const page = await failing(2)
  await page.send('b')
  await page.leave()
  expect([page.beacons, page.kept]).toEqual([[], ['a', 'b']])
  const next = new FakePage({ storage: page.storage })
  await next.pass(4_000)
  expect(next.request.names).toEqual(['a', 'b'])
  await next.request.reply(202)
  expect([next.kept, next.requests.length]).toEqual([[], 1])
})

test('a page that is left after one failure, which may come of being left, sends its events as beacons', async () => {
  const page = await failing(1)
  await page.leave()
  expect([page.beacons, page.kept]).toEqual([[['a']], []])
})

test('what localStorage does not take goes as beacons, also while the gateway is away', async () => {
  const localStorage = new Proxy<Record<string, string>>(
    {},
    {
      set: () => {
        throw new Error('no room')
      },
    },
  )
  const page = await failing(2, new FakePage({ others: { localStorage } }))
  await page.leave()
  expect(page.beacons).toEqual([['a']])
})

test('a reply that went well ends the failures: then beacons have the first turn again', async () => {
  const page = await failing(3)
  await page.flush()
  await page.request.reply(202)
  await page.send('b')
  await page.leave()
  expect([page.beacons, page.kept]).toEqual([[['b']], []])
})

test('a page of a moment gives the backlog back that it has taken over, and hands none of it to beacons', async () => {
  const page = new FakePage({ storage: backlog() })
  await page.send('new')
  await page.pass(1_000)
  await page.leave()
  // The backlog is tried at once, for a reply that says how the gateway is. Until then nothing goes by beacon.
  expect([page.request.names, page.beacons, page.kept]).toEqual([['kept'], [], ['new']])
})

test('a page that is not online leaves the backlog in localStorage, and takes it over when it is', async () => {
  const page = new FakePage({ storage: backlog(), isOnline: false })
  await page.pass(10_000)
  expect([page.requests, page.kept]).toEqual([[], ['kept']])
  await page.goOnline()
  expect(page.kept).toEqual([])
  await page.pass(4_000)
  expect(page.request.names).toEqual(['kept'])
})

test('a backlog for which the page has no room stays in localStorage, and the events of the page are not less for it', async () => {
  const page = new FakePage()
  const padding = 'x'.repeat(15_000)
  for (let nth = 0; nth < 20; nth++) page.chute(`own-${nth}`, { padding })
  page.storage[endpoint] = Array.from(
    { length: 20 },
    (_, nth) => backlog(`kept-${nth}`, padding)[endpoint],
  ).join('\n')
  await page.show()
  expect(page.kept).toHaveLength(20)
  for (let nth = 20; nth < 30; nth++) page.chute(`own-${nth}`, { padding })
  expect(page.warnings).toEqual([])
})

test('a clock that steps back by a day does not stop the client', async () => {
  const page = new FakePage()
  await page.send('a')
  await page.flush()
  await page.request.reply(202)
  page.date.now -= 86_400_000
  await page.send('b')
  await page.pass(2_000)
  expect(page.request.names).toEqual(['b'])
})

test('a clock that steps ahead ends no wait that the gateway asked for, and the wait is one timer', async () => {
  const page = new FakePage()
  await page.send('a')
  await page.flush()
  await page.request.reply(503, { 'retry-after': '30' })
  page.date.now += 86_400_000
  await page.flush()
  await page.pass(29_990)
  expect(page.requests).toHaveLength(1)
  await page.pass(20)
  expect(page.requests).toHaveLength(2)
})

test('a wait of a month and more is a timer that a browser can set, and not one that ends at once and without end', async () => {
  const page = new FakePage()
  await page.send('a')
  await page.flush()
  await page.request.reply(503, { 'retry-after': '30000000' })
  await page.pass(60_000)
  expect(page.requests).toHaveLength(1)
  expect(page.delays.at(-1)).toBeGreaterThan(1e9)
})

test('a reply that never comes is given up after 90 s, and its events are sent again', async () => {
  const page = new FakePage()
  await page.send('a')
  await page.flush()
  await page.pass(89_000)
  expect(page.requests).toHaveLength(1)
  await page.pass(4_000)
  expect(page.requests.map(({ names }) => names)).toEqual([['a'], ['a']])
})

test('what is sent again shares no body with new events: neither as a beacon, nor in a request', async () => {
  const page = new FakePage()
  await page.send('a', 'b')
  await page.flush()
  await page.send('c')
  await page.request.reply(409)
  await page.send('d')
  const storage = { ...page.storage }
  await page.leave()
  expect(page.beacons).toEqual([
    ['a', 'b'],
    ['c', 'd'],
  ])
  const shown = new FakePage({ storage })
  await shown.send('a')
  await shown.flush()
  await shown.send('b')
  await shown.request.reply(409)
  await shown.flush()
  await shown.request.reply(202)
  await shown.flush()
  expect(shown.requests.map(({ names }) => names)).toEqual([['a'], ['a'], ['b']])
})

test('a page without beacons has one request under way at a time, and what waits meanwhile goes to localStorage', async () => {
  const page = new FakePage({ others: { navigator: { onLine: true } } })
  await page.send('a')
  await page.flush()
  await page.send('b')
  await page.leave()
  expect([page.requests.map(({ names }) => names), page.kept]).toEqual([[['a']], ['b']])
  await page.request.fail()
  expect(page.kept).toEqual(['b', 'a'])
})

test('events that are being compressed when the page is hidden go once, as a beacon, and the page goes on', async () => {
  let zip: (bytes: ArrayBuffer) => void
  const zipped = new Promise<ArrayBuffer>((resolve) => {
    zip = resolve
  })
  const Response = class {
    readonly body = { pipeThrough: () => null }
    readonly arrayBuffer = async (): Promise<ArrayBuffer> => await zipped
  }
  const page = new FakePage({ others: { Response, CompressionStream: EventTarget } })
  page.chute('a', { padding: 'x'.repeat(3_000) })
  await page.flush()
  await page.hide()
  expect(page.beacons).toEqual([['a']])
  await page.show()
  await page.send('b')
  await page.flush()
  zip!(new ArrayBuffer(8))
  await settled()
  expect(page.requests.map(({ names }) => names)).toEqual([['b']])
  await page.request.reply(202)
  expect(page.kept).toEqual([])
})

test('no call throws, whatever it is given', async () => {
  const page = new FakePage()
  for (const given of [undefined, null]) {
    page.chute.vital(given)
    page.chute.error(given)
  }
  page.chute.page()
  await page.leave()
  expect(page.beacons.flat()).toEqual(['error', 'error', 'page.view'])
})

test('a browser that is not to be asked keeps nothing and sends nothing, also when it is flushed', async () => {
  const currentScript = { src: 'https://in.example.com/chute.js', dataset: { respect: 'gpc' } }
  const page = new FakePage({
    others: { document: { hidden: false, currentScript }, navigator: { globalPrivacyControl: true } },
  })
  await page.send('a')
  await page.flush()
  expect([page.storage, page.requests, page.delays]).toEqual([{}, [], []])
})

test('on a server, where there is no page, each call does nothing', async () => {
  const module = new URL('../../../client/chute.ts', import.meta.url).href
  const { createChute } = (await import(module)) as {
    createChute: (options: object) => FakePage['chute']
  }
  const chute = createChute({ url: 'https://in.example.com/', errors: true, page: true })
  const uncaught: unknown[] = []
  const note = (error: unknown): void => void uncaught.push(error)
  process.once('uncaughtException', note)
  chute('a')
  chute.vital()
  chute.error()
  chute.flush()
  await settled()
  process.off('uncaughtException', note)
  expect(uncaught).toEqual([])
})

test('of the calls that a page has kept, those that the client does not know are left out, and the others are made', async () => {
  const kept = (call: string, ...given: unknown[]) => [call, given]
  const q = [kept('', 'a'), kept('track', 'b'), kept('name'), kept('page'), ['error'], kept('', 'c')]
  const page = new FakePage({ others: { chute: Object.assign(() => undefined, { q }) } })
  await page.flush()
  expect(page.requests.map(({ names }) => names)).toEqual([['a', 'page.view', 'c']])
})

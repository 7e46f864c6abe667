import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { launchChromium, servePage } from '../support/browser.ts'
import { readTopic } from '../support/independent-reader.ts'
import { parseExposition, valueOf } from '../support/parse-exposition.ts'
import {
  chuteArguments,
  chuteEnvironment,
  serveGateway,
  type ServedGateway,
} from '../support/served-gateway.ts'
import { isLong } from '../support/forms.ts'

// What a page has and Node has not; the functions below that use it run in Chromium.
declare const navigator: { sendBeacon(url: string, body: unknown): boolean }
declare const Image: new () => EventTarget & { src: string }

const folder = mkdtempSync(join(tmpdir(), 'chute-keys-'))
const topic = `keys-${process.pid}`
const broker = inject('kafkaBroker')
let browser: Browser
let pages: Awaited<ReturnType<typeof servePage>>
let gateway: ServedGateway
let key: Record<'web' | 'service' | 'ops', string>

/** Makes a key as an operator does. */
function newKey(...options: string[]): { key: string; entry: object } {
  const printed = execFileSync(process.execPath, [...chuteArguments, 'keys', 'new', ...options], {
    env: chuteEnvironment({}),
    encoding: 'utf8',
  })
  const lines = printed.slice(printed.indexOf('keys:'))
  return { key: /chk_\w+/.exec(printed)![0], entry: (parse(lines) as { keys: object }).keys }
}

beforeAll(async () => {
  pages = await servePage()
  const web = newKey('--name', 'web', '--public', '--stream', 'events', '--origin', pages.origin)
  const service = newKey('--name', 'service', '--secret', '--stream', '*')
  const ops = newKey('--name', 'ops', '--admin')
  key = { web: web.key, service: service.key, ops: ops.key }
  const [config, keys] = [join(folder, 'chute.yaml'), join(folder, 'keys.yaml')]
  writeFileSync(
    config,
    stringify({
      streams: { events: { topic, delivery: 'at-most-once' }, more: { topic, delivery: 'at-most-once' } },
    }),
  )
  writeFileSync(keys, stringify({ keys: { ...web.entry, ...service.entry, ...ops.entry } }))
  gateway = await serveGateway({
    KAFKA_BROKERS: broker,
    CHUTE_CONFIG: config,
    CHUTE_KEYS_FILE: keys,
    WORKERS: '2',
  })
  await gateway.ready()
  browser = await launchChromium()
})

afterAll(async () => {
  await browser?.close()
  pages?.close()
  gateway?.signal('SIGKILL')
  rmSync(folder, { recursive: true })
})

/** Sends every form of each key to each stream, in Chromium: the status and the code, as the page sees them; null where the browser lets it see nothing. */
async function tableOf(origin: string): Promise<Record<string, unknown>> {
  const page = await browser.newPage()
  await page.goto(origin)
  return await page.evaluate(
    async ([url, web, service]) => {
      const forms: [string, (value: string) => [query: string, headers: Record<string, string>]][] = [
        ['Bearer', (value) => ['', { authorization: `Bearer ${value}` }]],
        ['Basic', (value) => ['', { authorization: `Basic ${btoa(`${value}:`)}` }]],
        ['Token', (value) => ['', { authorization: `Token ${value}` }]],
        ['X-Chute-Key', (value) => ['', { 'x-chute-key': value }]],
        ['query', (value) => [`?key=${value}`, {}]],
      ]
      const seen: Record<string, (readonly [number, string | null] | null)[]> = {}
      for (const [name, value] of Object.entries({ web, service, nobody: 'chk_pub_guess' })) {
        for (const stream of ['events', 'more']) {
          seen[`${name} to ${stream}`] = await Promise.all(
            forms.map(async ([, form]) => {
              const [query, headers] = form(value)
              const body = '{"name":"table","value":1}'
              try {
                const reply = await fetch(`${url}/v1/streams/${stream}${query}`, {
                  method: 'POST',
                  headers,
                  body,
                })
                const { code = null } = (await reply.json()) as { code?: string }
                return [reply.status, code] as const
              } catch {
                return null
              }
            }),
          )
        }
      }
      return seen
    },
    [gateway.url, key.web, key.service] as const,
  )
}

test('a page of the key writes by fetch, beacon and image; another page and a guess write nothing; operators see which key it was', async () => {
  const page = await browser.newPage()
  await page.goto(pages.origin)
  /** By fetch with a header, which needs a preflight. @returns what the page can read. */
  const fetchFrom = async (from: typeof page, value: string | null, name: string) =>
    await from.evaluate(
      async ([url, sent, event]) => {
        const headers: Record<string, string> = sent === null ? {} : { authorization: `Bearer ${sent}` }
        const reply = await fetch(url, {
          method: 'POST',
          headers,
          body: JSON.stringify({ name: event, value: 1 }),
        })
        const { code = null } = (await reply.json()) as { code?: string }
        return [reply.status, code, reply.headers.get('www-authenticate') !== null]
      },
      [`${gateway.url}/v1/streams/events`, value, name] as const,
    )
  expect(await fetchFrom(page, key.web, 'by fetch')).toEqual([202, null, false])
  expect(await fetchFrom(page, null, 'without a key')).toEqual([401, 'key_missing', true])
  expect(await fetchFrom(page, `${key.web}x`, 'with a guess')).toEqual([401, 'key_unknown', true])
  expect(await fetchFrom(page, key.service, 'with a key that has no such page')).toEqual([
    403,
    'key_not_allowed',
    false,
  ])

  /** Sends a beacon and an image, and waits for both replies. */
  const sendFrom = async (from: typeof page, name: string) => {
    const beacon = from.waitForResponse((reply) => reply.url().includes('/v1/beacon/events?'))
    await from.evaluate(
      async ([base, value, event]) => {
        navigator.sendBeacon(`${base}?key=${value}`, JSON.stringify({ name: `${event} by beacon`, value: 1 }))
        await new Promise<void>((resolve) => {
          const image = new Image()
          for (const type of ['load', 'error']) image.addEventListener(type, () => resolve())
          image.src = `${base}.gif?name=${event}%20by%20image&value=1&key=${value}`
        })
      },
      [`${gateway.url}/v1/beacon/events`, key.web, name] as const,
    )
    return (await beacon).status()
  }
  expect(await sendFrom(page, 'page')).toBe(202)
  const stranger = await browser.newPage()
  await stranger.goto(pages.origin.replace('127.0.0.1', 'localhost'))
  expect(await sendFrom(stranger, 'stranger')).toBe(403)

  const metrics = async (authorization: string) =>
    await fetch(`${gateway.url}/metrics`, { headers: { authorization } })
  expect((await metrics(`Bearer ${key.web}`)).status).toBe(403)
  const families = parseExposition(await (await metrics(`Bearer ${key.ops}`)).text(), 'prometheus')
  expect(valueOf(families, 'chute_open', {})).toBe(0)
  const requests = (name: string, result: string) =>
    valueOf(families, 'chute_key_requests_total', { key: name, result })
  // An image sends no Origin: nobody knows whose page it is.
  expect([requests('web', 'accepted'), requests('service', 'refused')]).toEqual([4, 1])
  expect(valueOf(families, 'chute_key_events_total', { key: 'web' })).toBe(4)

  const all = (status: number, code: string | null) => Array.from({ length: 5 }, () => [status, code])
  const blocked = Array.from({ length: 5 }, () => null)
  expect(await tableOf(pages.origin)).toEqual({
    'web to events': all(202, null),
    'web to more': all(403, 'key_not_allowed'),
    // The page is one of another key.
    'service to events': all(403, 'key_not_allowed'),
    'service to more': all(403, 'key_not_allowed'),
    'nobody to events': all(401, 'key_unknown'),
    'nobody to more': all(401, 'key_unknown'),
  })
  const strangers = await tableOf(pages.origin.replace('127.0.0.1', 'localhost'))
  expect(Object.keys(strangers)).toHaveLength(6)
  for (const row of Object.values(strangers)) expect(row).toEqual(blocked)

  gateway.signal('SIGTERM')
  expect(await gateway.ended()).toBe(0)
  const names = (await readTopic(broker, topic)).map(
    ({ value }) => (JSON.parse(value.toString()) as { name: string }).name,
  )
  expect(names.filter((name) => name !== 'table').toSorted()).toEqual([
    'by fetch',
    'page by beacon',
    'page by image',
    'stranger by image',
  ])
  expect(names).toHaveLength(4 + 5)
  const values = (await readTopic(broker, topic)).map(({ value }) => value.toString()).join('')
  const told = JSON.stringify(gateway.lines) + values
  for (const secret of Object.values(key)) expect(told).not.toContain(secret)
})

test.runIf(isLong)('a gateway on every address of the machine does not start without keys', async () => {
  const start = () =>
    execFileSync(process.execPath, [...chuteArguments, 'serve'], {
      env: chuteEnvironment({ KAFKA_BROKERS: broker, HOST: '0.0.0.0', PORT: '0' }),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  expect(start).toThrow(/chute keys new[^]*CHUTE_OPEN=true/)
})

test('chute keys new tells of a key that has the name already', () => {
  const file = join(folder, 'names.yaml')
  writeFileSync(file, stringify({ keys: newKey('--name', 'web', '--secret', '--stream', 'events').entry }))
  const told = (name: string): string =>
    spawnSync(process.execPath, [...chuteArguments, 'keys', 'new', '--name', name, '--admin'], {
      env: chuteEnvironment({ CHUTE_KEYS_FILE: file }),
      encoding: 'utf8',
    }).stderr
  expect(told('web')).toContain('There is a key web already')
  expect(told('ops')).toBe('')
})

import { randomUUID } from 'node:crypto'
import type { Page } from 'playwright-core'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { ClientReport } from '../../src/kafka/audit/session-book.ts'
import { launchChromium, servePage } from '../support/browser.ts'
import { startReader } from '../support/consume-process.ts'
import { startGatewayWith, testConfig } from '../support/gateway.ts'
import { readTopic } from '../support/independent-reader.ts'
import { until } from '../support/numbered-records.ts'
import { parseExposition } from '../support/parse-exposition.ts'
import { streamConfig } from '../support/producer-fixture.ts'
import { isLong } from '../support/forms.ts'

// What a page has and Node has not; the function below that uses it runs in Chromium.
declare const window: { chute: { (name: string): void; flush(): void } }

const broker = inject('kafkaBroker')

const send = async (page: Page, count: number): Promise<void> =>
  await page.evaluate((most) => {
    for (let nth = 0; nth < most; nth++) window.chute('clicked')
    window.chute.flush()
  }, count)

test.runIf(isLong)(
  'of a blocked batch, a killed tab and an offline page, the audit of clients finds the true losses, with metrics',
  async () => {
    const topic = `audit-clients-${randomUUID()}`
    let head = ''
    const pages = await servePage(() => head)
    onTestFinished(() => pages.close())
    const web = {
      ...streamConfig(topic, 'at-most-once'),
      name: 'web',
      schema: 'page',
      key: '/session',
      headers: { userAgent: 'header:user-agent' },
    } as const
    const gateway = await startGatewayWith(
      testConfig({ brokers: [broker], streams: [web], http: { corsOrigins: [pages.origin] } }),
    )
    onTestFinished(async () => void (await gateway.stop()))
    head = `<script src="${gateway.url}/chute.js"></script>`
    const browser = await launchChromium()
    onTestFinished(async () => await browser.close())
    const context = await browser.newContext()
    const visit = async (): Promise<Page> => {
      const page = await context.newPage()
      await page.goto(pages.origin)
      return page
    }
    const landed = async (count: number): Promise<void> =>
      await until(async () => (await readTopic(broker, topic)).length === count)

    const calm = await visit()
    await send(calm, 5)
    await calm.close()
    await landed(5)

    // Something between the page and the gateway takes a batch, and says that it is well.
    const blocked = await visit()
    await send(blocked, 3)
    await landed(8)
    await blocked.route(`${gateway.url}/v1/beacon/**`, async (route) => {
      await route.fulfill({ status: 202, headers: { 'access-control-allow-origin': pages.origin } })
    })
    const swallowed = blocked.waitForResponse(`${gateway.url}/v1/beacon/**`)
    await send(blocked, 4)
    await swallowed
    await blocked.unrouteAll()
    await send(blocked, 2)
    await blocked.close()
    await landed(10)

    const killed = await visit()
    await send(killed, 2)
    await landed(12)
    await context.setOffline(true)
    await send(killed, 3)
    const crashed = killed.waitForEvent('crash')
    const devtools = await context.newCDPSession(killed)
    void devtools.send('Page.crash').catch(() => {})
    await crashed
    await killed.close()
    await context.setOffline(false)

    // What is offline when it ends has its events kept for the next visit.
    const offline = await visit()
    await context.setOffline(true)
    await send(offline, 3)
    await offline.close()
    await context.setOffline(false)

    const last = await visit()
    await send(last, 1)
    await last.close()
    await landed(16)

    const args = ['--session-gap', '500ms', '--follow', '--metrics-port', '0', '--json', '-']
    const reader = startReader(['audit', '--clients', '--topic', topic, ...args], { KAFKA_BROKERS: broker })
    onTestFinished(() => reader.signal('SIGKILL'))
    const { metricsUrl } = (await reader.logged('auditing')) as { readonly metricsUrl?: string }
    const valueOf = async (name: string): Promise<number | undefined> => {
      const families = parseExposition(await (await fetch(metricsUrl!)).text(), 'prometheus')
      return families.get(name)?.samples.find(({ labels }) => labels['browser'] === 'Chrome')?.value
    }
    await until(async () => (await valueOf('chute_audit_client_missing_events')) === 4)
    await until(async () => (await valueOf('chute_audit_client_missing_at_end_events')) === 3)
    reader.signal('SIGTERM')
    expect(await reader.ended()).toBe(0)
    const report = JSON.parse(reader.output.join('\n')) as ClientReport
    const truth = { sessions: 5, endsTold: 4, seen: 16, missing: 4, missingAtEnd: 3, duplicated: 0, open: 0 }
    expect(report).toMatchObject({ records: 16, unmarked: 0, untraced: 0, totals: truth })
    expect(report.byBrowser).toMatchObject([{ name: 'Chrome', ...truth }])
    expect(report.byKey).toMatchObject([{ name: 'none', ...truth }])
  },
)

import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { operations } from '../../dev/openapi-operations.ts'
import { registerApiDocs } from '../../src/routes/admin/api-docs.ts'
import { launchChromium } from '../support/browser.ts'
import { buildEdge, type Edge } from '../support/edge.ts'
import { isLong } from '../support/forms.ts'

let browser: Browser
let edge: Edge
let url: string
let page: Page
/** What the page asked for, and what the browser complained about: breaches of the policy too. */
let asked: string[]
let complaints: string[]

beforeAll(async () => {
  browser = await launchChromium()
})

afterAll(async () => {
  await browser?.close()
})

beforeEach(async () => {
  edge = buildEdge({}, undefined, { admin: registerApiDocs })
  url = await edge.app.listen({ host: '127.0.0.1', port: 0 })
  page = await browser.newPage({ colorScheme: 'dark', viewport: { width: 375, height: 800 } })
  asked = []
  complaints = []
  page.on('request', (request) => {
    if (!request.url().startsWith('data:')) asked.push(request.url())
  })
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => complaints.push(message.text()))
})

afterEach(async () => {
  await page.close()
  await edge.app.close()
})

test.runIf(isLong)(
  'shows each operation, on a phone, in the dark, and asks nobody but the gateway',
  async () => {
    await page.goto(`${url}/docs`)
    const shown = page.locator('.opblock-summary')
    await shown.first().waitFor()
    const texts = (await shown.allTextContents()).map((text) => text.replaceAll('\u200B', ''))
    for (const { method, path, summary } of operations) {
      expect(texts).toContainEqual(expect.stringContaining(`${method}${path}`))
      expect(texts).toContainEqual(expect.stringContaining(summary))
    }
    expect(asked).toEqual([`${url}/docs`, `${url}/openapi.json`])
    expect(complaints).toEqual([])
    const seen = await page.evaluate(`({
    overflow: document.documentElement.scrollWidth - innerWidth,
    background: getComputedStyle(document.querySelector('.swagger-ui')).backgroundColor,
  })`)
    expect(seen).toEqual({ overflow: 0, background: 'rgb(28, 32, 34)' })
  },
)

test.runIf(isLong)('sends what is filled in, and shows the reply', async () => {
  await page.goto(`${url}/docs`)
  const operation = page.locator('#operations-events-sendEvents')
  await operation.locator('button.opblock-summary-control').click()
  await operation.locator('button.execute').click()
  await operation.getByText('"accepted": 1').waitFor()
  expect(edge.producer.records).toHaveLength(1)
  expect(await operation.locator('.curl-command').textContent()).toContain(
    `${url}/v1/streams/metrics-realtime`,
  )
  expect(complaints).toEqual([])
})

test.runIf(isLong)('the type of a problem leads to its row', async () => {
  const problem = await edge.app.inject({ method: 'POST', url: '/v1/streams/nobody', payload: '1' })
  await page.goto(url + problem.json<{ type: string }>().type)
  const row = page.locator('tr:target')
  await row.waitFor()
  expect(await row.textContent()).toContain('unknown_stream')
  await page.waitForFunction(`(() => {
    const { top } = document.querySelector('tr:target').getBoundingClientRect()
    return top > -10 && top < innerHeight
  })()`)
})

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { expect, inject, test } from 'vitest'
import { launchChromium } from '../support/browser.ts'
import { isLong } from '../support/forms.ts'

/** Runs an example as its README says, on the shared broker. @returns its exit code and what it printed. */
async function runExample(
  name: string,
  ...flags: string[]
): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', `examples/${name}/run.ts`, ...flags], {
    env: { ...process.env, KAFKA_BROKERS: inject('kafkaBroker'), PORT: '18080' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')])
  return { code: code as number | null, output }
}

test.runIf(isLong)('gaming: kills and chat are all there, and nothing is there twice', async () => {
  const { code, output } = await runExample('gaming', '--calm')
  expect(output).toContain('Each stream kept its promise')
  expect(output).toMatch(/^kills +at-least-once +10 +10 +0 +0 +0$/m)
  expect(code).toBe(0)
})

test.runIf(isLong)(
  'logs: every line that was confirmed lands once, in fewer bytes than were sent',
  async () => {
    const { code, output } = await runExample('logs', '--file', 'package-lock.json')
    const times = Number(/, (\S+) times less/.exec(output)?.[1])
    expect(times).toBeGreaterThan(1)
    expect(code).toBe(0)
  },
)

test.runIf(isLong)('web: what a visitor does in the page comes out of Kafka', async () => {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/web/run.ts', '--once'], {
    env: { ...process.env, KAFKA_BROKERS: inject('kafkaBroker'), PORT: '18080', PAGE_PORT: '18090' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const browser = await launchChromium()
  const exit = once(child, 'exit')
  const lines: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line)
    const [, url] = /^Open (\S+) and click/.exec(line) ?? []
    if (url === undefined) continue
    const page = await browser.newPage()
    await page.goto(url)
    await page.click('#buy')
    await page.selectOption('[name=plan]', 'pro')
    await page.click('#order button')
    await page.click('#fail')
    await page.click('#refused')
    await page.close()
  }
  await browser.close()
  expect((await exit)[0]).toBe(0)
  const printed = lines.filter((line) => / example-web/.test(line)).map((line) => line.slice(14))
  const withText = (part: string) => printed.filter((line) => line.includes(part))
  expect(withText('ordered')).toEqual([expect.stringContaining('"properties":{"plan":"pro","seats":"3"}')])
  expect(withText('error')).toEqual([expect.stringContaining('"message":"this is on purpose"')])
  expect(withText('csp-report')).toEqual([expect.stringContaining('"blocked":"https://other.example/a.png"')])
})

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { startKafka } from '../src/local-kafka/local-kafka.ts'
import { launchChromium, servePage } from '../test/support/browser.ts'
import { startGatewayProcess } from './gateway-process.ts'

// What a page has and Node has not; the function below runs in Chromium.
declare const document: { createElement(name: 'canvas'): Canvas }
declare const Image: new () => { src: string; width: number; height: number; decode(): Promise<void> }

/**
 * Makes `docs/plots/live-page.webp`, the picture of the README: `npx tsx dev/live-page-picture.ts`. A local Kafka, the real `chute serve`, a page
 * of a shop that sends events, good ones and wrong ones, and the live page in Chromium.
 */
const picture = new URL('../docs/plots/live-page.webp', import.meta.url).pathname
const seconds = 20

interface Canvas {
  width: number
  height: number
  getContext(kind: '2d'): { drawImage(image: object, x: number, y: number): void }
  toDataURL(type: string, quality: number): string
}

/** Takes a picture as PNG, and gives it as WebP, which has a third of the size. Both are base64. */
async function toWebp(png: string): Promise<string> {
  const image = new Image()
  image.src = `data:image/png;base64,${png}`
  await image.decode()
  const canvas = document.createElement('canvas')
  canvas.width = image.width
  canvas.height = image.height
  canvas.getContext('2d').drawImage(image, 0, 0)
  return canvas.toDataURL('image/webp', 0.8).split(',', 2)[1]!
}

const folder = mkdtempSync(join(tmpdir(), 'chute-picture-'))
const config = join(folder, 'chute.yaml')
writeFileSync(
  config,
  `streams:
  web: { topic: web, delivery: at-most-once, schema: page, dedupe: on }
  metrics-realtime: { topic: metrics-realtime, delivery: at-most-once }
`,
)
const say = (text: string): void => void process.stdout.write(`${text}\n`)
const kafka = await startKafka({ onProgress: say })
const pages = await servePage()
const gateway = startGatewayProcess({
  port: 8099,
  broker: kafka.brokers[0]!,
  env: { CHUTE_CONFIG: config, CORS_ORIGINS: pages.origin, MAX_BODY_BYTES: '100000' },
  say,
})
const browser = await launchChromium()
try {
  await gateway.untilReady()
  const live = await browser.newPage({ viewport: { width: 1100, height: 885 }, colorScheme: 'light' })
  await live.goto(gateway.url)
  const shop = await browser.newPage()
  await shop.goto(`${pages.origin}/cart`)
  const stranger = await browser.newPage()
  await stranger.goto(pages.origin.replace('127.0.0.1', 'localhost'))
  const send = async (from: typeof shop, stream: string, events: unknown): Promise<void> =>
    await from.evaluate(
      async ([url, body]) => void (await fetch(url, { method: 'POST', body, mode: 'no-cors' })),
      [`${gateway.url}/v1/beacon/${stream}`, JSON.stringify(events)] as const,
    )
  for (let second = 0; second < seconds; second++) {
    const readings = Array.from({ length: 300 + Math.round(200 * Math.sin(second / 3)) }, (_, nth) => ({
      name: 'room.temp',
      value: 20 + (nth % 9) / 2,
      source: `device-${nth % 50}`,
    }))
    await send(shop, 'metrics-realtime', readings)
    const session = 'k3v9x2'
    await send(shop, 'web', {
      name: 'page.view',
      session,
      id: `${session}-${second}`,
      url: '/cart',
      title: 'Your cart',
    })
    if (second === seconds - 5)
      await send(stranger, 'web', { name: 'page.view', session: 'p7d1', url: '/cart' })
    if (second === seconds - 3)
      await send(shop, 'metrics-realtime', { name: 'CLS', value: null, source: session })
    await pause(1_000)
  }
  const png = (await live.screenshot()).toString('base64')
  writeFileSync(picture, Buffer.from(await shop.evaluate(toWebp, png), 'base64'))
  say(`wrote ${picture}`)
} finally {
  await browser.close()
  pages.close()
  await gateway.stop()
  await kafka.stop()
  rmSync(folder, { recursive: true })
}

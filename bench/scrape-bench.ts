import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { say } from './rounds.ts'
import { startChute } from './server-process.ts'
import { hundredsOfStreams, streamsFile } from './streams.ts'

/** What a look at a gateway of many streams costs everybody else. */
export interface ScrapeRow {
  readonly path: string
  readonly encoding: 'gzip' | 'identity'
  readonly streams: number
  /** Of the last reply's body, as it was sent. */
  readonly sizeBytes: number
  readonly medianMs: number
  /** Longest pause of the event loop for work of our own. */
  readonly ownMaxMs: number
}

/** Scrapes and polls, one after the other, of a gateway with hundreds of streams that has nothing else to do. */
export async function benchScrape(
  kafka: LocalKafka,
  options: { scrapes: number },
): Promise<{ rows: ScrapeRow[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  const env = { CHUTE_CONFIG: streamsFile(folder, hundredsOfStreams, 'bench-scrape') }
  const chute = await startChute(kafka.brokers[0]!, env, { probe: true })
  try {
    const rows: ScrapeRow[] = []
    for (const path of ['/metrics', '/live.json']) {
      for (const encoding of ['identity', 'gzip'] as const) {
        // The first ones compile what the others use.
        for (let nth = 0; nth < 3; nth++) await get(`${chute.url}${path}`, encoding)
        await chute.readProbe()
        const tookMs: number[] = []
        let sizeBytes = 0
        for (let nth = 0; nth < options.scrapes; nth++) {
          const sinceMs = performance.now()
          sizeBytes = await get(`${chute.url}${path}`, encoding)
          tookMs.push(performance.now() - sinceMs)
        }
        const { ownMaxMs } = await chute.readProbe()
        const medianMs = tookMs.toSorted((one, other) => one - other)[Math.floor(tookMs.length / 2)]!
        rows.push({ path, encoding, streams: hundredsOfStreams.length, sizeBytes, medianMs, ownMaxMs })
        say(
          `${path} ${encoding}: ${sizeBytes} bytes in ${medianMs.toFixed(0)} ms, longest pause ${ownMaxMs.toFixed(1)} ms`,
        )
      }
    }
    return { rows }
  } finally {
    await chute.stop()
    rmSync(folder, { recursive: true })
  }
}

/** @returns the size of the body as it was sent: `fetch` would inflate it. */
async function get(url: string, encoding: string): Promise<number> {
  return await new Promise((resolve, reject) => {
    const sent = request(url, { headers: { 'accept-encoding': encoding } }, (reply) => {
      let sizeBytes = 0
      reply.on('data', (chunk: Buffer) => (sizeBytes += chunk.length))
      reply.once('end', () => resolve(sizeBytes))
    })
    sent.once('error', reject)
    sent.end()
  })
}

import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { failuresOf, openLoop } from '../../../bench/open-loop.ts'

test(
  'a request that waits for a stalled server counts from when it was due',
  { timeout: 60_000 },
  async () => {
    const stallMs = 500
    const held: ServerResponse[] = []
    let firstAtMs: number | null = null
    const release = (): void => {
      for (const response of held.splice(0)) response.writeHead(202).end('ok')
    }
    const server = createServer((request, response) => {
      request.resume().on('end', () => {
        if (firstAtMs === null) {
          firstAtMs = performance.now()
          setTimeout(release, stallMs)
        }
        held.push(response)
        if (performance.now() - firstAtMs > stallMs) release()
      })
    }).listen(0, '127.0.0.1')
    onTestFinished(() => {
      server.close()
    })
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo

    const result = await openLoop({
      url: `http://127.0.0.1:${port}/`,
      contentType: 'application/json',
      body: '{}',
      ratePerSecond: 100,
      seconds: 1,
      connections: 2,
    })

    // A closed loop would have had two slow requests of about fifty.
    expect(result).toMatchObject({ sent: 100, unanswered: 0, statuses: { 202: 100 } })
    expect(failuresOf(result)).toBe(0)
    expect(result.p90Ms).toBeGreaterThan(300)
    expect(result.maxMs).toBeGreaterThanOrEqual(result.p90Ms)
  },
)

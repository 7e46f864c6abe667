import { readFileSync } from 'node:fs'
import autocannon from 'autocannon'

/** Runs autocannon in this process with the options from its standard input (JSON), and writes a `LoadResult` (load.ts). */
const { requests, ...options } = JSON.parse(readFileSync(0, 'utf8'))
const result = await autocannon({
  ...options,
  idReplacement: requests.some(({ body }) => body.includes('[<id>]')),
  requests: requests.map(({ path, contentType, body, headers }) => ({
    method: 'POST',
    path,
    body,
    headers: { 'content-type': contentType, ...headers },
  })),
})
process.stdout.write(
  JSON.stringify({
    requests: result.requests.total,
    requestsPerSecond: result.requests.average,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    failed: result.non2xx + result.errors,
  }),
)

import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** What one run of load did. */
export interface LoadResult {
  readonly requests: number
  readonly requestsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Replies that were not 2xx, and socket errors. */
  readonly failed: number
}

/** A request that is sent over and over. */
export interface LoadRequest {
  readonly contentType: string
  /** Each `[<id>]` in it becomes another text in each request. */
  readonly body: string
}

/** The tool that makes the load, in a process of its own: wrk where it is installed, else autocannon. */
export const loadTool = spawnSync('wrk', ['-v']).error === undefined ? 'wrk' : 'autocannon'

/** Closed loop: 64 connections, each with one request at a time, for `seconds`. */
export async function load(url: string, request: LoadRequest, seconds: number): Promise<LoadResult> {
  return loadTool === 'wrk'
    ? await loadByWrk(url, request, seconds)
    : await loadByAutocannon(url, request, seconds)
}

async function loadByWrk(
  url: string,
  { contentType, body }: LoadRequest,
  seconds: number,
): Promise<LoadResult> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  try {
    const script = join(folder, 'post.lua')
    writeFileSync(
      script,
      `wrk.method = "POST"
wrk.headers["Content-Type"] = "${contentType}"
wrk.body = [==[${body}]==]
local count = 0
math.randomseed(os.time())
local run = math.random(1e9)
if string.find(wrk.body, "[<id>]", 1, true) then
  local body = wrk.body
  request = function()
    count = count + 1
    return wrk.format(nil, nil, nil, (string.gsub(body, "%[<id>%]", run .. "-" .. count)))
  end
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
`,
    )
    const { stdout } = await run('wrk', ['-t1', '-c64', `-d${seconds}s`, '-s', script, url])
    const numbers = /RESULT (\S+) (\S+) (\S+) (\S+) (\S+)/.exec(stdout)?.slice(1).map(Number)
    if (numbers === undefined) throw new Error(`wrk printed no result: ${stdout}`)
    const [requests, durationMicros, p50Micros, p99Micros, failed] = numbers as [
      number,
      number,
      number,
      number,
      number,
    ]
    return {
      requests,
      requestsPerSecond: requests / (durationMicros / 1e6),
      p50Ms: p50Micros / 1000,
      p99Ms: p99Micros / 1000,
      failed,
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function loadByAutocannon(
  url: string,
  { contentType, body }: LoadRequest,
  seconds: number,
): Promise<LoadResult> {
  const args = [
    'autocannon',
    '-j',
    '-c',
    '64',
    '-d',
    String(seconds),
    '-m',
    'POST',
    '-H',
    `Content-Type: ${contentType}`,
  ]
  if (body.includes('[<id>]')) args.push('-I')
  const { stdout } = await run('npx', [...args, '-b', body, url], { maxBuffer: 1 << 24 })
  const result = JSON.parse(stdout) as {
    requests: { total: number; average: number }
    latency: { p50: number; p99: number }
    non2xx: number
    errors: number
  }
  return {
    requests: result.requests.total,
    requestsPerSecond: result.requests.average,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    failed: result.non2xx + result.errors,
  }
}

const run = promisify(execFile)

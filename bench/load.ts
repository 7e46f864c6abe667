import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
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
  /** Each `[<id>]` in it becomes another text in each request of {@link load}. */
  readonly body: string
  readonly headers?: Readonly<Record<string, string>>
}

/** A request and where it goes. */
export interface AddressedRequest extends LoadRequest {
  readonly path: string
}

/** The tool that makes the load, in a process of its own: wrk where it is installed, else autocannon. */
export const loadTool = spawnSync('wrk', ['-v']).error === undefined ? 'wrk' : 'autocannon'

/** Connections of a closed loop, unless a bench is about them. */
export const usualConnections = 64

/** Closed loop: 64 connections, each with one request at a time, for `seconds`. */
export async function load(url: string, request: LoadRequest, seconds: number): Promise<LoadResult> {
  const { origin, pathname } = new URL(url)
  return await loadMany(origin, [{ ...request, path: pathname }], seconds)
}

/** As {@link load}, with several requests in turn. */
export async function loadMany(
  origin: string,
  requests: readonly AddressedRequest[],
  seconds: number,
  connections = usualConnections,
): Promise<LoadResult> {
  return loadTool === 'wrk'
    ? await loadByWrk(origin, requests, seconds, connections)
    : await loadByAutocannon({ url: origin, connections, duration: seconds, requests })
}

async function loadByWrk(
  origin: string,
  requests: readonly AddressedRequest[],
  seconds: number,
  connections: number,
): Promise<LoadResult> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
  try {
    const script = join(folder, 'post.lua')
    writeFileSync(script, wrkScript(requests))
    // A connection is a file, and a shell's usual limit is 1,024.
    const command = `ulimit -n $(ulimit -Hn) && exec wrk "$@"`
    const args = `-t1 -c${connections} -d${seconds}s --timeout 10s -s`.split(' ')
    const { stdout } = await run('sh', ['-c', command, 'sh', ...args, script, origin])
    const numbers = /RESULT (\S+) (\S+) (\S+) (\S+) (\S+)/.exec(stdout)?.slice(1).map(Number)
    if (numbers === undefined) throw new Error(`wrk printed no result: ${stdout}`)
    const [count = 0, durationMicros = 0, p50Micros = 0, p99Micros = 0, failed = 0] = numbers
    return {
      requests: count,
      requestsPerSecond: count / (durationMicros / 1e6),
      p50Ms: p50Micros / 1000,
      p99Ms: p99Micros / 1000,
      failed,
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function wrkScript(requests: readonly AddressedRequest[]): string {
  return `${requests.length === 1 ? oneRequest(requests[0]!) : requestsInTurn(requests)}
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
`
}

/** No Lua runs a request: wrk is at its fastest. */
function oneRequest({ path, contentType, body, headers = {} }: AddressedRequest): string {
  const more = Object.entries(headers).map(([name, value]) => `wrk.headers["${name}"] = "${value}"\n`)
  return `${more.join('')}wrk.method = "POST"
wrk.path = "${path}"
wrk.headers["Content-Type"] = "${contentType}"
wrk.body = [==[${body}]==]${body.includes('[<id>]') ? freshIds : ''}`
}

const freshIds = `
math.randomseed(os.time())
local run = math.random(1e9)
local count = 0
local body = wrk.body
request = function()
  count = count + 1
  return wrk.format(nil, nil, nil, (string.gsub(body, "%[<id>%]", run .. "-" .. count)))
end`

function requestsInTurn(requests: readonly AddressedRequest[]): string {
  const formatted = requests.map(
    ({ path, contentType, body }) =>
      `    wrk.format("POST", "${path}", { ["Content-Type"] = "${contentType}" }, [==[${body}]==]),\n`,
  )
  return `local requests
local nth = 0
init = function()
  requests = {
${formatted.join('')}  }
end
request = function()
  nth = nth % #requests + 1
  return requests[nth]
end`
}

async function loadByAutocannon(options: object): Promise<LoadResult> {
  const client = fileURLToPath(new URL('autocannon-client.mjs', import.meta.url))
  return JSON.parse(await runWith([client], JSON.stringify(options))) as LoadResult
}

/** Runs `node args…` with a text on its standard input, which holds what no argument does. @returns its output. */
export async function runWith(args: readonly string[], input: string): Promise<string> {
  const running = run(process.execPath, args)
  running.child.stdin?.end(input)
  return (await running).stdout
}

const run = promisify(execFile)

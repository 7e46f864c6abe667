import { setTimeout as sleep } from 'node:timers/promises'

/** What was forwarded. */
export interface Forwarded {
  /** Lines that were answered with 202. */
  readonly lines: number
  /** Bytes of their events. */
  readonly bytes: number
  readonly seconds: number
}

/**
 * Sends lines as events `{"n", "line"}`, about 400 kB a request, one request at a time, from their start again until at least
 * `enoughBytes` were sent. A refused request (429, 503) has accepted nothing, and is sent again after `Retry-After`.
 */
export async function forward(
  url: string,
  lines: readonly string[],
  enoughBytes: number,
): Promise<Forwarded> {
  const startedAtMs = performance.now()
  let [count, bytes, chunkBytes] = [0, 0, 0]
  let chunk: string[] = []
  const flush = async (): Promise<void> => {
    if (chunk.length > 0) await post(url, chunk.join('\n'))
    chunk = []
    chunkBytes = 0
  }
  while (bytes < enoughBytes) {
    for (const line of lines) {
      const event = JSON.stringify({ n: count++, line })
      chunk.push(event)
      bytes += Buffer.byteLength(event)
      chunkBytes += Buffer.byteLength(event)
      if (chunkBytes > requestBytes) await flush()
    }
  }
  await flush()
  return { lines: count, bytes, seconds: (performance.now() - startedAtMs) / 1000 }
}

async function post(url: string, body: string): Promise<void> {
  for (;;) {
    const reply = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson', prefer: 'return=minimal, handling=strict' },
      body,
    })
    const text = await reply.text()
    if (reply.status === 202) return
    if (reply.status !== 429 && reply.status !== 503) throw new Error(`${reply.status}: ${text}`)
    await sleep(1000 * Number(reply.headers.get('retry-after') ?? 1))
  }
}

/** Well below MAX_BODY_BYTES, which is 1 MiB unless it is set. */
const requestBytes = 400_000

import type { ConsumedRecord } from '../kafka/consumer/consumer.ts'
import { ndjsonLine } from './ndjson.ts'
import type { Sink } from './sink.ts'

/**
 * Posts each poll as one `application/x-ndjson` request. The whole poll fails if the answer is not 2xx, or does not come within
 * `timeoutMs`: nobody knows then which records the endpoint has taken.
 */
export function httpSink(url: string, { timeoutMs }: { timeoutMs: number }): Sink {
  return {
    process: async (records, { signal }) => {
      const abort = new AbortController()
      const onAbort = (): void => abort.abort(new Error('the time to stop is up'))
      const onLimit = (): void => abort.abort(new Error(`no answer within ${timeoutMs} ms`))
      const timer = setTimeout(onLimit, timeoutMs)
      signal.addEventListener('abort', onAbort)
      if (signal.aborted) onAbort()
      try {
        await post(url, records, abort.signal)
      } finally {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
      }
    },
    ended: new Promise(() => {}),
    async close() {},
  }
}

async function post(url: string, records: readonly ConsumedRecord[], signal: AbortSignal): Promise<void> {
  let reply: Response
  try {
    reply = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: records.map(ndjsonLine).join(''),
      redirect: 'error',
      signal,
    })
    // The body is read to its end, so that the connection can be used again.
    await reply.arrayBuffer()
  } catch (error) {
    if (signal.aborted) throw signal.reason
    // The message of fetch is "fetch failed" in every case. Its cause has the reason.
    const { cause, message } = error as Error
    throw new Error(cause instanceof Error ? `${message}: ${cause.message}` : message, { cause: error })
  }
  if (!reply.ok) throw new Error(`the endpoint answered ${reply.status}`)
}

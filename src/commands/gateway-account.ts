import type { StreamAccount } from '../kafka/audit/compare-account.ts'

/** The streams' accounts as a gateway tells them. @throws Error that says what could not be had. */
export async function fetchAccount(gateway: string): Promise<readonly StreamAccount[]> {
  const url = new URL('/live.json', gateway)
  let reply: Response
  try {
    reply = await fetch(url, { signal: AbortSignal.timeout(10_000) })
  } catch (error) {
    const { cause, message } = error as Error
    throw new Error(`${url.href}: ${cause instanceof Error ? cause.message : message}`, { cause: error })
  }
  if (!reply.ok) throw new Error(`${url.href} answered ${reply.status}: is it the port of the live page?`)
  const { streams } = (await reply.json()) as { readonly streams?: readonly StreamAccount[] }
  if (streams === undefined || streams.some(({ audit }) => audit === undefined)) {
    throw new Error(`${url.href} is not of a gateway that can be compared with`)
  }
  return streams
}

import type { LiveEvent } from '../../src/live-events.ts'

/** An event as a reader of `/live/events` gets it. */
export type ToldEvent = LiveEvent & { readonly wayOut: string | null }

/** Reads `/live/events`, as a page or `chute tail` does. Whoever opens it closes it. */
export interface EventReader {
  readonly streams: readonly string[]
  /** All events so far. */
  readonly events: readonly ToldEvent[]
  /** Everything that came, as text. */
  readonly text: string
  /** Resolves when the reply ends. */
  readonly ended: Promise<void>
  readonly close: () => void
}

/** Opens a reader, and returns when the gateway has said hello. */
export async function readEvents(url: string, headers: Record<string, string> = {}): Promise<EventReader> {
  const abort = new AbortController()
  const reply = await fetch(`${url}/live/events`, { headers, signal: abort.signal })
  if (!reply.ok) throw new Error(`${reply.status} ${await reply.text()}`)
  const type = reply.headers.get('content-type')
  if (type !== 'text/event-stream') throw new Error(`the media type is ${type}`)
  const events: ToldEvent[] = []
  let text = ''
  let left = ''
  let streams: readonly string[] = []
  let hello = (): void => {}
  const said = new Promise<void>((resolve) => (hello = resolve))
  const take = (message: string): void => {
    const data = /^data: (.*)$/m.exec(message)?.[1]
    if (message.includes('event: hello')) {
      streams = (JSON.parse(data!) as { streams: string[] }).streams
      hello()
    } else if (data !== undefined) events.push(...(JSON.parse(data) as ToldEvent[]))
  }
  const read = async (): Promise<void> => {
    try {
      for await (const chunk of reply.body!.pipeThrough(new TextDecoderStream())) {
        text += chunk
        const messages = (left + chunk).split('\n\n')
        left = messages.pop()!
        messages.forEach(take)
      }
    } catch {
      // It was closed, here or there.
    }
  }
  const ended = read()
  await said
  return {
    streams,
    events,
    get text() {
      return text
    },
    ended,
    close: () => abort.abort(),
  }
}

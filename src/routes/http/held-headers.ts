import type { ServerResponse } from 'node:http'

/** Makes header fields of a reply when the reply is written. */
export interface HeaderSource {
  /** Adds names and values in turn. */
  addTo(headers: string[]): void
}

const sources = Symbol('sources of header fields')

/** Where a reply keeps its sources. */
type Holder = ServerResponse & { [sources]?: HeaderSource[] }

/**
 * Lets a source add to the header of a reply, whoever writes the reply. node:http's own `setHeader` would do the same, at three times the
 * price: once a header was set so, `writeHead` copies all others one by one.
 */
export function holdHeaders(response: ServerResponse, source: HeaderSource): void {
  const holder = response as Holder
  const held = holder[sources]
  if (held === undefined) holder[sources] = [source]
  else held.push(source)
}

/**
 * Adds what the sources of a reply say to the header fields of its writer.
 * @param headers names and values in turn, in a list of the caller's own, which this changes.
 * @returns `headers`.
 */
export function withHeldHeaders(response: ServerResponse, headers: string[]): string[] {
  for (const source of (response as Holder)[sources] ?? []) source.addTo(headers)
  return headers
}

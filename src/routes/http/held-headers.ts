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

/** The header fields of a reply that is to be written: those of its writer, and those of its sources. */
export function withHeldHeaders(response: ServerResponse, headers: readonly string[]): string[] {
  const all = [...headers]
  for (const source of (response as Holder)[sources] ?? []) source.addTo(all)
  return all
}

import type { ServerResponse } from 'node:http'

/** Makes header fields of a reply when the reply is written. */
export interface HeaderSource {
  /** The fields as they are sent: for each the name, a colon and a blank, the value, and CR LF. The names and values are right. */
  lines(): string
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

/** What the sources of a reply say, as it is sent. */
export function heldLines(response: ServerResponse): string {
  const held = (response as Holder)[sources]
  if (held === undefined) return ''
  let lines = ''
  for (let nth = 0; nth < held.length; nth++) lines += held[nth]!.lines()
  return lines
}

/**
 * Adds what the sources of a reply say to the header fields of its writer.
 * @param headers names and values in turn, in a list of the caller's own, which this changes.
 * @returns `headers`.
 */
export function withHeldHeaders(response: ServerResponse, headers: string[]): string[] {
  for (const line of heldLines(response).split('\r\n')) {
    const at = line.indexOf(': ')
    if (at !== -1) headers.push(line.slice(0, at), line.slice(at + 2))
  }
  return headers
}

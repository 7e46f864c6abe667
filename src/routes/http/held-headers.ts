import type { ServerResponse } from 'node:http'

/** Makes header fields of a reply when the reply is written. */
export interface HeaderSource {
  /** The fields as they are sent: for each the name, a colon and a blank, the value, and CR LF. The names and values are right. */
  lines(): string
}

const held = Symbol('the source of held header fields')

/** Where a reply keeps its source. */
type Holder = ServerResponse & { [held]?: HeaderSource }

/**
 * Lets a source add to the header of a reply, whoever writes the reply. node:http's own `setHeader` would do the same, at three times the
 * price: once a header was set so, `writeHead` copies all others one by one.
 */
export function holdHeaders(response: ServerResponse, source: HeaderSource): void {
  const holder = response as Holder
  const first = holder[held]
  holder[held] = first === undefined ? source : new Both(first, source)
}

/** A source behind what was held before. */
class Both implements HeaderSource {
  readonly #first: HeaderSource
  readonly #second: HeaderSource

  constructor(first: HeaderSource, second: HeaderSource) {
    this.#first = first
    this.#second = second
  }

  /** @inheritdoc */
  lines(): string {
    return this.#first.lines() + this.#second.lines()
  }
}

/**
 * The same text in one piece, for a text of headers that many replies have. V8 keeps a text that was put together as its pieces, and collects
 * the pieces again for each reply.
 */
export function inOnePiece(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

/** What the sources of a reply say, as it is sent. */
export function heldLines(response: ServerResponse): string {
  return (response as Holder)[held]?.lines() ?? ''
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

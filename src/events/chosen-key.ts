import { hasEscape } from './check-json.ts'
import { isKeyText, maxKeyLength } from './event-schema.ts'
import { PointerSearch } from './pointer-search.ts'
import { quote } from './scan-json.ts'

/**
 * The key of each record of a request, where the stream's `key` is not `source`. A cursor: {@link find} moves it to the key of an
 * event, and it makes no object. A key is a range of the body or of {@link holder}; a text that is written with escapes is
 * {@link text}.
 */
export interface ChosenKey {
  /** Holds all keys of the request; null: the body does. */
  readonly holder: Buffer | null
  /** What an event needs that has no key, as the `detail` of an error, and where (RFC 6901). */
  readonly need: string
  readonly pointer: string
  /** The place of the key, or [0, size) of a {@link text}; the same twice: the event has no key. */
  readonly start: number
  readonly end: number
  /** A key that the body does not hold as it is. */
  readonly text: string | null
  /** Finds the key of the event that begins at `start`. @param done a search of the event that is at its end. */
  find(body: Buffer, start: number, done?: PointerSearch | null): void
  /** Begins a search of a large event, whose caller calls `goOn` until it is over. Null: there is nothing to search. */
  searchLater(body: Buffer, start: number, sliceBytes: number): PointerSearch | null
}

/** One key for all records of a request: a header's value, or none. */
export class RequestKey implements ChosenKey {
  readonly holder: Buffer | null
  readonly need: string
  readonly pointer = ''
  readonly start = 0
  readonly end: number
  readonly text = null

  /** @param value as it came; a value that is too long is no key, as it is none in an event. */
  constructor(value: Buffer | null, need: string) {
    this.holder = value === null || value.length > maxKeyLength ? null : value
    this.need = need
    this.end = this.holder?.length ?? 0
  }

  find(): void {}

  searchLater(): null {
    return null
  }
}

/** The key is what a JSON pointer leads to: a text of 1 to 255 characters, or a number as it is written. One object serves a stream. */
export class PointerKey implements ChosenKey {
  readonly holder = null
  readonly need = `needs a text of 1 to ${maxKeyLength} characters or a number here, which becomes the key of the record`
  readonly pointer: string
  start = 0
  end = 0
  text: string | null = null
  readonly #search: PointerSearch

  /** @param pointer checked, and not empty. */
  constructor(pointer: string) {
    this.pointer = pointer
    this.#search = new PointerSearch(pointer)
  }

  find(body: Buffer, start: number, done: PointerSearch | null = null): void {
    const search = done ?? this.#search
    if (done === null) {
      search.begin(body, start)
      search.goOn()
    }
    this.#take(body, search.start, search.end)
  }

  searchLater(body: Buffer, start: number, sliceBytes: number): PointerSearch {
    const search = new PointerSearch(this.pointer, sliceBytes)
    search.begin(body, start)
    return search
  }

  #take(body: Buffer, start: number, end: number): void {
    this.text = null
    this.start = this.end = 0
    // Written with escapes, a character takes twelve bytes at most: two escapes outside of the BMP. An empty range is no value.
    if (end === start || end - start > 12 * maxKeyLength + 2) return
    const first = body[start]!
    if (first === quote) {
      if (hasEscape(body, start, end)) return this.#takeEscaped(body, start, end)
      if (end - start - 2 > maxKeyLength && !isKeyText(body.toString('utf8', start + 1, end - 1))) return
      this.start = start + 1
      this.end = end - 1
    } else if (isOfNumber(first) && end - start <= maxKeyLength) {
      this.start = start
      this.end = end
    }
  }

  #takeEscaped(body: Buffer, start: number, end: number): void {
    const text = JSON.parse(body.toString('utf8', start, end)) as string
    if (!isKeyText(text)) return
    this.text = text
    this.end = Buffer.byteLength(text)
  }
}

function isOfNumber(byte: number): boolean {
  return byte === 0x2d || (byte >= 0x30 && byte <= 0x39)
}

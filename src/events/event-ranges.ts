/**
 * Where the good events of a body and their keys are, in the order of the request. Numbers in one array: an object an
 * event, or even an array for each of the four, costs more than all of an event's checks.
 */
export class EventRanges {
  /** Start, end, start of the key, end of the key, of each event. */
  readonly #places: number[] = []
  /** Keys that the body does not hold as they are, since they are written with escapes; null as long as none is. */
  #texts: (string | null)[] | null = null
  /** Bytes of all events and their keys. */
  totalBytes = 0
  /** Holds the keys in the place of the body: the key is of the request. */
  keyHolder: Buffer | null = null

  /** Number of events. */
  get count(): number {
    return this.#places.length / placesAnEvent
  }

  /** Adds an event whose key is in the body; with `keyStart` = `keyEnd` it has none. */
  add(start: number, end: number, keyStart: number, keyEnd: number): void {
    this.#places.push(start, end, keyStart, keyEnd)
    this.#texts?.push(null)
    this.totalBytes += end - start + keyEnd - keyStart
  }

  /** Adds an event whose key, of `keyBytes` bytes in UTF-8, was parsed. */
  addParsed(start: number, end: number, key: string | null, keyBytes: number): void {
    if (key !== null) this.#texts ??= Array.from({ length: this.count }, () => null)
    this.#texts?.push(key)
    this.#places.push(start, end, 0, keyBytes)
    this.totalBytes += end - start + keyBytes
  }

  /** Where an event begins in the body. */
  start(index: number): number {
    return this.#places[index * placesAnEvent]!
  }

  /** Where an event ends in the body. */
  end(index: number): number {
    return this.#places[index * placesAnEvent + 1]!
  }

  /** Where an event's key begins in what {@link key} gives. */
  keyStart(index: number): number {
    return this.#places[index * placesAnEvent + 2]!
  }

  /** Where an event's key ends in what {@link key} gives. */
  keyEnd(index: number): number {
    return this.#places[index * placesAnEvent + 3]!
  }

  /**
   * The buffer that holds an event's key: the body, {@link keyHolder}, or a copy that is good until the next call. Null: the event has
   * no key.
   */
  key(index: number, body: Buffer): Buffer | null {
    if (this.keyStart(index) === this.keyEnd(index)) return null
    const text = this.#texts?.[index] ?? null
    if (text === null) return this.keyHolder ?? body
    if (text.length * 3 > scratch.length) return Buffer.from(text)
    scratch.write(text)
    return scratch
  }

  /** Takes out the events of which `stays` does not say that they stay. */
  keepOnly(stays: (index: number) => boolean): void {
    const places = this.#places
    const texts = this.#texts
    const { count } = this
    let kept = 0
    this.totalBytes = 0
    for (let index = 0; index < count; index++) {
      if (!stays(index)) continue
      this.totalBytes += this.end(index) - this.start(index) + this.keyEnd(index) - this.keyStart(index)
      for (let place = 0; place < placesAnEvent; place++)
        places[kept * placesAnEvent + place] = places[index * placesAnEvent + place]!
      if (texts !== null) texts[kept] = texts[index]!
      kept++
    }
    places.length = kept * placesAnEvent
    if (texts !== null) texts.length = kept
  }

  /** Forgets all events. */
  clear(): void {
    this.#places.length = 0
    this.#texts = null
    this.totalBytes = 0
  }
}

const placesAnEvent = 4

/** Parsed keys become bytes here. There are few of them, and a key that may not fit gets a buffer of its own. */
const scratch = Buffer.allocUnsafe(1024)

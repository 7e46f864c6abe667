/**
 * The ranges of the good events of a body and of their keys, in the order of the request. They are numbers in one array. An object for each
 * event, or an array for each of the four numbers, would cost more than all checks of an event.
 */
export class EventRanges {
  /** For each event: start, end, start of the key, end of the key. */
  readonly #places: number[] = []
  /** Keys that are written with escapes, so the body does not have their bytes; null: there is no such key. */
  #texts: (string | null)[] | null = null
  /** The place of each event's topic; null: the stream has one topic. */
  #topics: number[] | null = null
  /** Size of all events and their keys, in bytes. */
  totalBytes = 0
  /** Holds the key of the request, if all events have the same key; null: the body holds the keys. */
  keyHolder: Buffer | null = null

  /** Number of events. */
  get count(): number {
    return this.#places.length / placesAnEvent
  }

  /** Adds an event whose key is in the body. If `keyStart` = `keyEnd`, the event has no key. */
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

  /** Says where the event that was just added goes: the place of its topic. To be called for each event, or for none. */
  goesTo(topic: number): void {
    this.#topics ??= []
    this.#topics.push(topic)
  }

  /** The place of an event's topic; 0 where the stream has one topic. */
  topic(index: number): number {
    return this.#topics === null ? 0 : this.#topics[index]!
  }

  /** How many events go to a topic. */
  countOf(topic: number): number {
    if (this.#topics === null) return topic === 0 ? this.count : 0
    return this.#topics.reduce((count, each) => (each === topic ? count + 1 : count), 0)
  }

  /** Where an event begins in the body. */
  start(index: number): number {
    return this.#places[index * placesAnEvent]!
  }

  /** Where an event ends in the body. */
  end(index: number): number {
    return this.#places[index * placesAnEvent + 1]!
  }

  /** Where an event's key begins in the buffer that {@link key} returns. */
  keyStart(index: number): number {
    return this.#places[index * placesAnEvent + 2]!
  }

  /** Where an event's key ends in the buffer that {@link key} returns. */
  keyEnd(index: number): number {
    return this.#places[index * placesAnEvent + 3]!
  }

  /**
   * The buffer that holds an event's key: the body, {@link keyHolder}, or a copy that is valid until the next call. null: the event has no
   * key.
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
    const topics = this.#topics
    const { count } = this
    let kept = 0
    this.totalBytes = 0
    for (let index = 0; index < count; index++) {
      if (!stays(index)) continue
      this.totalBytes += this.end(index) - this.start(index) + this.keyEnd(index) - this.keyStart(index)
      for (let place = 0; place < placesAnEvent; place++)
        places[kept * placesAnEvent + place] = places[index * placesAnEvent + place]!
      if (texts !== null) texts[kept] = texts[index]!
      if (topics !== null) topics[kept] = topics[index]!
      kept++
    }
    places.length = kept * placesAnEvent
    if (texts !== null) texts.length = kept
    if (topics !== null) topics.length = kept
  }

  /** Forgets all events. */
  clear(): void {
    this.#places.length = 0
    this.#texts = null
    this.#topics = null
    this.totalBytes = 0
  }
}

const placesAnEvent = 4

/** Parsed keys become bytes here. There are few of them, and a key that may not fit gets a buffer of its own. */
const scratch = Buffer.allocUnsafe(1024)

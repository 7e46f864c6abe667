/**
 * The ranges of the good events of a body and of their keys, in the order of the request. They are numbers in arrays of some size. An object for
 * each event, or an array for each of the four numbers, would cost more than all checks of an event. Those of a large request are outside of V8's heap,
 * and are used again: they outlive V8's short collections, and only its long kind would take them away.
 */
export class EventRanges {
  /** For each of the first events: start, end, start of the key, end of the key. */
  #first: number[] = []
  /** Those of further events, in pages of {@link eventsAPage}; null: there are none. */
  #pages: Int32Array[] | null = null
  #inPages = 0
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
    return this.#first.length / placesAnEvent + this.#inPages
  }

  /** Adds an event whose key is in the body. If `keyStart` = `keyEnd`, the event has no key. */
  add(start: number, end: number, keyStart: number, keyEnd: number): void {
    this.#push(start, end, keyStart, keyEnd)
    this.#texts?.push(null)
    this.totalBytes += end - start + keyEnd - keyStart
  }

  /** Adds an event whose key, of `keyBytes` bytes in UTF-8, was parsed. */
  addParsed(start: number, end: number, key: string | null, keyBytes: number): void {
    if (key !== null) this.#texts ??= Array.from({ length: this.count }, () => null)
    this.#texts?.push(key)
    this.#push(start, end, 0, keyBytes)
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
    return this.#place(index, 0)
  }

  /** Where an event ends in the body. */
  end(index: number): number {
    return this.#place(index, 1)
  }

  /** Where an event's key begins in the buffer that {@link key} returns. */
  keyStart(index: number): number {
    return this.#place(index, 2)
  }

  /** Where an event's key ends in the buffer that {@link key} returns. */
  keyEnd(index: number): number {
    return this.#place(index, 3)
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
    const all = new EventRanges()
    all.#take(this)
    this.#take(new EventRanges())
    for (let index = 0; index < all.count; index++) {
      if (!stays(index)) continue
      const [start, end, keyStart, keyEnd] = [
        all.start(index),
        all.end(index),
        all.keyStart(index),
        all.keyEnd(index),
      ]
      this.#push(start, end, keyStart, keyEnd)
      this.totalBytes += end - start + keyEnd - keyStart
      if (all.#texts !== null) (this.#texts ??= []).push(all.#texts[index]!)
      if (all.#topics !== null) this.goesTo(all.#topics[index]!)
    }
    all.release()
  }

  /** Forgets all events. */
  clear(): void {
    this.release()
    this.#take(new EventRanges())
  }

  /** Gives the memory of many events back. To be called when nobody asks for their places any more. Their number stays. */
  release(): void {
    if (this.#pages === null) return
    freePages.push(...this.#pages.slice(0, mostFreePages - freePages.length))
    this.#pages = null
  }

  #take(other: EventRanges): void {
    this.#first = other.#first
    this.#pages = other.#pages
    this.#inPages = other.#inPages
    this.#texts = other.#texts
    this.#topics = other.#topics
    this.totalBytes = other.totalBytes
  }

  #push(start: number, end: number, keyStart: number, keyEnd: number): void {
    if (this.#first.length < firstEvents * placesAnEvent) this.#first.push(start, end, keyStart, keyEnd)
    else this.#pushFurther(start, end, keyStart, keyEnd)
  }

  #pushFurther(start: number, end: number, keyStart: number, keyEnd: number): void {
    const nth = this.#inPages % eventsAPage
    const pages = (this.#pages ??= [])
    if (nth === 0) pages.push(freePages.pop() ?? new Int32Array(eventsAPage * placesAnEvent))
    const page = pages.at(-1)!
    const at = nth * placesAnEvent
    page[at] = start
    page[at + 1] = end
    page[at + 2] = keyStart
    page[at + 3] = keyEnd
    this.#inPages++
  }

  #place(index: number, nth: number): number {
    if (index < firstEvents) return this.#first[index * placesAnEvent + nth]!
    const further = index - firstEvents
    return this.#pages![Math.trunc(further / eventsAPage)]![(further % eventsAPage) * placesAnEvent + nth]!
  }
}

const placesAnEvent = 4
/** A request of fewer events takes no page. */
const firstEvents = 128
/** A page takes 16 KB. */
const eventsAPage = 1_024
/** Pages that nobody has now. They take a megabyte at most. */
const freePages: Int32Array[] = []
const mostFreePages = 64

/** Parsed keys become bytes here. There are few of them, and a key that may not fit gets a buffer of its own. */
const scratch = Buffer.allocUnsafe(1024)

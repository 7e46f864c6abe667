import { PointerKey } from './chosen-key.ts'
import type { PointerSearch } from './pointer-search.ts'

/** What a topic takes. */
interface TopicLimits {
  /** Key, value and own headers of a record together. */
  readonly maxRecordBytes: number
  /** The topic takes no record without a key. */
  readonly needsKey: boolean
}

/** The topics of a stream, and the choice among them. */
export interface EventTopics {
  readonly choice: ChosenTopic
  readonly limits: readonly TopicLimits[]
}

/**
 * The topic of each event of a stream, by the value at a JSON pointer. It is one of a closed list: a value that is not in the map, and an
 * event without a value, go to the first. One object serves a stream.
 */
export class ChosenTopic {
  readonly #value: PointerKey
  readonly #byValue: ReadonlyMap<string, number>

  /**
   * @param pointer checked, and not empty.
   * @param byValue the place of each value's topic in the list. A number is its text, as it is written.
   */
  constructor(pointer: string, byValue: ReadonlyMap<string, number>) {
    this.#value = new PointerKey(pointer)
    this.#byValue = byValue
  }

  /** The place of the topic of the event that begins at `start`. @param done a search of the event that is at its end. */
  find(body: Buffer, start: number, done: PointerSearch | null = null): number {
    const value = this.#value
    value.find(body, start, done)
    if (value.end === value.start) return 0
    return this.#byValue.get(value.text ?? body.toString('utf8', value.start, value.end)) ?? 0
  }

  /** Begins a search of a large event, whose caller calls `goOn` until it is over. */
  searchLater(body: Buffer, start: number, sliceBytes: number): PointerSearch {
    return this.#value.searchLater(body, start, sliceBytes)
  }
}

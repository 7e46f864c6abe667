import { skipWhitespace } from './array-elements.ts'
import { hasEscape } from './check-json.ts'
import { nextMemberAt, valueAt, ValueSkip } from './reduce-event.ts'
import { closeArray, closeObject, isText, openArray, openObject } from './scan-json.ts'

/**
 * Finds the value that a JSON pointer leads to (RFC 6901) in the bytes of an event, and makes no value of anything else. Of a name
 * that is given twice the last one counts, as `JSON.parse` has it. One search serves one event after the other.
 */
export class PointerSearch {
  /** Where the value is; {@link end} is 0 if the pointer leads nowhere. */
  start = 0
  end = 0
  readonly #steps: readonly Step[]
  readonly #skip: ValueSkip
  /** The step that is looked for, in the object or array that is open. */
  #level = 0
  #isOpen = false
  #isArray = false
  /** The next member or element, or the end. */
  #at = 0
  #index = 0
  /** What is gone over at {@link #at}. */
  #part: 'key' | 'value' | null = null
  #valueStart = 0
  /** The step names the member or the element. */
  #isNamed = false
  /** The last member or element that the step names. */
  #foundStart = -1
  #foundEnd = 0

  /**
   * @param pointer a checked pointer with a step at least.
   * @param sliceBytes about how much {@link goOn} goes over before others get their turn.
   */
  constructor(pointer: string, sliceBytes = Infinity) {
    this.#steps = stepsOf(pointer).map((name) => ({
      name,
      // A name with a quote or a backslash is always written with an escape.
      bytes: /["\\]/.test(name) ? null : Buffer.from(name),
      index: /^(?:0|[1-9]\d*)$/.test(name) ? Number(name) : -1,
    }))
    this.#skip = new ValueSkip(nothing, 0, sliceBytes)
  }

  /** Begins with an event, which is known to be valid. */
  begin(body: Buffer, start: number): void {
    this.start = this.end = 0
    this.#skip.body = body
    this.#level = 0
    this.#enter(start)
  }

  /** Goes on to the end. @returns false: others are to get a turn before the next call. */
  goOn(): boolean {
    const skip = this.#skip
    const { body } = skip
    while (this.#isOpen) {
      if (this.#part === null) {
        const byte = body[this.#at]
        if (byte === closeObject || byte === closeArray) {
          this.#leave()
          continue
        }
        skip.begin(this.#at)
        this.#part = this.#isArray ? 'value' : 'key'
        this.#valueStart = this.#at
        if (this.#isArray) this.#isNamed = this.#steps[this.#level]!.index === this.#index++
      }
      if (!skip.goOn()) return false
      if (this.#part === 'key') {
        this.#isNamed = this.#isName(body, this.#at, skip.at)
        this.#valueStart = valueAt(body, skip.at)
        skip.begin(this.#valueStart)
        this.#part = 'value'
        continue
      }
      if (this.#isNamed) {
        this.#foundStart = this.#valueStart
        this.#foundEnd = skip.at
      }
      this.#part = null
      this.#at = nextMemberAt(body, skip.at)
    }
    return true
  }

  #enter(start: number): void {
    const { body } = this.#skip
    this.#isArray = body[start] === openArray
    this.#isOpen = this.#isArray || body[start] === openObject
    if (!this.#isOpen) return
    this.#skip.restart(body, start)
    this.#at = skipWhitespace(body, start + 1, body.length)
    this.#index = 0
    this.#part = null
    this.#foundStart = -1
  }

  #leave(): void {
    this.#isOpen = false
    if (this.#foundStart === -1) return
    if (++this.#level < this.#steps.length) return this.#enter(this.#foundStart)
    this.start = this.#foundStart
    this.end = this.#foundEnd
  }

  /** Whether the step is the name that stands in [start, end), in quotes. */
  #isName(body: Buffer, start: number, end: number): boolean {
    const { name, bytes } = this.#steps[this.#level]!
    const length = end - start - 2
    if (bytes !== null && length === bytes.length && isText(body, start + 1, bytes)) return true
    // As an escape, a character takes six bytes at most.
    if (length > 6 * name.length) return false
    return hasEscape(body, start, end) && JSON.parse(body.toString('utf8', start, end)) === name
  }
}

/** A step of a pointer: the name of a member, and the place of an element where the name is one. */
interface Step {
  readonly name: string
  /** The name as it stands in an event without escapes; null where it cannot. */
  readonly bytes: Buffer | null
  readonly index: number
}

function stepsOf(pointer: string): string[] {
  return pointer
    .slice(1)
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}

const nothing = Buffer.alloc(0)

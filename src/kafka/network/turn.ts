/**
 * The end of a turn of the event loop, after all sockets were read: first what makes requests, then what writes them. So the requests of all
 * streams of a turn go in one call to the kernel.
 *
 * Whoever comes first in one turn comes last in the next one, so that nobody always finds the room taken by the others.
 */
export class TurnEnd {
  #making: (() => void)[] = []
  #writing: (() => void)[] = []
  /** How many turns ended. */
  #count = 0
  #isSet = false
  #isMaking = false

  /** Calls `make` at the end of this turn. At the end of a turn, it is called at the end of the next one. */
  make(make: () => void): void {
    this.#making.push(make)
    this.#set()
  }

  /** Calls `write` at the end of this turn, behind all that {@link make} was given. */
  write(write: () => void): void {
    this.#writing.push(write)
    if (!this.#isMaking) this.#set()
  }

  #set(): void {
    if (this.#isSet) return
    this.#isSet = true
    setImmediate(this.#end)
  }

  readonly #end = (): void => {
    this.#isSet = false
    const making = this.#making
    this.#making = []
    const first = this.#count++
    this.#isMaking = true
    for (let i = 0; i < making.length; i++) making[(first + i) % making.length]!()
    this.#isMaking = false
    const writing = this.#writing
    this.#writing = []
    for (const write of writing) write()
  }
}

/**
 * Looks that are asked for while one is under way share the next: however many ask, two looks at most are taken for them.
 * Nobody gets a look that began before it was asked for.
 */
export class Lookout<T> {
  readonly #look: () => Promise<T>
  #running: Promise<T> | null = null
  #next: Promise<T> | null = null

  constructor(look: () => Promise<T>) {
    this.#look = look
  }

  async look(): Promise<T> {
    if (this.#running === null) return await this.#start()
    const start = async () => {
      this.#next = null
      return await this.#start()
    }
    this.#next ??= this.#running.then(start, start)
    return await this.#next
  }

  async #start(): Promise<T> {
    this.#running = this.#look().finally(() => {
      this.#running = null
    })
    return await this.#running
  }
}

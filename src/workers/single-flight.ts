/**
 * Runs one piece of work for all who ask for its result at the same time. Calls that come while a run is under way share the
 * next run, so there are two runs at most for them, however many they are. No caller gets the result of a run that had begun
 * before the call.
 *
 * Both ends of the channel use it: a scrape of many streams takes milliseconds in the primary and in the worker.
 */
export class SingleFlight<T> {
  readonly #work: () => Promise<T>
  #running: Promise<T> | null = null
  #next: Promise<T> | null = null

  constructor(work: () => Promise<T>) {
    this.#work = work
  }

  /** The result of a run that begins now or later. */
  async run(): Promise<T> {
    if (this.#running === null) return await this.#start()
    const start = async () => {
      this.#next = null
      return await this.#start()
    }
    this.#next ??= this.#running.then(start, start)
    return await this.#next
  }

  async #start(): Promise<T> {
    this.#running = this.#work().finally(() => {
      this.#running = null
    })
    return await this.#running
  }
}

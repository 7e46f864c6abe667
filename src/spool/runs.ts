/** Numbers of records in the order in which they were added, kept as runs. */
export class Runs {
  readonly #firsts: number[] = []
  readonly #counts: number[] = []
  count = 0

  add(seq: number): void {
    this.addRun(seq, 1)
  }

  addRun(first: number, count: number): void {
    const last = this.#firsts.length - 1
    if (last >= 0 && first === this.#firsts[last]! + this.#counts[last]!) {
      this.#counts[last]! += count
    } else {
      this.#firsts.push(first)
      this.#counts.push(count)
    }
    this.count += count
  }

  /** Calls back with each run of the records at places [from, from + length). */
  each(run: (first: number, count: number) => void, from: number, length: number): void {
    let [skip, left] = [from, length]
    for (let nth = 0; nth < this.#firsts.length && left > 0; nth++) {
      const count = Math.min(this.#counts[nth]! - skip, left)
      if (count > 0) {
        run(this.#firsts[nth]! + skip, count)
        left -= count
      }
      skip = Math.max(0, skip - this.#counts[nth]!)
    }
  }
}

/** What one record's sequence says about those before it. */
export type Sighting = 'next' | 'gap' | 'reordered' | 'duplicate'

/** Sequences that were not seen, both ends included. */
export interface MissingRange {
  readonly from: number
  readonly to: number
  /** Timestamp of the record by which the gap was noticed, in epoch milliseconds. */
  readonly atMs: number
}

/**
 * The sequences of one writer in one partition, as a reader meets them. It keeps gaps and not records: the sequences that were
 * not seen are ranges, so that a record that comes late can be told from a record that comes twice. A record that comes in order costs
 * the same, however many gaps are before it.
 *
 * Invariant: sequences 0 to `last` are the distinct ones that were seen and the missing ones.
 */
export class SequenceTrack {
  first = -1
  last = -1
  records = 0
  duplicated = 0
  reordered = 0
  firstAtMs = 0
  lastAtMs = 0
  /** Ascending; the first begins at 0 where the writer's first records were not seen. */
  #missing: MissingRange[] = []

  see(sequence: number, timestampMs: number): Sighting {
    if (this.records++ === 0) {
      this.first = sequence
      this.firstAtMs = timestampMs
    }
    this.lastAtMs = Math.max(this.lastAtMs, timestampMs)
    if (sequence > this.last) {
      const from = this.last + 1
      this.last = sequence
      if (sequence === from) return 'next'
      this.#missing.push({ from, to: sequence - 1, atMs: timestampMs })
      return 'gap'
    }
    const range = this.#rangeOf(sequence)
    if (range === -1) {
      this.duplicated++
      return 'duplicate'
    }
    this.#fill(range, sequence)
    this.reordered++
    return 'reordered'
  }

  get missing(): readonly MissingRange[] {
    return this.#missing
  }

  /** How many sequences below `end` were not seen; those behind the last one seen count. */
  missingBelow(end: number): number {
    const within = this.#missing.reduce(
      (sum, { from, to }) => sum + Math.max(0, Math.min(to + 1, end) - from),
      0,
    )
    return within + Math.max(0, end - (this.last + 1))
  }

  /** When the gap was noticed that a sequence is in. */
  missedAtMs(sequence: number): number | null {
    return this.#missing[this.#rangeOf(sequence)]?.atMs ?? null
  }

  /** The place of the gap that a sequence is in; -1 if it is in none. Gaps are searched by halves. */
  #rangeOf(sequence: number): number {
    if (sequence > this.last) return -1
    let [low, high] = [0, this.#missing.length - 1]
    while (low <= high) {
      const middle = (low + high) >> 1
      const { from, to } = this.#missing[middle]!
      if (sequence < from) high = middle - 1
      else if (sequence > to) low = middle + 1
      else return middle
    }
    return -1
  }

  #fill(index: number, sequence: number): void {
    const { from, to, atMs } = this.#missing[index]!
    const parts: MissingRange[] = []
    if (from < sequence) parts.push({ from, to: sequence - 1, atMs })
    if (sequence < to) parts.push({ from: sequence + 1, to, atMs })
    this.#missing.splice(index, 1, ...parts)
  }
}

/** How the sequence of a record follows the sequences before it. */
export type Sighting = 'next' | 'gap' | 'reordered' | 'duplicate'

/** A range of sequences that were not seen. Both ends belong to it. */
export interface MissingRange {
  readonly from: number
  readonly to: number
  /** Timestamp of the record behind the gap, in epoch milliseconds. */
  readonly atMs: number
}

/**
 * The sequences of one writer in one partition, as a reader meets them. It keeps ranges of missing sequences, and no records. So it can tell a
 * record that comes late from a record that comes twice. A record that comes in order costs the same, however many gaps are before it.
 *
 * Invariant: each sequence from 0 to `last` was either seen or is in a range of missing sequences.
 */
export class SequenceTrack {
  first = -1
  last = -1
  records = 0
  duplicated = 0
  reordered = 0
  firstAtMs = 0
  lastAtMs = 0
  /** In ascending order. The first range begins at 0 if the writer's first records were not seen. */
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

  /**
   * Forgets the first range of missing sequences. If one of these comes later, it counts as duplicated.
   * @returns how many sequences the range had.
   */
  settleFirst(): number {
    const range = this.#missing.shift()
    return range === undefined ? 0 : range.to - range.from + 1
  }

  /** How many sequences below `end` were not seen. Sequences behind the last one that was seen count, too. */
  missingBelow(end: number): number {
    const within = this.#missing.reduce(
      (sum, { from, to }) => sum + Math.max(0, Math.min(to + 1, end) - from),
      0,
    )
    return within + Math.max(0, end - (this.last + 1))
  }

  /** `atMs` of the gap that has a sequence; null if no gap has it. */
  missedAtMs(sequence: number): number | null {
    return this.#missing[this.#rangeOf(sequence)]?.atMs ?? null
  }

  /** The index of the gap that has a sequence; -1 if no gap has it. A binary search. */
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

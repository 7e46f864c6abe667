/** Records and losses of one span of time. */
export interface TimelineBucket {
  readonly fromMs: number
  readonly records: number
  readonly lost: number
}

/**
 * Records and losses over time, by the records' timestamps. The number of buckets is bounded: when it is not enough for the whole time, each
 * bucket becomes twice as wide.
 */
export class Timeline {
  widthMs = 1_000
  #buckets = new Map<number, { records: number; lost: number }>()

  /** Adds to the bucket of a moment. `lost` is negative when a record that counted as lost was found. */
  add(atMs: number, records: number, lost: number): void {
    const bucket = this.#at(atMs)
    bucket.records += records
    bucket.lost += lost
  }

  /** All buckets from the first moment to the last, including the empty ones. */
  get buckets(): TimelineBucket[] {
    const indexes = [...this.#buckets.keys()]
    if (indexes.length === 0) return []
    const [least, most] = [Math.min(...indexes), Math.max(...indexes)]
    return Array.from({ length: most - least + 1 }, (_, nth) => ({
      fromMs: (least + nth) * this.widthMs,
      ...(this.#buckets.get(least + nth) ?? { records: 0, lost: 0 }),
    }))
  }

  #at(atMs: number): { records: number; lost: number } {
    for (;;) {
      const index = Math.floor(atMs / this.widthMs)
      const known = this.#buckets.get(index)
      if (known !== undefined) return known
      const indexes = [...this.#buckets.keys(), index]
      if (Math.max(...indexes) - Math.min(...indexes) < maxBuckets) {
        const bucket = { records: 0, lost: 0 }
        this.#buckets.set(index, bucket)
        return bucket
      }
      this.#widen()
    }
  }

  #widen(): void {
    this.widthMs *= 2
    const wider = new Map<number, { records: number; lost: number }>()
    for (const [index, { records, lost }] of this.#buckets) {
      const half = Math.floor(index / 2)
      const bucket = wider.get(half) ?? { records: 0, lost: 0 }
      wider.set(half, { records: bucket.records + records, lost: bucket.lost + lost })
    }
    this.#buckets = wider
  }
}

const maxBuckets = 240

/**
 * One record, as ranges of bytes that another object holds. This is a cursor: one instance moves over all records of a request, of a frame,
 * or of a batch that is read back, so no record costs an allocation. A function that takes a record copies its bytes before it returns, and
 * does not keep the cursor.
 */
export class RecordBytes {
  /** Holds the record's value at [{@link start}, {@link end}). */
  body: Buffer = nothing
  start = 0
  end = 0
  /** Holds the record's key at [{@link keyStart}, {@link keyEnd}). It may be the same buffer as {@link body}. null: the record has no key. */
  key: Buffer | null = null
  keyStart = 0
  keyEnd = 0
  /**
   * The record's own headers, as `encodeHeaders` writes them. Null: the record has none of its own. They are the whole of a buffer, since a
   * copy of a range makes a view of it, and the records of a request have the same headers.
   */
  headers: Buffer | null = null
  /** The place of the record's topic in the list of its stream; 0 where there is one topic. */
  topic = 0
  /** The record's timestamp, in milliseconds since 1970: the gateway's clock, never the event's. */
  timestampMs = 0

  /** A cursor at a record whose value is the whole of one buffer, and whose key is the whole of another. */
  static of(value: Buffer, key: Buffer | null, timestampMs: number): RecordBytes {
    const record = new RecordBytes()
    record.timestampMs = timestampMs
    return record.value(value, 0, value.length).keyed(key, 0, key?.length ?? 0)
  }

  /** Moves to a value. */
  value(body: Buffer, start: number, end: number): this {
    this.body = body
    this.start = start
    this.end = end
    return this
  }

  /** Moves to a key; null for a record that has none. */
  keyed(key: Buffer | null, keyStart: number, keyEnd: number): this {
    this.key = key
    this.keyStart = keyStart
    this.keyEnd = keyEnd
    return this
  }

  /** Moves to headers; null for a record that has none of its own. */
  headed(headers: Buffer | null): this {
    this.headers = headers
    return this
  }

  /** Size of the value. */
  get valueBytes(): number {
    return this.end - this.start
  }

  /** Size of the key; 0 if there is none. */
  get keyBytes(): number {
    return this.keyEnd - this.keyStart
  }

  /** Size of the record's own headers; 0 where there are none. */
  get headerBytes(): number {
    return this.headers === null ? 0 : this.headers.length
  }
}

const nothing = Buffer.alloc(0)

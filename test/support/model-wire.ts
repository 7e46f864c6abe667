/** Kafka's primitive types from the broker's side, for the model broker: independent of the code under test. */
export class ModelReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** One byte. */
  int8(): number {
    return this.#bytes.readInt8(this.#at++)
  }

  /** Two bytes. */
  int16(): number {
    this.#at += 2
    return this.#bytes.readInt16BE(this.#at - 2)
  }

  /** Four bytes. */
  int32(): number {
    this.#at += 4
    return this.#bytes.readInt32BE(this.#at - 4)
  }

  /** Eight bytes. */
  int64(): bigint {
    this.#at += 8
    return this.#bytes.readBigInt64BE(this.#at - 8)
  }

  /** A nullable string. */
  string(): string | null {
    const length = this.int16()
    return length < 0 ? null : this.#slice(length).toString('utf8')
  }

  /** Bytes with their length before them. */
  bytes(): Buffer {
    return this.#slice(this.int32())
  }

  /** An unsigned number of a flexible version. */
  uvarint(): number {
    const byte = this.#bytes[this.#at++]!
    return byte < 0x80 ? byte : (byte & 0x7f) + 0x80 * this.uvarint()
  }

  /** A string of a flexible version. */
  compactString(): string {
    return this.#slice(this.uvarint() - 1).toString('utf8')
  }

  /** An array of a flexible version. */
  compactArray<T>(element: () => T): T[] {
    return Array.from({ length: this.uvarint() - 1 }, element)
  }

  /** An array. */
  array<T>(element: () => T): T[] {
    return Array.from({ length: Math.max(0, this.int32()) }, element)
  }

  /** Throws if something was sent behind the request. */
  end(): void {
    if (this.#at !== this.#bytes.length) throw new Error('bytes behind the end of a request')
  }

  #slice(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new Error('a request ends too early')
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
}

/** Builds a response. */
export class ModelWriter {
  readonly #parts: Buffer[] = []

  /** One byte. */
  int8(value: number): this {
    return this.#add(1, (part) => part.writeInt8(value))
  }

  /** Two bytes. */
  int16(value: number): this {
    return this.#add(2, (part) => part.writeInt16BE(value))
  }

  /** Four bytes. */
  int32(value: number): this {
    return this.#add(4, (part) => part.writeInt32BE(value))
  }

  /** Eight bytes. */
  int64(value: bigint | number): this {
    return this.#add(8, (part) => part.writeBigInt64BE(BigInt(value)))
  }

  /** A nullable string. */
  string(value: string | null): this {
    if (value === null) return this.int16(-1)
    const bytes = Buffer.from(value)
    this.int16(bytes.length).#parts.push(bytes)
    return this
  }

  /** An unsigned number of a flexible version. */
  uvarint(value: number): this {
    if (value < 0x80) return this.#add(1, (part) => part.writeUInt8(value))
    return this.#add(1, (part) => part.writeUInt8((value % 0x80) + 0x80)).uvarint(Math.floor(value / 0x80))
  }

  /** A nullable string of a flexible version. */
  compactString(value: string | null): this {
    if (value === null) return this.uvarint(0)
    const bytes = Buffer.from(value)
    this.uvarint(bytes.length + 1).#parts.push(bytes)
    return this
  }

  /** An array of a flexible version. */
  compactArray<T>(elements: readonly T[], write: (element: T) => void): this {
    this.uvarint(elements.length + 1)
    for (const element of elements) write(element)
    return this
  }

  /** Bytes from hexadecimal digits. */
  hex(digits: string): this {
    this.#parts.push(Buffer.from(digits, 'hex'))
    return this
  }

  /** An array. */
  array<T>(elements: readonly T[], write: (element: T) => void): this {
    this.int32(elements.length)
    for (const element of elements) write(element)
    return this
  }

  /** All of it. */
  done(): Buffer {
    return Buffer.concat(this.#parts)
  }

  #add(bytes: number, write: (part: Buffer) => void): this {
    const part = Buffer.alloc(bytes)
    write(part)
    this.#parts.push(part)
    return this
  }
}

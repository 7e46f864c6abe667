/**
 * Read this file of the folder first. protocol/ is about bytes and their meaning. It knows no socket, no clock and no stream. Of Chute's
 * other rooms it knows only the types of config/.
 *
 * This file reads and writes Kafka's primitive types (https://kafka.apache.org/protocol#protocol_types), for the few requests that Chute
 * makes itself: the classic encodings, and the encodings of flexible versions (KIP-482).
 */

/** A request as bytes, without its frame. The connection adds size, header and correlation id (`network/frames.ts`). */
export interface WireRequest {
  readonly apiKey: number
  readonly apiVersion: number
  readonly apiName: string
  /** The pieces of the body, in order. They must not change until the kernel has them. */
  readonly chunks: readonly Buffer[]
  /** undefined: the request cannot be joined with others (`joinTopics`). */
  readonly joinable?: Joinable | undefined
}

/** A request about one topic, whose body is a head, the number of topics, and the topic. Requests with the same head can be one request. */
export interface Joinable {
  readonly topic: string
  /** Bytes of the head and of the number of topics. They are in the first piece of the body. */
  readonly headBytes: number
  /** Requests of one API have the same head if they have the same number here. */
  readonly headKey: number
}

/**
 * Pieces of fewer bytes than this are copied together with their neighbours: a copy costs less than one more piece for the socket.
 * `Buffer.allocUnsafe` uses its pool below this size, too.
 */
export const copiedBelowBytes = 4_096

/** Builds the body of a request. Its buffer grows as needed. */
export class WireWriter {
  #buffer: Buffer
  /** Place of the first byte that was not taken yet. */
  #start = 0
  #length = 0

  /** @param sizeBytes the number of bytes that will be written, if it is known. */
  constructor(sizeBytes = 256) {
    this.#buffer = Buffer.allocUnsafe(sizeBytes)
  }

  /** Appends one byte. */
  int8(value: number): this {
    this.#room(1)
    this.#length = this.#buffer.writeInt8(value, this.#length)
    return this
  }

  /** Appends a 16-bit integer. */
  int16(value: number): this {
    this.#room(2)
    this.#length = this.#buffer.writeInt16BE(value, this.#length)
    return this
  }

  /** Appends a 32-bit integer. Array lengths are written with it, too. */
  int32(value: number): this {
    this.#room(4)
    this.#length = this.#buffer.writeInt32BE(value, this.#length)
    return this
  }

  /** Appends a 64-bit integer. */
  int64(value: bigint): this {
    this.#room(8)
    this.#length = this.#buffer.writeBigInt64BE(value, this.#length)
    return this
  }

  /** Appends a nullable string. */
  string(value: string | null): this {
    if (value === null) return this.int16(-1)
    const bytes = Buffer.byteLength(value)
    this.int16(bytes)
    this.#room(bytes)
    this.#length += this.#buffer.write(value, this.#length)
    return this
  }

  /** Appends an unsigned number of a flexible version (KIP-482): 7 bits a byte, low bits first. */
  uvarint(value: number): this {
    let rest = value
    for (; rest > 0x7f; rest >>>= 7) this.int8((((rest & 0x7f) | 0x80) << 24) >> 24)
    return this.int8(rest)
  }

  /** Appends a string of a flexible version. */
  compactString(value: string): this {
    return this.uvarint(Buffer.byteLength(value) + 1).bytes(Buffer.from(value))
  }

  /** Appends bytes as they are. */
  bytes(value: Buffer): this {
    this.#room(value.length)
    this.#buffer.set(value, this.#length)
    this.#length += value.length
    return this
  }

  /** The bytes that were written since the last call. */
  take(): Buffer {
    const taken = this.#buffer.subarray(this.#start, this.#length)
    this.#start = this.#length
    return taken
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return
    const written = this.#length - this.#start
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, written + bytes))
    this.#buffer.copy(grown, 0, this.#start, this.#length)
    this.#buffer = grown
    this.#start = 0
    this.#length = written
  }
}

/** Reads the body of a response. Throws a RangeError if the bytes end too early. */
export class WireReader {
  readonly #buffer: Buffer
  #offset = 0

  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  /** Reads one byte. */
  int8(): number {
    return this.#buffer.readInt8(this.#advance(1))
  }

  /** Reads a 16-bit integer. */
  int16(): number {
    return this.#buffer.readInt16BE(this.#advance(2))
  }

  /** Reads a 32-bit integer. */
  int32(): number {
    return this.#buffer.readInt32BE(this.#advance(4))
  }

  /** Reads a 64-bit integer. */
  int64(): bigint {
    const at = this.#advance(8)
    const high = this.#buffer.readInt32BE(at)
    // Almost all offsets are this small, and `readBigInt64BE` makes four BigInts for one.
    if (high >= 0 && high < 1 << 20) return BigInt(high * 2 ** 32 + this.#buffer.readUInt32BE(at + 4))
    return this.#buffer.readBigInt64BE(at)
  }

  /** Goes past bytes that nobody needs. */
  skip(bytes: number): void {
    this.#advance(bytes)
  }

  /** Goes past a nullable string. */
  skipString(): void {
    this.#advance(Math.max(0, this.int16()))
  }

  /** Reads a nullable string. */
  string(): string | null {
    const length = this.int16()
    if (length < 0) return null
    const start = this.#advance(length)
    return this.#buffer.toString('utf8', start, start + length)
  }

  /** Reads an unsigned number of a flexible version (KIP-482). */
  uvarint(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.#buffer.readUInt8(this.#advance(1))
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
      if (shift > 28) throw new RangeError('a number is too long')
    }
  }

  /** Reads a nullable string of a flexible version. */
  compactString(): string | null {
    const length = this.uvarint() - 1
    if (length < 0) return null
    const start = this.#advance(length)
    return this.#buffer.toString('utf8', start, start + length)
  }

  /** Reads an array of a flexible version; a null array is an empty one. */
  compactArray<T>(element: (reader: this) => T): T[] {
    const length = this.uvarint() - 1
    const elements: T[] = []
    for (let i = 0; i < length; i++) elements.push(element(this))
    return elements
  }

  /** Reads 16 bytes, as hexadecimal digits. */
  uuid(): string {
    const start = this.#advance(16)
    return this.#buffer.toString('hex', start, start + 16)
  }

  /** Skips the tagged fields that end each part of a flexible version. */
  tags(): void {
    for (let left = this.uvarint(); left > 0; left--) {
      this.uvarint()
      this.#advance(this.uvarint())
    }
  }

  /** Reads an array. A null array is read as an empty one. */
  array<T>(element: (reader: this) => T): T[] {
    const length = this.int32()
    const elements: T[] = []
    for (let i = 0; i < length; i++) elements.push(element(this))
    return elements
  }

  #advance(bytes: number): number {
    const at = this.#offset
    this.#offset += bytes
    if (this.#offset > this.#buffer.length) throw new RangeError('the response ends too early')
    return at
  }
}

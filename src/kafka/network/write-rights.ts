import { isUnauthorized, kafkaErrorName, kafkaErrors } from '../protocol/kafka-error.ts'
import { decodeProduce, encodeEmptyProduce } from '../protocol/requests.ts'
import type { BrokerConnection } from './transport.ts'

/**
 * The rights that the credentials of a stream lack, as far as the cluster tells. No record is risked to find out. Metadata tells whether the
 * topic may be written to (KIP-430). If metadata does not tell, or if a leader has refused a write, the leader is asked by a produce request
 * without a record. While a right is missing, nothing is written, and the records wait until an operator has given the right.
 */
export class WriteRights {
  readonly #topic: string
  readonly #onChange: () => void
  readonly #needsIdentity: boolean
  /** Whether the topic may be written to, as metadata says; null: metadata does not tell. */
  #fromMetadata: boolean | null = null
  /** A leader has answered a produce request, and its answer was not a lack of rights. */
  #isProved = false
  /** The error with which a leader has refused a write for a missing right; null: no leader has, or a leader has taken writes since. */
  #refusal: number | null = null
  /** The error with which a broker has refused a producer id, or a write under one; null: none has, or a broker has given an id since. */
  #identityRefusal: number | null = null
  #isAsking = false

  /**
   * @param onChange is called when a right becomes known, or changes.
   * @param needsIdentity the stream asks brokers for producer ids.
   */
  constructor(topic: string, onChange: () => void, needsIdentity: boolean) {
    this.#topic = topic
    this.#onChange = onChange
    this.#needsIdentity = needsIdentity
  }

  /** The right that is missing; null: no right is known to be missing. */
  get missing(): MissingRight | null {
    if (this.#fromMetadata === false || this.#refusal !== null) {
      const code = this.#refusal ?? kafkaErrors.topicAuthorizationFailed
      return { right: `WRITE on topic ${this.#topic}`, errorCode: code, kafkaError: kafkaErrorName(code) }
    }
    if (this.#identityRefusal === null) return null
    const right = `IDEMPOTENT_WRITE on the cluster (or WRITE on topic ${this.#topic}, from Kafka 2.8 on)`
    return { right, errorCode: this.#identityRefusal, kafkaError: kafkaErrorName(this.#identityRefusal) }
  }

  /** The cluster has said whether the topic may be written to. */
  get isKnown(): boolean {
    return this.#fromMetadata !== null || this.#isProved || this.#refusal !== null
  }

  /** Metadata was looked at. @param mayWrite null: metadata does not tell. */
  metadataSays(mayWrite: boolean | null): void {
    const before = this.#fromMetadata
    this.#fromMetadata = mayWrite
    if (mayWrite !== before) this.#onChange()
  }

  /** A broker refused a write. @param errorCode any error. An error that is not one of authorization shows that writing is permitted. */
  answered(errorCode: number): void {
    const before = this.missing
    if (!isUnauthorized(errorCode)) {
      this.#isProved = true
      this.#refusal = null
      // Nobody asks for an identity that would show the right to it again: what is asked again is the write.
    } else if (errorCode === kafkaErrors.topicAuthorizationFailed || !this.#needsIdentity)
      this.#refusal = errorCode
    else this.#identityRefusal = errorCode
    if (before?.kafkaError !== this.missing?.kafkaError) this.#onChange()
  }

  /** A broker gave a producer id. */
  identified(): void {
    if (this.#identityRefusal === null) return
    this.#identityRefusal = null
    this.#onChange()
  }

  /** Asks the leader of a partition about the right, if nothing else has told. Calls that come before the answer do nothing. */
  ask(connection: BrokerConnection, partition: number): void {
    const isOpen = this.#refusal !== null || (this.#fromMetadata === null && !this.#isProved)
    if (!isOpen || this.#isAsking) return
    this.#isAsking = true
    askToWrite(connection, this.#topic, partition, (errorCode) => {
      this.#isAsking = false
      if (errorCode === null) return
      this.answered(errorCode)
      this.#onChange()
    })
  }
}

/** What an operator has to permit. */
export interface MissingRight {
  /** The operation and the resource, as Kafka's ACLs name them. */
  readonly right: string
  readonly errorCode: number
  /** The name of {@link errorCode}. */
  readonly kafkaError: string
}

/**
 * Asks a broker whether a topic may be written to, without writing a record.
 * @param onAnswer gets the error of the answer, which is never `none`. null: the connection ended, or is about to, since the answer has no result.
 */
export function askToWrite(
  connection: BrokerConnection,
  topic: string,
  partition: number,
  onAnswer: (errorCode: number | null) => void,
): void {
  connection.call(
    encodeEmptyProduce(topic, partition),
    (payload) => {
      let errorCode: number | null = null
      try {
        const [result] = decodeProduce(payload).results
        if (result === undefined) throw new RangeError('the answer has no result')
        errorCode = result.errorCode
      } finally {
        // An answer that ends too early is none, and ends the connection.
        onAnswer(errorCode)
      }
    },
    (error) => {
      onAnswer(null)
      connection.destroy(error)
    },
  )
}

/**
 * Whether a broker tells a debugging replica where its log ends (`ListOffsetsRequest.DEBUGGING_REPLICA_ID`), as Kafka does.
 * There are brokers that ignore who asks and answer the high watermark. By their answer everything would count as
 * replicated at once.
 *
 * An answer beyond a high watermark that was told after it proves that the broker tells the log end. An answer that is short
 * of what the log must hold shows that it does not: three of them, and no proof in between, decide. Until one or the other,
 * nobody knows.
 */
export class LogEndProof {
  #isTold: boolean | null = null
  #shortAnswers = 0

  /** Null: not known. */
  get isTold(): boolean | null {
    return this.#isTold
  }

  /** Another broker answers from now on: nothing that is known holds for that broker. */
  forget(): void {
    this.#isTold = null
    this.#shortAnswers = 0
  }

  /** An answer was beyond the high watermark that was told after it. */
  beyond(): void {
    this.#isTold ??= true
    this.#shortAnswers = 0
  }

  /** An answer was short of what was written, or was an error. @returns whether that decides. */
  short(): boolean {
    if (this.#isTold === false || ++this.#shortAnswers < shortAnswersThatDecide) return false
    this.#isTold = false
    return true
  }
}

/** One can be a topic that was made anew between two answers. */
const shortAnswersThatDecide = 3

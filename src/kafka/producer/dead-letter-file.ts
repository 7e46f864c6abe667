import { closeSync, fsyncSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'

/** A record that Kafka refused for good, as the file has it. Text is UTF-8, since events are. */
export interface DeadLetter {
  readonly at: string
  readonly stream: string
  readonly topic: string
  readonly partition: number
  readonly reason: string
  /** Kafka's error; null where it was no broker's answer. */
  readonly kafkaError: string | null
  readonly mayBeStored: boolean
  readonly timestampMs: number
  readonly key: string | null
  readonly value: string
}

/**
 * Dead letters of one stream in `dead-letters/STREAM.ndjson` of the data folder, one a line, on disk when `append`
 * returns. The file is only ever appended to; whoever has dealt with its lines may move it away at any time. Writing
 * blocks, since it is rare and nothing may come between it and the outcome.
 */
export class DeadLetterFile {
  readonly #folder: string
  readonly #file: string

  constructor(dataDir: string, stream: string) {
    this.#folder = join(dataDir, 'dead-letters')
    this.#file = join(this.#folder, `${stream}.ndjson`)
  }

  /** @throws Error of node:fs if the lines are not on disk: disk full, no permission. */
  append(letters: readonly DeadLetter[]): void {
    mkdirSync(this.#folder, { recursive: true })
    const file = openSync(this.#file, 'a', 0o600)
    try {
      writeSync(file, letters.map((letter) => `${JSON.stringify(letter)}\n`).join(''))
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
  }
}

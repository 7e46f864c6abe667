import fs from 'node:fs'
import * as realFiles from 'node:fs/promises'
import { dirname, join } from 'node:path'

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

/** What of `node:fs/promises` a dead-letter file needs, so that a test can make the disk fail. */
export type Files = Pick<typeof realFiles, 'mkdir' | 'open'>

/**
 * Dead letters of one stream in `dead-letters/STREAM.ndjson` of the data folder, one a line. When `append` has ended, all of
 * its letters are on disk, under a name that is on disk, or none is. The file is only ever appended to; whoever has dealt
 * with its lines may move it away at any time. Letters are written in the order in which they were given.
 */
export class DeadLetterFile {
  readonly #folder: string
  readonly #file: string
  readonly #files: Files
  #last: Promise<void> = Promise.resolve()
  #underWay = 0

  constructor(dataDir: string, stream: string, files: Files = realFiles) {
    this.#folder = join(dataDir, 'dead-letters')
    this.#file = join(this.#folder, `${stream}.ndjson`)
    this.#files = files
  }

  /** @throws Error of node:fs if the letters are not on disk: disk full, no permission. */
  async append(letters: readonly DeadLetter[]): Promise<void> {
    const text = letters.map(lineOf).join('')
    const written = this.#last.then(async () => await this.#write(text))
    this.#last = written.catch(() => {})
    this.#underWay++
    try {
      await written
    } finally {
      this.#underWay--
    }
  }

  /**
   * As {@link append}, and blocks: for a process that ends at once.
   * @throws Error also where letters are being written: a disk that hangs must not hold up the end.
   */
  appendNow(letters: readonly DeadLetter[]): void {
    if (this.#underWay > 0) throw new Error('the disk has not taken the letters before')
    fs.mkdirSync(this.#folder, { recursive: true })
    const fd = fs.openSync(this.#file, 'a', 0o600)
    try {
      const { size } = fs.fstatSync(fd)
      try {
        fs.writeFileSync(fd, letters.map(lineOf).join(''))
        fs.fsyncSync(fd)
      } catch (error) {
        fs.ftruncateSync(fd, size)
        throw error
      }
    } finally {
      fs.closeSync(fd)
    }
  }

  async #write(text: string): Promise<void> {
    await this.#files.mkdir(this.#folder, { recursive: true })
    const file = await this.#files.open(this.#file, 'a+', 0o600)
    try {
      const { size } = await file.stat()
      // What a crash tore has no end: the next letter does not become a part of it.
      const bytes = Buffer.from((await endsInLine(file, size)) ? text : `\n${text}`)
      let written = 0
      try {
        while (written < bytes.length) {
          const { bytesWritten } = await file.write(bytes, written, bytes.length - written)
          if (bytesWritten === 0) throw Object.assign(new Error('the disk took nothing'), { code: 'ENOSPC' })
          written += bytesWritten
        }
        await file.sync()
      } catch (error) {
        await cutOut(file, size, written)
        throw error
      }
    } finally {
      await file.close()
    }
    await this.#sync(this.#folder)
    await this.#sync(dirname(this.#folder))
  }

  async #sync(folder: string): Promise<void> {
    const opened = await this.#files.open(folder, 'r')
    try {
      await opened.sync()
    } finally {
      await opened.close()
    }
  }
}

function lineOf(letter: DeadLetter): string {
  return `${JSON.stringify(letter)}\n`
}

/** Takes a part of a letter away again, unless somebody else has written behind it. */
async function cutOut(file: realFiles.FileHandle, size: number, written: number): Promise<void> {
  try {
    if ((await file.stat()).size === size + written) await file.truncate(size)
  } catch {
    // The letter counts as not kept; the next one begins a line of its own.
  }
}

async function endsInLine(file: realFiles.FileHandle, size: number): Promise<boolean> {
  if (size === 0) return true
  const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, size - 1)
  return bytesRead === 0 || buffer[0] === 0x0a
}

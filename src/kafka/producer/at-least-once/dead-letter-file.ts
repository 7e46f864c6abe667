import fs from 'node:fs'
import * as realFiles from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** A line of the file: a record that Kafka refused for good. Key and value are texts, since events are UTF-8. */
export interface DeadLetter {
  readonly at: string
  readonly stream: string
  readonly topic: string
  readonly partition: number
  readonly reason: string
  /** Kafka's name of the error; null if no broker refused the record. */
  readonly kafkaError: string | null
  readonly mayBeStored: boolean
  readonly timestampMs: number
  readonly key: string | null
  readonly value: string
  /** The record's own headers, by name. */
  readonly headers: Readonly<Record<string, string>>
}

/** The part of `node:fs/promises` that a dead-letter file needs. A test can pass a disk that fails. */
export type Files = Pick<typeof realFiles, 'mkdir' | 'open'>

/**
 * The dead letters of one stream, in `dead-letters/STREAM.ndjson` of the data folder, one a line. When `append` has ended, all of its letters
 * are on disk, and so is the name of the file, or none of the letters counts as kept. The file is only appended to. An operator may move the
 * file away at any time. Letters are written in the order of the calls.
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

  /** Writes letters and waits until they are on disk. @throws Error of node:fs if they are not, such as for a full disk. */
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
   * As {@link append}, but blocks: for a process that ends at once.
   * @throws Error also while other letters are being written, since a disk that hangs must not hold up the end.
   */
  appendNow(letters: readonly DeadLetter[]): void {
    if (this.#underWay > 0) throw new Error('the disk has not taken the letters before')
    fs.mkdirSync(this.#folder, { recursive: true })
    const fd = fs.openSync(this.#file, 'a+', 0o600)
    let isNew: boolean
    try {
      const { size } = fs.fstatSync(fd)
      isNew = size === 0
      const last = Buffer.from('\n')
      if (size > 0) fs.readSync(fd, last, 0, 1, size - 1)
      try {
        fs.writeFileSync(fd, `${isLineEnd(last) ? '' : '\n'}${letters.map(lineOf).join('')}`)
        fs.fsyncSync(fd)
      } catch (error) {
        fs.ftruncateSync(fd, size)
        throw error
      }
    } finally {
      fs.closeSync(fd)
    }
    if (isNew) for (const folder of [this.#folder, dirname(this.#folder)]) syncNow(folder)
  }

  async #write(text: string): Promise<void> {
    await this.#files.mkdir(this.#folder, { recursive: true })
    const file = await this.#files.open(this.#file, 'a+', 0o600)
    try {
      const { size } = await file.stat()
      // A crash may have left a line without its end. The next letter must not become a part of that line.
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

/** Removes the bytes of letters that were written in part, unless somebody else has written behind them. */
async function cutOut(file: realFiles.FileHandle, size: number, written: number): Promise<void> {
  try {
    if ((await file.stat()).size === size + written) await file.truncate(size)
  } catch {
    // The letters count as not kept. The next letter begins a line of its own.
  }
}

async function endsInLine(file: realFiles.FileHandle, size: number): Promise<boolean> {
  if (size === 0) return true
  const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, size - 1)
  return bytesRead === 0 || isLineEnd(buffer)
}

function isLineEnd(byte: Buffer): boolean {
  return byte[0] === 0x0a
}

function syncNow(folder: string): void {
  const fd = fs.openSync(folder, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

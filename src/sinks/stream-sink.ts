import type { Writable } from 'node:stream'
import { Breakable, type Sink } from './sink.ts'
import { ndjsonLine } from './ndjson.ts'

/** Writes records to a stream, as fast as its reader takes them. A record is processed when its line has left this process. */
export function streamSink(stream: Writable): Sink {
  const pipe = new Breakable()
  const ended = new Promise<string>((resolve) => {
    stream.on('error', (error) => {
      pipe.breakOff(error)
      resolve(`the reader is gone: ${error.message}`)
    })
  })
  return {
    process: async (records, { processed, signal }) => {
      const lines = records.map(ndjsonLine)
      await pipe.do((done, fail) => writeLines(stream, lines, { processed, done, fail }), signal)
    },
    ended,
    async close() {},
  }
}

/** Writes lines. `processed` is called for each line when it has left this process. */
export function writeLines(
  stream: Writable,
  lines: readonly string[],
  {
    processed,
    done,
    fail,
  }: { processed: (count: number) => void; done: () => void; fail: (error: Error) => void },
): void {
  let count = 0
  for (const line of lines) {
    stream.write(line, (error) => {
      if (error !== null && error !== undefined) return fail(error)
      processed(++count)
      if (count === lines.length) done()
    })
  }
}

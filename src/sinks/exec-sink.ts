import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { Breakable, type Sink } from './sink.ts'
import { ndjsonLine } from './ndjson.ts'
import { writeLines } from './stream-sink.ts'

/**
 * Runs one command for as long as the consumer runs, and writes records to its standard input.
 *
 * Without acknowledgment a record is processed when its line is in the pipe; a command that dies takes along what it had
 * not read. With acknowledgment it is processed when the command has written a line of its own, whatever it says, to its
 * standard output: one for each record, in order.
 */
export function execSink(command: string, { acknowledged }: { acknowledged: boolean }): Sink {
  const child = spawn(command, {
    shell: true,
    stdio: ['pipe', acknowledged ? 'pipe' : 'inherit', 'inherit'],
    // A group of its own: Ctrl-C is for the consumer, which ends the command's input when it has written what it polled.
    detached: true,
  })
  const stdin = child.stdin!
  const pipe = new Breakable()
  let onAnswer: () => void = () => {}
  if (child.stdout !== null) createInterface(child.stdout).on('line', () => onAnswer())
  // The exit says more than the pipe that breaks with it.
  stdin.on('error', () => {})
  const ended = new Promise<string>((resolve) => {
    const end = (reason: string): void => {
      pipe.breakOff(new Error(reason))
      resolve(reason)
    }
    child.once('error', (error) => end(`the command could not be run: ${error.message}`))
    // Not `exit`: what it answered before is still to be read.
    child.once('close', (code, signal) =>
      end(code === null ? `the command was ended by ${signal}` : `the command ended with exit code ${code}`),
    )
  })
  return {
    process: async (records, { processed, signal }) => {
      const lines = records.map(ndjsonLine)
      await pipe.do((done) => {
        if (!acknowledged) {
          writeLines(stdin, lines, { processed, done, fail: () => {} })
          return
        }
        let answers = 0
        onAnswer = () => {
          processed(++answers)
          if (answers === lines.length) done()
        }
        stdin.write(lines.join(''))
      }, signal)
    },
    ended,
    async close(signal) {
      stdin.end()
      const kill = (): void => killGroup(child)
      signal.addEventListener('abort', kill)
      if (signal.aborted) kill()
      await ended
    },
  }
}

/** The shell and what it has started. */
function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // All of it has ended.
  }
}

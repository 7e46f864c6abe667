import { spawn, type ChildProcess } from 'node:child_process'
import { Breakable, type Sink } from './sink.ts'
import { ndjsonLine } from './ndjson.ts'
import { writeLines } from './stream-sink.ts'

/**
 * Runs one command for as long as the consumer runs, and writes records to its standard input.
 *
 * Without acknowledgment a record is processed when its line is in the pipe. If the command dies, the lines that it had not
 * read are lost. With acknowledgment a record is processed when the command has written one line to its standard output, with
 * any text. The command writes one line a record, in the order of the records.
 * @param onSilence is called once, if the command has answered nothing for ten seconds while it had records.
 */
export function execSink(
  command: string,
  { acknowledged, onSilence }: { acknowledged: boolean; onSilence: (silentMs: number) => void },
): Sink {
  const child = spawn(command, {
    shell: true,
    stdio: ['pipe', acknowledged ? 'pipe' : 'inherit', 'inherit'],
    // A process group of its own, so that Ctrl-C reaches the consumer only. The consumer ends the input of the command.
    detached: true,
  })
  const stdin = child.stdin!
  const pipe = new Breakable()
  let isSilenceTold = false
  const tellSilence = (): void => {
    if (!isSilenceTold) onSilence(silentMs)
    isSilenceTold = true
  }
  let onAnswer: () => void = () => {}
  // Not by lines of readline: newer ones also end at U+2028, which an echoed record may have in it.
  child.stdout?.on('data', (data: Buffer) => {
    for (let at = data.indexOf(newline); at !== -1; at = data.indexOf(newline, at + 1)) onAnswer()
  })
  let onEnd: (reason: string) => void = () => {}
  const ended = new Promise<string>((resolve) => (onEnd = resolve))
  const end = (reason: string): void => {
    pipe.breakOff(new Error(reason))
    onEnd(reason)
  }
  // The pipe breaks when the command exits, and the reason comes with the exit. A command can also close its input and go on.
  stdin.on('error', () => void setTimeout(end, exitsWithinMs, 'the command has closed its input').unref())
  const gone = new Promise<void>((isGone) => {
    child.once('error', (error) => {
      end(`the command could not be run: ${error.message}`)
      isGone()
    })
    // `close` and not `exit`: at `exit` the answers of the command may not have been read yet.
    child.once('close', (code, signal) => {
      end(code === null ? `the command was ended by ${signal}` : `the command ended with exit code ${code}`)
      isGone()
    })
  })
  return {
    process: async (records, { processed, signal }) => {
      const lines = records.map(ndjsonLine)
      if (!acknowledged) {
        await pipe.do((done) => writeLines(stdin, lines, { processed, done, fail: () => {} }), signal)
        return
      }
      const silence = setTimeout(tellSilence, silentMs)
      try {
        await pipe.do((done) => {
          let answers = 0
          onAnswer = () => {
            silence.refresh()
            processed(++answers)
            if (answers === lines.length) done()
          }
          stdin.write(lines.join(''))
        }, signal)
      } finally {
        clearTimeout(silence)
      }
    },
    ended,
    async close(signal) {
      stdin.end()
      const kill = (): void => killGroup(child)
      signal.addEventListener('abort', kill)
      if (signal.aborted) kill()
      await gone
    },
  }
}

const newline = 0x0a
/** So long the exit of a command that takes no more input is waited for, in milliseconds. */
const exitsWithinMs = 500
/** A command that says nothing for so long most likely does not know that it has to answer, or does not flush its answers. */
const silentMs = 10_000

/** Kills the shell and the processes that it has started. */
function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // The processes have ended already.
  }
}

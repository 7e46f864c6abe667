import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { errorTable, type ErrorCode } from '../errors.ts'
import type { LiveEvent } from '../live-events.ts'
import { adminKey, AskError, askGateway, readGatewayUrl, whyNoAnswer, whyRefused } from './ask-gateway.ts'
import { readCommandLine, wholeNumber } from './command-line.ts'

const tailUsage = `usage: chute tail [--stream NAME] [--rejected] [--code CODE] [--json] [--url URL | --port N]

Shows the last events that a gateway has refused, and then each event that it takes or refuses, until Ctrl-C: the time, what became
of the event, its stream, how it came, and its first 200 bytes. A refused event has the reason, and what to do.

  --stream NAME         events of this stream only
  --rejected            refused events only
  --code CODE           events that were refused with this code only, such as invalid_event
  --json                NDJSON: all that is known of each event
  --url URL             the gateway: the address of its live page, which is on ADMIN_PORT where that is set
  --port N              a port of 127.0.0.1. Left out: ADMIN_PORT or PORT of the environment, or 8080. Where TLS_CERT or
                        TLS_CERT_FILE is set, the port is asked by https unless it is ADMIN_PORT, and any certificate is taken

A certificate of an authority of your own, with --url: NODE_EXTRA_CA_CERTS names a file that has the authority.

Where the live page needs an admin key: CHUTE_ADMIN_KEY has it, or CHUTE_ADMIN_KEY_FILE names a file that has it.
`

/**
 * `chute tail`: shows in a terminal what the live page shows of events, from `/live/events` of a gateway. It reads no configuration, and
 * needs no Kafka.
 * @returns the exit code of the process: 0 when a signal ended it, or when nobody reads its output any more; 1 if the gateway cannot be
 * read, or has ended the reply; 2 for a wrong command line.
 */
export async function runTailCommand(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const commandLine = readCommandLine(argv, tailUsage, (words) => readTailArguments(words, env))
  if (typeof commandLine === 'number') return commandLine
  const end = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => end.abort())
  // `chute tail | head` has had enough.
  process.stdout.on('error', () => end.abort())
  try {
    await follow(commandLine, adminKey(env), end.signal)
    throw new AskError(`${commandLine.url.origin} has ended the reply: the gateway leaves.`)
  } catch (error) {
    if (end.signal.aborted) return 0
    if (!(error instanceof AskError)) throw error
    process.stderr.write(`${error.message}\n`)
    return 1
  }
}

interface TailCommandLine {
  readonly url: URL
  /** false: any certificate is taken, since the gateway is on this machine and was named by its port. */
  readonly verify: boolean
  /** null: of all streams. */
  readonly stream: string | null
  readonly code: ErrorCode | null
  readonly rejected: boolean
  readonly json: boolean
}

/** @throws Error that says what is wrong with the command line. */
function readTailArguments(argv: readonly string[], env: NodeJS.ProcessEnv): TailCommandLine {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      stream: { type: 'string' },
      rejected: { type: 'boolean', default: false },
      code: { type: 'string' },
      json: { type: 'boolean', default: false },
      url: { type: 'string' },
      port: { type: 'string' },
    },
  })
  const { stream = null, rejected, code = null, json, url, port } = values
  if (url !== undefined && port !== undefined) throw new Error('--url and --port cannot both be given')
  if (code !== null && !Object.hasOwn(errorTable, code))
    throw new Error(`--code must be a code of openapi.yaml, such as invalid_event, got ${code}`)
  const portOfGateway = port ?? (env['ADMIN_PORT'] || env['PORT'] || '8080')
  const name = port === undefined ? 'PORT' : '--port'
  const base =
    url === undefined
      ? urlOfPort(wholeNumber(name, portOfGateway, 1, 65_535), env)
      : readGatewayUrl('--url', url)
  return {
    url: new URL('/live/events', base),
    verify: url !== undefined,
    stream,
    rejected: rejected || code !== null,
    code: code as ErrorCode | null,
    json,
  }
}

/** The port of a gateway on this machine. `ADMIN_PORT` never speaks TLS. */
function urlOfPort(port: number, env: NodeJS.ProcessEnv): URL {
  const isTls = Boolean(env['TLS_CERT'] || env['TLS_CERT_FILE']) && String(port) !== env['ADMIN_PORT']
  return new URL(`${isTls ? 'https' : 'http'}://127.0.0.1:${port}`)
}

/** Prints events until the gateway ends the reply. @throws AskError */
async function follow(commandLine: TailCommandLine, key: string | null, signal: AbortSignal): Promise<void> {
  const { url, verify } = commandLine
  const silence = new AbortController()
  const listen = (): NodeJS.Timeout => setTimeout(() => silence.abort(), silentMs)
  let timer = listen()
  let isOpen = false
  try {
    const reply = await askGateway(url, {
      key,
      accept: 'text/event-stream',
      verify,
      signal: AbortSignal.any([signal, silence.signal]),
    })
    if (reply.statusCode !== 200) {
      const notFound = 'Where ADMIN_PORT is set, they are on that port: --port N.'
      throw new AskError(await whyRefused(url, reply, { key, wants: 'shows no events', notFound }))
    }
    isOpen = true
    let left = ''
    for await (const chunk of reply.setEncoding('utf8') as AsyncIterable<string>) {
      clearTimeout(timer)
      const messages = (left + chunk).split('\n\n')
      left = messages.pop()!
      for (const message of messages) await take(message, commandLine, signal)
      // While the reader of the output is slow, nobody listens to the gateway.
      timer = listen()
    }
  } catch (error) {
    if (error instanceof AskError || signal.aborted) throw error
    if (silence.signal.aborted)
      throw new AskError(
        `${url.origin} has said nothing for ${silentMs / 1_000} s, not even that it is there.`,
      )
    if (isOpen)
      throw new AskError(
        `${url.origin} has broken off the reply (${whyNoAnswer(error)}): it is gone, or this output was read too slowly.`,
      )
    throw new AskError(
      `${url.origin} does not answer: ${whyNoAnswer(error)}\nIs the gateway there? --url or --port names another one.`,
    )
  } finally {
    clearTimeout(timer)
  }
}

/** Takes one message of the event stream (HTML standard, section 9.2.6). A comment has no data. */
async function take(message: string, commandLine: TailCommandLine, signal: AbortSignal): Promise<void> {
  const { stream, code, rejected, json, url } = commandLine
  const data = /^data: (.*)$/m.exec(message)?.[1]
  if (data === undefined) return
  if (/^event: hello$/m.test(message)) {
    const { streams } = JSON.parse(data) as { readonly streams: readonly string[] }
    if (stream !== null && !streams.includes(stream))
      throw new AskError(`${url.origin} has no stream ${stream}. It has ${streams.join(', ')}.`)
    return
  }
  for (const event of JSON.parse(data) as ToldEvent[]) {
    if (stream !== null && event.stream !== stream) continue
    if (rejected && event.fate !== 'refused') continue
    if (code !== null && event.code !== code) continue
    await print(json ? JSON.stringify(event) : lineOf(event), signal)
  }
}

type ToldEvent = LiveEvent & { readonly wayOut: string | null }

async function print(line: string, signal: AbortSignal): Promise<void> {
  // Nothing more is read while the reader of the output is slow. The gateway cuts off one that is too slow.
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain', { signal })
}

/** One line of an event. The gateway has escaped what a client sent, so that no text moves the cursor or begins another line. */
function lineOf(event: ToldEvent): string {
  const {
    timeMs,
    fate,
    stream,
    path,
    transport,
    origin,
    key,
    code,
    detail,
    reply,
    index,
    events,
    text,
    wayOut,
  } = event
  const nth = index === null || events === null || events === 1 ? [] : [`event ${index + 1} of ${events}`]
  const parts = [
    new Date(timeMs).toISOString().slice(11, 24),
    code === null ? fate.padEnd(9) : `refused   ${code}`,
    stream ?? path ?? '-',
    transport,
    ...(origin === null ? [] : [`from ${origin}`]),
    ...(key === null ? [] : [`key ${key}`]),
    ...nth,
    ...(reply === null || reply === code ? [] : [`request refused: ${reply}`]),
    ...(detail === null ? [] : [`| ${detail}`]),
    ...(text === null ? [] : [`| ${text}`]),
    ...(wayOut === null ? [] : [`| do: ${wayOut}`]),
  ]
  return parts.join(' ')
}

/** The gateway says every 15 s that it is there. */
const silentMs = 45_000

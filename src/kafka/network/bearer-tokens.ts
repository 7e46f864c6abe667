import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { BearerConfig, TokenSourceConfig } from '../../config/kafka-login.ts'
import { mskToken } from './msk-iam.ts'

/** A token of OAUTHBEARER (RFC 7628), as a source gives it. */
export interface BearerToken {
  readonly value: string
  /** When the token ends, by `Date.now()`; null: the source does not say, and the token is asked for anew at each connection. */
  readonly endsAtMs: number | null
}

/** Gets a new token. @throws Error that says where the token was asked for, and why there is none. Never with a secret. */
export type TokenSource = () => Promise<BearerToken>

/**
 * The tokens with which connections to brokers log in. A token is used until a fifth of its time is left, as Kafka's own clients do
 * (`sasl.login.refresh.window.factor`). While a new one cannot be had, the old one is used to its end. Several connections that need a token
 * at the same time ask once, and none of them waits longer than `limitMs`. A token that comes later is kept for the next connection.
 *
 * Nothing here renews a session that is open: a broker ends a session with its token, and tells when (KIP-368). `broker-session.ts` makes another
 * connection before that, and that connection takes its token here.
 */
export class BearerTokens {
  readonly #source: TokenSource
  readonly #options: BearerTokensOptions
  readonly #now: () => number
  #token: BearerToken | null = null
  #refreshAtMs = 0
  #asked: Promise<BearerToken> | null = null
  /** How many times the source was asked and has not answered yet. */
  #underWay = 0

  constructor(source: TokenSource, options: BearerTokensOptions) {
    this.#source = source
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /** A token that is good now. @throws as the source does, and when the source does not answer in time. */
  async get(): Promise<string> {
    if (this.#token !== null && this.#now() < this.#refreshAtMs) return this.#token.value
    this.#asked ??= this.#ask().finally(() => (this.#asked = null))
    try {
      return (await this.#asked).value
    } catch (error) {
      const old = this.#token
      if (old !== null && old.endsAtMs !== null && this.#now() < old.endsAtMs) return old.value
      throw error
    }
  }

  async #ask(): Promise<BearerToken> {
    const { name, limitMs } = this.#options
    // A file or a program that hangs holds a thread or a process, each time that it is asked.
    if (this.#underWay >= mostUnderWay)
      throw new Error(`no token from ${name}: ${this.#underWay} earlier attempts have no answer yet`)
    let timer: NodeJS.Timeout | undefined
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`no token from ${name}: no answer within ${limitMs} ms`)),
        limitMs,
      )
    })
    try {
      return await Promise.race([this.#take(), limit])
    } finally {
      clearTimeout(timer)
    }
  }

  async #take(): Promise<BearerToken> {
    this.#underWay++
    try {
      const token = await this.#source()
      const now = this.#now()
      this.#token = token
      this.#refreshAtMs = token.endsAtMs === null ? now : now + refreshFactor * (token.endsAtMs - now)
      return token
    } finally {
      this.#underWay--
    }
  }
}

/** See {@link BearerTokens}. */
export interface BearerTokensOptions {
  /** The source, as an error calls it. */
  readonly name: string
  /** Longest wait for the source, in milliseconds. */
  readonly limitMs: number
  /** The clock. Left out: `Date.now`. */
  readonly now?: () => number
}

const refreshFactor = 0.8
const mostUnderWay = 2

const tokensOf = new WeakMap<BearerConfig, BearerTokens>()

/** The tokens of a configuration. All connections that are made with it share them. */
export function bearerTokens(config: BearerConfig): BearerTokens {
  let tokens = tokensOf.get(config)
  if (tokens === undefined) {
    const { token } = config
    tokens = new BearerTokens(tokenSource(token), { name: nameOf(token), limitMs: longestAskMs })
    tokensOf.set(config, tokens)
  }
  return tokens
}

function nameOf(config: TokenSourceConfig): string {
  switch (config.from) {
    case 'endpoint':
      return withoutQuery(config.url)
    case 'file':
      return `the file ${config.path}`
    case 'command':
      return 'KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND'
    case 'aws':
      return 'AWS'
  }
}

/** The query of an endpoint may have a secret. */
function withoutQuery(url: string): string {
  const { origin, pathname } = new URL(url)
  return `${origin}${pathname}`
}

/** Makes the source that a configuration names. */
export function tokenSource(config: TokenSourceConfig): TokenSource {
  switch (config.from) {
    case 'endpoint':
      return async () => await fromEndpoint(config)
    case 'file':
      return async () => await fromFile(config.path)
    case 'command':
      return async () => await fromCommand(config.command)
    case 'aws':
      return async () => await mskToken(config)
  }
}

/**
 * Client credentials (RFC 6749, section 4.4): one POST. A library such as openid-client would bring discovery and the checks of tokens, and needs neither here:
 * the broker checks the token.
 */
async function fromEndpoint(config: Extract<TokenSourceConfig, { from: 'endpoint' }>): Promise<BearerToken> {
  const { url, clientId, clientSecret, scope, audience } = config
  const where = `no token from ${withoutQuery(url)}`
  const form = new URLSearchParams({ grant_type: 'client_credentials' })
  if (scope !== null) form.set('scope', scope)
  if (audience !== null) form.set('audience', audience)
  const askedAtMs = Date.now()
  let reply: Response
  let text: string
  try {
    reply = await fetch(url, {
      method: 'POST',
      headers: {
        accept: 'application/json',
        // RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
        authorization: `Basic ${Buffer.from(`${formEncoded(clientId)}:${formEncoded(clientSecret)}`).toString('base64')}`,
      },
      body: form,
      redirect: 'error',
      signal: AbortSignal.timeout(askMs),
    })
    text = await reply.text()
  } catch (error) {
    const { cause, message } = error as Error
    throw new Error(`${where}: ${cause instanceof Error ? cause.message : message}`, { cause: error })
  }
  const answer = parsed(text)
  const { access_token: value, expires_in: seconds } = answer
  if (!reply.ok || typeof value !== 'string' || value === '') {
    // Section 5.2: `error` is a word of a closed set, and the description is for people.
    const { error, error_description: description } = answer
    const said = [error, description].filter((each) => typeof each === 'string').join(': ')
    throw new Error(`${where}: ${reply.status}${said === '' ? '' : ` ${said.slice(0, 200)}`}`)
  }
  const lifetimeMs = Number(seconds) * 1000
  return checked(value, where, lifetimeMs > 0 ? askedAtMs + lifetimeMs : null)
}

/** A file that somebody else keeps new, such as a projected token of Kubernetes. */
async function fromFile(path: string): Promise<BearerToken> {
  const where = `no token in the file ${path}`
  try {
    return checked((await readFile(path, 'utf8')).trim(), where)
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === undefined
      ? error
      : new Error(`${where}: ${(error as NodeJS.ErrnoException).code}`, { cause: error })
  }
}

/** A command of the shell that prints a token. */
async function fromCommand(command: string): Promise<BearerToken> {
  const where = 'no token from KAFKA_SASL_OAUTHBEARER_TOKEN_COMMAND'
  try {
    const options = { timeout: askMs, maxBuffer: mostBytes, encoding: 'utf8' } as const
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', command], options)
    return checked(stdout.trim(), where)
  } catch (error) {
    const { code, killed, stderr } = error as { code?: number | string; killed?: boolean; stderr?: string }
    if (code === undefined && killed === undefined) throw error
    const why = killed === true ? `it took longer than ${askMs} ms` : `it ended with ${String(code)}`
    const said = (stderr ?? '').trim().slice(0, 200)
    // The message of the cause has the whole command.
    // oxlint-disable-next-line eslint/preserve-caught-error
    throw new Error(`${where}: ${why}${said === '' ? '' : ` (${said})`}`)
  }
}

/** @throws Error if a text cannot be a token (RFC 6750, section 2.1). */
function checked(value: string, where: string, endsAtMs: number | null = null): BearerToken {
  if (!/^[\w.~+/-]+=*$/.test(value)) throw new Error(`${where}: what came is no bearer token`)
  return { value, endsAtMs: endsAtMs ?? endOf(value) }
}

/** The end of a token that is a JWT (RFC 7519, section 4.1.4); null: it does not say. */
function endOf(token: string): number | null {
  const claims = token.split('.')[1]
  if (claims === undefined) return null
  const { exp } = parsed(Buffer.from(claims, 'base64url').toString())
  return typeof exp === 'number' ? exp * 1000 : null
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1)
}

/** Longest wait for an endpoint and for a command. Their errors say more than that of {@link longestAskMs}. */
const askMs = 10_000
/** Longest wait for any source. */
const longestAskMs = 11_000
const mostBytes = 65_536

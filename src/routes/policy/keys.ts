import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { keyKindTraits, sha256OfKey, type HttpConfig, type KeyConfig } from '../../config/config.ts'
import { GatewayError, quoted } from '../../errors.ts'
import { keyParameter, type AccessKey, type Names } from '../http/access-key.ts'
import { clientNetwork } from '../http/client-address.ts'
import { clientCertificateName } from '../http/handshakes.ts'
import { isSameOrigin, Origins } from './origins.ts'

/** Finds the counters of a key by its name. */
type CounterOf = (name: string) => AccessKey['counter']

/** Names, of which one that ends in `*` stands for every name that begins so. */
class NamePatterns implements Names {
  readonly #names: ReadonlySet<string>
  readonly #prefixes: readonly string[]

  constructor(patterns: readonly string[]) {
    this.#names = new Set(patterns.filter((pattern) => !pattern.endsWith('*')))
    this.#prefixes = patterns
      .filter((pattern) => pattern.endsWith('*'))
      .map((pattern) => pattern.slice(0, -1))
  }

  /** Whether a name is among them. */
  has(name: string): boolean {
    return this.#names.has(name) || this.#prefixes.some((prefix) => name.startsWith(prefix))
  }
}

/**
 * Who may write, and who may look. Read this file of the folder first. A request brings its key in one of five forms: `X-Chute-Key`, `?key=`, or `Authorization`
 * with Bearer (RFC 6750, section 2.1), Basic (RFC 7617; the key is the user, or the password) or Token. The one that stands
 * first in this list counts: a browser adds an `Authorization` of its own accord where a person once logged in. A request
 * without any of them has the key that the client's certificate names. A certificate stands for no admin key: whoever signs
 * certificates of devices does not have to know who looks at the numbers.
 *
 * A key is looked up by the SHA-256 of its value. So the time of a look-up does not depend on how much of the value is right, and
 * nobody who reads the configuration can write. A refusal comes before the body is read. A preflight needs no key: a browser
 * sends none with it.
 */
export class Keys {
  #table: KeyTable
  readonly #counterOf: CounterOf
  /** Wrong keys by address. Keys have 160 bits of chance, so this is to spare the gateway the work, and the log the lines. */
  readonly #guesses = new RateLimiterMemory({ points: mostGuesses, duration: guessWindowSeconds })

  constructor(http: KeysConfig, counterOf: CounterOf) {
    this.#counterOf = counterOf
    this.#table = keyTable(http, counterOf)
  }

  /** Requests that come from now on are judged by other keys. The guesses of an address stay counted. */
  reload(http: KeysConfig): void {
    this.#table = keyTable(http, this.#counterOf)
  }

  /** Nobody needs a key. */
  get isOpen(): boolean {
    return this.#table.isOpen
  }

  /** Lets requests with events in on the routes of a scope, if their key allows it. */
  guard(app: FastifyInstance): void {
    app.decorateRequest('accessKey', null)
    app.addHook<{ Params: { stream?: string } }>('onRequest', (request, reply, done) => {
      if (this.isOpen || request.method === 'OPTIONS') return done()
      const key = this.#lookUp(request)
      if (key == null || hasEnded(key)) {
        // So that the log, the live page and the counters name a key that ended.
        request.accessKey = key ?? null
        return void this.#refuse(request, reply, { found: key, done })
      }
      request.accessKey = key
      const flaw = this.#flawOfWrite(key, request)
      done(flaw === null ? undefined : new GatewayError('key_not_allowed', flaw))
    })
  }

  /** Lets only admin keys in on the routes of a scope. */
  guardAdmin(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      if (this.isOpen) return done()
      const key = this.#lookUp(request)
      if (key == null || hasEnded(key)) {
        void this.#refuse(request, reply, { found: key, done, challenge: adminChallenge })
      } else if (keyKindTraits[key.kind].looks) done()
      else
        done(new GatewayError('key_not_allowed', `this needs an admin key, and ${key.name} is ${key.kind}`))
    })
  }

  /** Whether a request may see what only operators should. */
  isAdmin(request: FastifyRequest): boolean {
    if (this.isOpen) return true
    const key = this.#lookUp(request)
    return key != null && !hasEnded(key) && keyKindTraits[key.kind].looks
  }

  /**
   * Looks up the key of a request; most often in what its connection remembers.
   * @returns null: it has none; undefined: it has one that is not known.
   */
  #lookUp(request: FastifyRequest): AccessKey | null | undefined {
    const { headers, socket, url = '' } = request.raw
    const own = headers['x-chute-key']
    const { authorization } = headers
    const at = url.indexOf('?')
    const query = at === -1 ? '' : url.slice(at + 1)
    const known = (socket as Remembering)[remembered]
    if (
      known !== undefined &&
      known.table === this.#table &&
      known.own === own &&
      known.authorization === authorization &&
      known.query === query
    )
      return known.key
    const value = presentedKey(own, query, authorization)
    const key =
      value === null ? this.#keyOfCertificate(request) : this.#table.bySha256.get(sha256OfKey(value))
    if ((own?.length ?? 0) + query.length + (authorization?.length ?? 0) <= mostRemembered)
      (socket as Remembering)[remembered] = {
        table: this.#table,
        own,
        authorization,
        query,
        key,
        write: null,
      }
    return key
  }

  #keyOfCertificate({ raw }: FastifyRequest): AccessKey | null {
    const name = clientCertificateName(raw.socket)
    return name === null ? null : (this.#table.byCertificate.get(name) ?? null)
  }

  /** @returns why a key may not write what a request has; null: it may. */
  #flawOfWrite(key: AccessKey, request: FastifyRequest<{ Params: { stream?: string } }>): string | null {
    const { stream } = request.params
    const { headers, socket, url = '' } = request.raw
    const { origin } = headers
    const known = (socket as Remembering)[remembered]
    // A key belongs to one table, so what was allowed before a reload is found by no key behind it.
    const before = known?.key === key ? known.write : null
    if (before !== null && before.stream === stream && before.origin === origin) return null
    if (!keyKindTraits[key.kind].writes)
      return `${key.name} is an ${key.kind} key, which writes no events; use a public or a secret key`
    if (stream !== undefined && !key.streams.has(stream))
      return `${key.name} may not write to this stream; use a key of the stream, or have it added to the streams of this one`
    if (origin !== undefined && !(key.origins ?? this.#table.pages).has(origin)) {
      // Not remembered: it goes by the Host of the request.
      if (key.origins === null && isSameOrigin(request, origin)) return null
      return `pages of ${quoted(origin)} may not use ${key.name}; use a key of the page, or have it added to the origins of this one`
    }
    // The name of the stream may be a piece of the URL, and keep all of it.
    if (known?.key === key && url.length + (origin?.length ?? 0) <= mostRemembered)
      known.write = { stream, origin }
    return null
  }

  /** @param refusal.found null: no key was sent; undefined: it is not known; else it has ended. */
  async #refuse(
    request: FastifyRequest,
    reply: FastifyReply,
    { found, done, challenge = 'Bearer realm="chute"' }: Refusal,
  ): Promise<void> {
    reply.raw.setHeader(
      'www-authenticate',
      found === null ? challenge : `${challenge}, error="invalid_token"`,
    )
    if (found === null) {
      const detail = challenge === adminChallenge ? howToSendAdmin : whyNone(request) + howToSend
      return done(new GatewayError('key_missing', detail))
    }
    // Whoever has the value of a key that ended has not guessed it.
    if (found !== undefined) return done(new GatewayError('key_unknown', endOf(found)))
    done((await this.#flawOfGuess(request)) ?? new GatewayError('key_unknown', whyUnknown(request)))
  }

  /** Counts an unknown key. @returns null, or the problem of an address that has sent too many. */
  async #flawOfGuess(request: FastifyRequest): Promise<GatewayError | null> {
    try {
      await this.#guesses.consume(clientNetwork(request.ip))
      return null
    } catch (error) {
      // The library rejects with its numbers, or with an Error.
      const { msBeforeNext = 0 } = error as { readonly msBeforeNext?: number }
      const detail = `this address sent more than ${mostGuesses} unknown keys within ${guessWindowSeconds} s; a key that is known is taken from it all the same: compare yours with chute keys check KEY`
      const retryAfterSeconds = Math.max(1, Math.ceil(msBeforeNext / 1000))
      return new GatewayError('rate_limited', detail, { retryAfterSeconds })
    }
  }
}

/** What {@link Keys} goes by. `corsOrigins`: pages that may use keys without origins of their own. */
type KeysConfig = Pick<HttpConfig, 'corsOrigins' | 'keys'>

/** The keys of one configuration. A reload makes another table. */
interface KeyTable {
  /** A key may have no value: it is a client's certificate alone. */
  readonly isOpen: boolean
  readonly bySha256: ReadonlyMap<string, AccessKey>
  readonly byCertificate: ReadonlyMap<string, AccessKey>
  readonly pages: Origins
}

function keyTable(http: KeysConfig, counterOf: CounterOf): KeyTable {
  const keys = http.keys.map((config) => ({ config, key: accessKey(config, counterOf) }))
  return {
    isOpen: keys.length === 0,
    bySha256: new Map(
      keys.flatMap(({ config, key }) => config.sha256.map((sha256) => [sha256, key] as const)),
    ),
    byCertificate: new Map(
      keys.filter(({ key }) => keyKindTraits[key.kind].writes).map(({ key }) => [key.name, key] as const),
    ),
    pages: new Origins(http.corsOrigins),
  }
}

/** What a refusal needs beside the request. */
interface Refusal {
  readonly found: AccessKey | null | undefined
  readonly done: (error: Error) => void
  readonly challenge?: string
}

/**
 * The texts that a request of a connection brought, and the key that they stand for. A client that sends the same texts again does not wait
 * for SHA-256 again. A wrong key is remembered like a right one, and a text is compared only with what came over the same connection. So the
 * time of an answer tells nothing of other clients' keys; where clients share a proxy's connection, what two texts have in common makes a
 * difference of nanoseconds, and guesses are limited. A reload makes another table, and what is remembered counts no more. The end of a key
 * is looked at on each request.
 */
interface Remembered {
  readonly table: KeyTable
  readonly own: string | string[] | undefined
  readonly authorization: string | undefined
  readonly query: string
  readonly key: AccessKey | null | undefined
  /** What the key was last found to allow; null: nothing yet. */
  write: { readonly stream: string | undefined; readonly origin: string | undefined } | null
}

const remembered = Symbol('the last key of a connection')
/** Longer texts are no keys of usual clients, and would take memory for as long as the connection lasts. In characters. */
const mostRemembered = 512

/** Where a connection keeps it. */
type Remembering = FastifyRequest['raw']['socket'] & { [remembered]?: Remembered }

/** The value of a request's key, as it was sent; null: it has none. An empty value is none, and the next form counts. */
function presentedKey(
  own: string | string[] | undefined,
  query: string,
  authorization: string | undefined,
): string | null {
  const ownValue = own === undefined ? '' : String(own).trim()
  if (ownValue !== '') return ownValue
  if (query.includes(`${keyParameter}=`)) {
    const value = new URLSearchParams(query).get(keyParameter)
    if (value !== null && value !== '') return value
  }
  // Basic without a user and a password is no key either.
  return authorization === undefined ? null : credentialsOf(authorization) || null
}

function credentialsOf(authorization: string): string | null {
  const [, scheme = '', credentials = ''] = /^([\w-]+) +(\S+) *$/.exec(authorization) ?? []
  switch (scheme.toLowerCase()) {
    case 'bearer':
    case 'token':
      return credentials
    case 'basic': {
      const [user = '', password = ''] = Buffer.from(credentials, 'base64').toString().split(':', 2)
      return user === '' ? password : user
    }
    default:
      return null
  }
}

function accessKey(config: KeyConfig, counterOf: CounterOf): AccessKey {
  return {
    name: config.name,
    kind: config.kind,
    streams: new NamePatterns(config.streams),
    origins: config.origins.length === 0 ? null : new Origins(config.origins),
    sources: config.sources === null ? null : new NamePatterns(config.sources),
    notAfterMs: config.notAfterMs ?? Number.POSITIVE_INFINITY,
    limits: config.limits,
    addressLimits: config.addressLimits,
    counter: counterOf(config.name),
  }
}

function hasEnded({ notAfterMs }: AccessKey): boolean {
  // To ask for the time takes longer than to look the key up.
  return notAfterMs !== Infinity && Date.now() >= notAfterMs
}

function endOf({ name, notAfterMs }: AccessKey): string {
  return `the key ${name} ended at ${new Date(notAfterMs).toISOString()}; the operator has to give another one, or move its notAfter`
}

/** Why the certificate of a client was no key; empty: it showed none. */
function whyNone({ raw: { socket } }: FastifyRequest): string {
  // Node asks no client for a certificate without TLS_CLIENT_CA, and then no connection is authorized.
  if ((socket as { readonly authorized?: boolean }).authorized !== true) return ''
  const name = clientCertificateName(socket)
  return name === null
    ? 'the certificate of the client has no common name, or several, so it names no key; '
    : `the certificate of the client has the common name ${quoted(name)}, and no key that writes is called so; `
}

/** Nothing of the value is told. */
function whyUnknown({ raw: { headers } }: FastifyRequest): string {
  const isList = String(headers['x-chute-key'] ?? '').includes(',')
  return isList
    ? 'no key has this value; X-Chute-Key has a comma, as if it was sent twice: send it once'
    : 'no key has this value: it may be cut, ended, or of another gateway; compare it with chute keys check KEY'
}

const howToSendAdmin =
  'this needs an admin key (chute keys new --admin): send it as Authorization: Bearer KEY, as X-Chute-Key: KEY, or, in a browser, as the password without a user'
const howToSend =
  'send the key as Authorization: Bearer KEY, as X-Chute-Key: KEY, or, where no header can be set, as ?key=KEY'
/** Basic, so that a browser asks the person for the key. Not for events: a page's fetch would make the browser ask. */
const adminChallenge = 'Basic realm="chute", charset="UTF-8", Bearer realm="chute"'
const mostGuesses = 20
const guessWindowSeconds = 60

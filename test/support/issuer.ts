import { generateKeyPairSync, sign } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

/** An issuer of tokens for one client: a token endpoint and the key that brokers check tokens with (RFC 7517). */
export interface Issuer {
  readonly tokenUrl: string
  readonly jwksUrl: string
  /** Tokens that were given so far. */
  readonly given: number
  /** How long the tokens last that are given from now on. */
  lifetimeSeconds: number
  /** What the endpoint refuses every request with, from now on; null: nothing. */
  refusal: string | null
  stop(): Promise<void>
}

export const issuerClient = { id: 'gateway', secret: 'hunter2-and-more' }

/** Starts an issuer on a free port. Its tokens last a minute. */
export async function startIssuer(): Promise<Issuer> {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const keys = [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', use: 'sig', alg: 'RS256' }]
  const state = { given: 0, lifetimeSeconds: 60, refusal: null as string | null }
  const token = (): string => {
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      iss: 'https://issuer.test',
      sub: issuerClient.id,
      aud: 'kafka',
      scope: 'write',
      iat: now,
      exp: now + state.lifetimeSeconds,
      jti: String(++state.given),
    }
    const parts = [{ alg: 'RS256', kid: 'one', typ: 'JWT' }, claims]
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    return `${signed}.${sign('RSA-SHA256', Buffer.from(signed), privateKey).toString('base64url')}`
  }
  const expected = `Basic ${Buffer.from(`${issuerClient.id}:${issuerClient.secret}`).toString('base64')}`
  const server = createServer((request, response) => {
    const answer = (status: number, value: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    }
    const give = async (): Promise<void> => {
      const isAsked = new URLSearchParams(await text(request)).get('grant_type') === 'client_credentials'
      if (state.refusal !== null) answer(400, { error: state.refusal })
      else if (!isAsked || request.headers.authorization !== expected)
        answer(401, { error: 'invalid_client' })
      else answer(200, { access_token: token(), token_type: 'Bearer', expires_in: state.lifetimeSeconds })
    }
    if (request.url === '/jwks') answer(200, { keys })
    else void give()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    tokenUrl: `${url}/token`,
    jwksUrl: `${url}/jwks`,
    get given() {
      return state.given
    },
    get lifetimeSeconds() {
      return state.lifetimeSeconds
    },
    set lifetimeSeconds(seconds) {
      state.lifetimeSeconds = seconds
    },
    get refusal() {
      return state.refusal
    },
    set refusal(refusal) {
      state.refusal = refusal
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

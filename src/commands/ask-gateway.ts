import { readFileSync } from 'node:fs'
import { request as requestPlain, type IncomingMessage } from 'node:http'
import { request as requestTls } from 'node:https'
import { text } from 'node:stream/consumers'

/**
 * How commands ask a gateway that runs: its URL, its admin key, and why it did not answer. No error here has a secret: neither a key nor the user
 * of a URL.
 *
 * Reads the URL of a gateway from the command line.
 * @throws Error that does not quote the URL, since a key may be in it.
 */
export function readGatewayUrl(option: string, given: string): URL {
  if (!URL.canParse(given) || !/^https?:/.test(given))
    throw new Error(`${option} must be an http(s) URL, got ${withoutSecrets(given)}`)
  const url = new URL(given)
  if (url.username !== '' || url.password !== '' || url.searchParams.has('key'))
    throw new Error(
      `${option} has a key in it, which other users of the machine can see: set CHUTE_ADMIN_KEY instead`,
    )
  return url
}

/** A text as an error may show it: the user of each URL in it, and the value of each `key=`, are starred out. */
export function withoutSecrets(shown: string): string {
  return shown.replaceAll(/\/\/[^/?#\s'"]*@/g, '//***@').replaceAll(/([?&]key=)[^&\s'"#]*/g, '$1***')
}

/** The key of `CHUTE_ADMIN_KEY`, or of the file that `CHUTE_ADMIN_KEY_FILE` names; null: there is none. @throws AskError if the file cannot be read. */
export function adminKey(env: NodeJS.ProcessEnv): string | null {
  const { CHUTE_ADMIN_KEY: key = '', CHUTE_ADMIN_KEY_FILE: file = '' } = env
  if (key !== '') return key
  if (file === '') return null
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new AskError(`CHUTE_ADMIN_KEY_FILE names ${file}: ${(error as Error).message}`)
  }
}

/** Why a gateway cannot be asked, for the person at the terminal. */
export class AskError extends Error {}

/**
 * Sends a GET, and follows no redirect, so that a key goes to no other host.
 * @param verify false: any certificate is taken. That is for 127.0.0.1, which no certificate names.
 * @throws the error of `node:http`; `whyNoAnswer` has it in words.
 */
export async function askGateway(
  url: URL,
  {
    key = null,
    accept = 'application/json',
    verify = true,
    signal,
  }: { key?: string | null; accept?: string; verify?: boolean; signal: AbortSignal },
): Promise<IncomingMessage> {
  const request = url.protocol === 'https:' ? requestTls : requestPlain
  return await new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        headers: { accept, ...(key !== null && { authorization: `Bearer ${key}` }) },
        agent: false,
        rejectUnauthorized: verify,
        signal,
      },
      resolve,
    )
    sent.once('error', reject).end()
  })
}

/** Why a request got no answer, and the way out where TLS is the cause. */
export function whyNoAnswer(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException
  const reason = message || code
  if (/SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)/.test(code))
    return `${reason}. NODE_EXTRA_CA_CERTS names a file with the certificate of its authority`
  // OpenSSL got an answer that is not TLS.
  if (code === 'EPROTO' || /WRONG_VERSION|PACKET_LENGTH/.test(code))
    return `the port does not speak HTTPS (${code}): give its URL with http://`
  return reason
}

/** Why a gateway refused a request. @param wants what the caller wanted, such as `shows no events`. */
export async function whyRefused(
  { origin }: URL,
  reply: IncomingMessage,
  { key, wants, notFound }: { key: string | null; wants: string; notFound: string },
): Promise<string> {
  const body = await text(reply)
  const isProblem = reply.headers['content-type']?.startsWith('application/problem+json') === true
  const problem = JSON.parse(isProblem ? body : '{}') as {
    readonly code?: string
    readonly detail?: string
  }
  const { code, detail = `status ${reply.statusCode}` } = problem
  switch (code) {
    case 'key_missing':
      return `${origin} needs an admin key: set CHUTE_ADMIN_KEY, or CHUTE_ADMIN_KEY_FILE, the name of a file that has it.`
    case 'key_unknown':
    case 'key_not_allowed':
      return `${origin} does not take the key of ${key === null ? 'the request' : 'CHUTE_ADMIN_KEY'}: ${detail}.`
    case 'not_found':
      return `${origin} ${wants}: ${detail}.\n${notFound}`
    default:
      if (/speaks HTTPS/.test(detail)) return `${origin} ${wants}: ${detail}. Give its URL with https://.`
      return `${origin} ${wants}: ${detail}.`
  }
}

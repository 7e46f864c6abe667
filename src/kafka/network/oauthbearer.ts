import type { Mechanism } from 'kafkajs'
import type { BearerConfig } from '../../config/kafka-login.ts'
import { bearerTokens } from './bearer-tokens.ts'

/**
 * OAUTHBEARER for kafkajs (RFC 7628, KIP-255). kafkajs's own does not look at what the broker answers. But a broker tells in a successful answer
 * that it refuses a token: it waits for one more message of the client then, and never says why.
 */
export function oauthBearer(config: BearerConfig): Mechanism {
  return {
    mechanism: 'oauthbearer',
    authenticationProvider: ({ saslAuthenticate }) => ({
      async authenticate() {
        const token = await bearerTokens(config).get()
        const refusal = await saslAuthenticate({
          request: { encode: () => withSize(firstMessage(token, config.extensions)) },
          response: { decode: (answer) => answer.subarray(sizeBytes), parse: (answer) => answer.toString() },
        })
        if (refusal !== undefined && refusal !== '') throw refused(refusal)
      },
    }),
  }
}

/** RFC 7628, section 3.1: no authorization identity, and pairs that end in the control character 1. */
function firstMessage(token: string, extensions: BearerConfig['extensions']): string {
  const pairs = [
    `auth=Bearer ${token}`,
    ...Object.entries(extensions).map(([name, value]) => `${name}=${value}`),
  ]
  return `n,,\x01${pairs.join('\x01')}\x01\x01`
}

/** What the broker says of the token (section 3.2.2). kafkajs and `kafkajs-transport.ts` know the error by its name. */
function refused(answer: string): Error {
  const error = new Error(`SASL OAUTHBEARER: the broker refuses the token: ${answer.slice(0, 200)}`)
  error.name = 'KafkaJSSASLAuthenticationError'
  return error
}

/** kafkajs has messages and answers with their size in front, as they were before KIP-152. */
function withSize(message: string): Buffer {
  const bytes = Buffer.from(message)
  const sized = Buffer.alloc(sizeBytes + bytes.length)
  sized.writeInt32BE(bytes.length)
  bytes.copy(sized, sizeBytes)
  return sized
}

const sizeBytes = 4

import { expect, test } from 'vitest'
import type { KafkaConfig } from '../../../../src/config/config.ts'
import { describeFailure, explainFailure } from '../../../../src/kafka/network/describe-failure.ts'

const plain = { ssl: null, sasl: null }
const ssl = { ca: null, cert: null, key: null, rejectUnauthorized: true, servername: null }
const tls = { ssl, sasl: null }
const scram = { ssl, sasl: { mechanism: 'scram-sha-256', username: 'u', password: 'hunter2' } } as const
const token = {
  ssl,
  sasl: { mechanism: 'oauthbearer', token: { from: 'file', path: '/t' }, extensions: {} },
} as const

function failure(message: string, more: object = {}): Error {
  return Object.assign(new Error(message), more)
}

test.each<[string, Error, Pick<KafkaConfig, 'ssl' | 'sasl'>, RegExp]>([
  [
    'an unknown authority',
    failure('x', { code: 'SELF_SIGNED_CERT_IN_CHAIN' }),
    tls,
    /give its authority as KAFKA_SSL_CA/,
  ],
  [
    'another authority',
    failure('x', { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' }),
    { ...tls, ssl: { ...ssl, ca: 'PEM' } },
    /KAFKA_SSL_CA is not/,
  ],
  ['an old certificate', failure('x', { code: 'CERT_HAS_EXPIRED' }), tls, /renew/],
  ['a future certificate', failure('x', { code: 'CERT_NOT_YET_VALID' }), tls, /clock/],
  ['another name', failure('x', { code: 'ERR_TLS_CERT_ALTNAME_INVALID' }), tls, /KAFKA_SSL_SERVERNAME/],
  ['no certificate of ours', failure('ssl alert certificate required'), tls, /KAFKA_SSL_CERT/],
  ['an old TLS', failure('x', { code: 'ERR_SSL_UNSUPPORTED_PROTOCOL' }), tls, /TLS 1\.2/],
  ['TLS to a plain port', failure('read ECONNRESET', { code: 'ECONNRESET' }), tls, /may speak no TLS/],
  ['a wrong password', failure('x', { type: 'SASL_AUTHENTICATION_FAILED' }), scram, /KAFKA_SASL_PASSWORD/],
  ['a wrong token', failure('x', { name: 'KafkaJSSASLAuthenticationError' }), token, /issuer/],
  [
    'a wrong mechanism',
    failure('x', { type: 'UNSUPPORTED_SASL_MECHANISM' }),
    scram,
    /sasl\.enabled\.mechanisms.*not scram-sha-256/,
  ],
  ['plain text to a TLS port', failure('a:1 speaks TLS'), plain, /KAFKA_SSL=true/],
])('%s has its advice, without a secret', (_, error, kafka, advice) => {
  // kafkajs wraps an error in errors of its retries.
  const wrapped = new Error('Connection error', { cause: error })
  expect(explainFailure(wrapped, { kafka }).advice).toMatch(advice)
  expect(describeFailure(wrapped, { kafka })).not.toContain('hunter2')
})

test.each(['Closed connection', 'Connection error: read ECONNRESET'])(
  'a login in which the connection ended (%s) is no reason to look at the password',
  (end) => {
    const error = failure(`SASL PLAIN authentication failed: ${end}`, {
      name: 'KafkaJSSASLAuthenticationError',
    })
    for (const kafka of [scram, { ...scram, ssl: null }])
      expect(explainFailure(error, { kafka }).advice).toBeNull()
  },
)

test('where nothing is known, nothing is advised', () => {
  expect(explainFailure(new Error('strange'), { kafka: plain })).toEqual({ message: 'strange', advice: null })
})

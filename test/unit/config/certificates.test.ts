import { createPrivateKey } from 'node:crypto'
import { expect, test } from 'vitest'
import {
  certificatesOf,
  ownCertificates,
  rereadCertificates,
  warningsOfCertificates,
} from '../../../src/config/certificates.ts'
import { describeConfig } from '../../../src/config/describe-config.ts'
import { makeAuthority } from '../../support/certificates.ts'
import { load, problemsOf, type Files } from '../../support/config-fixture.ts'

const authority = makeAuthority()
const { cert, key } = authority.issue('gateway')
const other = authority.issue('other')
const inFiles = { TLS_CERT_FILE: '/tls/tls.crt', TLS_KEY_FILE: '/tls/tls.key' }

test('without them the event port speaks plain HTTP', () => {
  expect(load()).toMatchObject({ http: { tls: null }, pemFiles: {} })
})

test('a certificate and its key make HTTPS of the event port, and the key is masked', () => {
  const config = load({ TLS_CERT: cert, TLS_KEY: key, TLS_CLIENT_CA: authority.ca })
  expect(config.http.tls).toEqual({ cert, key, clientCa: authority.ca })
  expect(config.pemFiles).toEqual({})
  const text = describeConfig(config)
  expect(text).toMatch(/TLS_CERT: \(PEM\)\s+TLS_KEY: "\*+"\s+TLS_CLIENT_CA: \(PEM\)/)
  expect(text).not.toContain('BEGIN')
})

test('the files are known, so that they can be read again', () => {
  const config = load(inFiles, { '/tls/tls.crt': `${cert}\n`, '/tls/tls.key': key })
  expect(config.http.tls).toMatchObject({ clientCa: null })
  expect(config.pemFiles).toEqual({ TLS_CERT: '/tls/tls.crt', TLS_KEY: '/tls/tls.key' })
})

const encrypted = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBAAAAAAAAAAAAAAAAAA
-----END ENCRYPTED PRIVATE KEY-----`
const locked = (type: 'pkcs8' | 'sec1') =>
  createPrivateKey(key)
    .export({ type, format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' })
    .toString()
const garbled = cert.replace(/\n.{20}/, `\n${'A'.repeat(20)}`)

test.each<[what: string, env: NodeJS.ProcessEnv, path: string, problem: RegExp, remedy: RegExp]>([
  ['a certificate without a key', { TLS_CERT: cert }, 'TLS_KEY', /^is not set/, /needs both/],
  ['a key without a certificate', { TLS_KEY: key }, 'TLS_CERT', /^is not set/, /needs both/],
  ['authorities alone', { TLS_CLIENT_CA: authority.ca }, 'TLS_CLIENT_CA', /^is set without TLS_CERT/, /Set/],
  ['no PEM', { TLS_CERT: 'x', TLS_KEY: key }, 'TLS_CERT', /^is no PEM text/, /_FILE/],
  ['a key for a certificate', { TLS_CERT: key, TLS_KEY: key }, 'TLS_CERT', /^has no cert/, /BEGIN CERT/],
  ['a garbled certificate', { TLS_CERT: garbled, TLS_KEY: key }, 'TLS_CERT', /^has a cert.*cannot/, /PEM/],
  [
    'a certificate for a key',
    { TLS_CERT: cert, TLS_KEY: cert },
    'TLS_KEY',
    /^has no private key/,
    /BEGIN PRI/,
  ],
  ...[encrypted, locked('pkcs8'), locked('sec1')].map(
    (text) =>
      [
        'a key with a password',
        { TLS_CERT: cert, TLS_KEY: text },
        'TLS_KEY',
        /^is a key with a password/,
        /openssl pkey/,
      ] as [string, NodeJS.ProcessEnv, string, RegExp, RegExp],
  ),
  [
    "another certificate's key",
    { TLS_CERT: cert, TLS_KEY: other.key },
    'TLS_KEY',
    /^is not the key of .*TLS_CERT \(CN=gateway\)/,
    /together/,
  ],
  [
    'a chain whose own certificate comes last',
    { TLS_CERT: authority.ca + cert, TLS_KEY: key },
    'TLS_KEY',
    /CN=Test authority/,
    /comes first/,
  ],
  [
    'authorities that cannot be read',
    { TLS_CERT: cert, TLS_KEY: key, TLS_CLIENT_CA: garbled },
    'TLS_CLIENT_CA',
    /cannot be read/,
    /PEM/,
  ],
])('%s stops the start', (_what, env, path, problem, remedy) => {
  const problems = problemsOf(() => load(env))
  expect(problems).toHaveLength(1)
  expect(problems[0]).toEqual({
    path,
    problem: expect.stringMatching(problem) as string,
    remedy: expect.stringMatching(remedy) as string,
  })
  expect(JSON.stringify(problems)).not.toContain(key.split('\n')[1])
})

test('a problem names the variable that was set', () => {
  const files = { '/tls/tls.crt': cert, '/tls/tls.key': other.key }
  expect(problemsOf(() => load(inFiles, files))).toMatchObject([{ path: 'TLS_KEY_FILE' }])
})

test.each([
  ['has ended', [-90, -1], /^TLS_CERT: .*CN=gateway ended on .*renew it$/],
  ['has not begun', [1, 90], /begins on/],
  ['ends within a week', [-80, 6], /ends on .*: renew it$/],
  ['is of six days, and ends within a quarter of them', [-5, 1], /ends on/],
  ['is of six days, and has three left', [-3, 3], null],
  ['has a month left', [-60, 30], null],
] as const)(
  'a certificate that %s is no reason not to start, and is told where that is due',
  (_what, days, warning) => {
    const short = authority.issue('gateway', { days })
    const config = load({ TLS_CERT: short.cert, TLS_KEY: short.key })
    const warnings = warningsOfCertificates(ownCertificates(certificatesOf(config), config.pemFiles))
    expect(warnings).toEqual(warning === null ? [] : [expect.stringMatching(warning)])
  },
)

test('a chain ends with the first of its members', () => {
  const short = authority.issue('issuer', { days: [-1, 30] })
  const config = load({ TLS_CERT: cert + short.cert, TLS_KEY: key })
  const [own] = ownCertificates(certificatesOf(config), config.pemFiles)
  expect(own!.subject).toBe('CN=gateway')
  expect((own!.notAfterMs - Date.now()) / 86_400_000).toBeCloseTo(30, 1)
})

const tlsFiles = { TLS_CERT: '/tls.crt', TLS_KEY: '/tls.key', TLS_CLIENT_CA: '/ca.crt' }
const kafkaFiles = { KAFKA_SSL_CA: '/k-ca.crt', KAFKA_SSL_CERT: '/k.crt', KAFKA_SSL_KEY: '/k.key' }
const pemFiles = { ...tlsFiles, ...kafkaFiles }
const client = authority.issue('chute')
const good: Files = {
  '/tls.crt': cert,
  '/tls.key': key,
  '/ca.crt': authority.ca,
  '/k-ca.crt': authority.ca,
  '/k.crt': client.cert,
  '/k.key': client.key,
}
const current = certificatesOf(
  load(
    {
      KAFKA_SSL: 'true',
      ...Object.fromEntries(Object.entries(pemFiles).map(([name, file]) => [`${name}_FILE`, file])),
    },
    good,
  ),
)

function reread(changed: Readonly<Record<string, string | null>>) {
  return rereadCertificates(current, pemFiles, (path) => {
    const content = path in changed ? changed[path] : good[path]
    if (content == null) throw Object.assign(new Error('ENOENT'), { code: 'ENOENT' })
    return content
  })
}

test('files that are as they were renew nothing', () => {
  expect(reread({ '/tls.crt': cert.trimEnd() })).toEqual({
    certificates: current,
    renewed: [],
    settings: [],
    problems: [],
  })
})

test('a new pair is taken, and the other side stays as it is', () => {
  const { certificates, renewed, problems } = reread({ '/tls.crt': other.cert, '/tls.key': other.key })
  expect(certificates).toEqual({
    tls: { cert: other.cert.trimEnd(), key: other.key.trimEnd(), clientCa: authority.ca.trimEnd() },
    kafkaSsl: current.kafkaSsl,
  })
  expect([renewed, problems]).toEqual([['server'], []])
})

test.each<[what: string, changed: Record<string, string | null>, path: string, renewed: string[]]>([
  ['a certificate without its key', { '/tls.crt': other.cert }, 'TLS_KEY_FILE', []],
  ['a key without its certificate', { '/tls.key': other.key }, 'TLS_KEY_FILE', []],
  ['half a certificate', { '/tls.crt': cert.slice(0, 200) }, 'TLS_CERT_FILE', []],
  ['an empty file', { '/tls.key': '' }, 'TLS_KEY_FILE', []],
  ['a file that is gone', { '/tls.key': null }, 'TLS_KEY_FILE', []],
  [
    'authorities that cannot be read, beside a good pair',
    { '/tls.crt': other.cert, '/tls.key': other.key, '/ca.crt': 'x' },
    'TLS_CLIENT_CA_FILE',
    [],
  ],
  [
    "a pair that is wrong, beside a good one of Kafka's",
    { '/tls.crt': other.cert, '/k.crt': other.cert, '/k.key': other.key },
    'TLS_KEY_FILE',
    ['kafka'],
  ],
  ["Kafka's certificate without its key", { '/k.crt': other.cert }, 'KAFKA_SSL_KEY_FILE', []],
  ["authorities of Kafka's that cannot be read", { '/k-ca.crt': 'x' }, 'KAFKA_SSL_CA_FILE', []],
])('%s: the side goes on as it was', (_what, changed, path, renewed) => {
  const found = reread(changed)
  expect(found.problems).toMatchObject([{ path }])
  expect(found.renewed).toEqual(renewed)
  expect(found.certificates.tls).toEqual(current.tls)
  if (renewed.length === 0) expect(found.certificates).toEqual(current)
})

test('what was renewed is named by its setting: an authority alone, a pair, and both sides', () => {
  const ca = makeAuthority('Others').ca
  const pair = { '/tls.crt': other.cert, '/tls.key': other.key }
  expect(reread({ '/ca.crt': ca })).toMatchObject({ renewed: ['server'], settings: ['TLS_CLIENT_CA_FILE'] })
  expect(reread({ ...pair, '/k-ca.crt': ca })).toMatchObject({
    renewed: ['server', 'kafka'],
    settings: ['TLS_CERT_FILE', 'TLS_KEY_FILE', 'KAFKA_SSL_CA_FILE'],
  })
})

test('a new pair that has ended is no renewal', () => {
  const ended = authority.issue('gateway', { days: [-9, -1] })
  const found = reread({ '/tls.crt': ended.cert, '/tls.key': ended.key })
  expect(found).toMatchObject({ certificates: current, problems: [{ path: 'TLS_CERT_FILE' }] })
})

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import type { Config, ConfigProblem, KafkaConfig, PemFiles, TlsConfig } from './config.ts'
import { pemVariables } from './config.ts'
import { describeReadError, type ReadFile } from './read-file.ts'

/** The certificates of a running gateway: of the event port, and of the connections to Kafka. Plain data. */
export interface Certificates {
  readonly tls: TlsConfig | null
  readonly kafkaSsl: KafkaConfig['ssl']
}

type PemVariable = (typeof pemVariables)[number]

/** The certificates of a configuration. */
export function certificatesOf({ http, kafka }: Config): Certificates {
  return { tls: http.tls, kafkaSsl: kafka.ssl }
}

/** The configuration with other certificates, as a worker that starts now is to have it. */
export function withCertificates(config: Config, { tls, kafkaSsl }: Certificates): Config {
  return { ...config, http: { ...config.http, tls }, kafka: { ...config.kafka, ssl: kafkaSsl } }
}

/** The files that the environment names for PEM texts. */
export function pemFilesOf(env: NodeJS.ProcessEnv): PemFiles {
  const named = pemVariables.map((name) => [name, env[`${name}_FILE`] ?? ''] as const)
  return Object.fromEntries(named.filter(([, path]) => path !== ''))
}

/** Refuses a certificate that cannot be read, a key that does not belong to it, and authorities that cannot be read. */
export function refuseBadTls(
  { cert, key, clientCa }: TlsConfig,
  files: PemFiles,
  problems: ConfigProblem[],
): void {
  const before = problems.length
  refuseBadPair({ cert, key, names: ['TLS_CERT', 'TLS_KEY'] }, files, problems)
  if (clientCa !== null) refuseBadCertificates('TLS_CLIENT_CA', clientCa, files, problems)
  if (problems.length > before) return
  refuseUnusable('TLS_CERT', { cert, key, ...(clientCa !== null && { ca: clientCa }) }, files, problems)
}

/** As {@link refuseBadTls}, for the connections to Kafka. */
export function refuseBadKafkaSsl(
  { ca, cert, key }: Pick<NonNullable<KafkaConfig['ssl']>, 'ca' | 'cert' | 'key'>,
  files: PemFiles,
  problems: ConfigProblem[],
): void {
  const before = problems.length
  if (cert !== null && key !== null)
    refuseBadPair({ cert, key, names: ['KAFKA_SSL_CERT', 'KAFKA_SSL_KEY'] }, files, problems)
  if (ca !== null) refuseBadCertificates('KAFKA_SSL_CA', ca, files, problems)
  if (problems.length > before || cert === null || key === null) return
  refuseUnusable('KAFKA_SSL_CERT', { cert, key, ...(ca !== null && { ca }) }, files, problems)
}

/** Refuses what OpenSSL does not take, such as a key that is too short for its security level. */
function refuseUnusable(
  name: PemVariable,
  context: SecureContextOptions,
  files: PemFiles,
  problems: ConfigProblem[],
): void {
  try {
    createSecureContext(context)
  } catch (error) {
    problems.push({
      path: pathOf(name, files),
      problem: `cannot be used: ${reasonOf(error)}`,
      remedy: 'Give a certificate with an ECDSA key (P-256) or an RSA key of 2048 bits or more.',
    })
  }
}

function refuseBadPair(
  { cert, key, names }: { cert: string; key: string; names: readonly [PemVariable, PemVariable] },
  files: PemFiles,
  problems: ConfigProblem[],
): void {
  const [certName, keyName] = names
  const own = refuseBadCertificates(certName, cert, files, problems)
  const privateKey = refuseBadKey(keyName, key, files, problems)
  if (own === null || privateKey === null || own.checkPrivateKey(privateKey)) return
  problems.push({
    path: pathOf(keyName, files),
    problem: `is not the key of the first certificate of ${pathOf(certName, files)} (${subjectOf(own)})`,
    remedy: 'Give the two that were made together. In a chain the own certificate comes first.',
  })
}

/** @returns the first certificate of a PEM text; null if one of them cannot be read. */
function refuseBadCertificates(
  name: PemVariable,
  text: string,
  files: PemFiles,
  problems: ConfigProblem[],
): X509Certificate | null {
  try {
    const [first] = certificatesIn(text)
    if (first !== undefined) return first
    problems.push({ path: pathOf(name, files), problem: 'has no certificate', remedy: certificateRemedy })
  } catch (error) {
    problems.push({
      path: pathOf(name, files),
      problem: `has a certificate that cannot be read: ${reasonOf(error)}`,
      remedy: certificateRemedy,
    })
  }
  return null
}

function refuseBadKey(
  name: PemVariable,
  text: string,
  files: PemFiles,
  problems: ConfigProblem[],
): KeyObject | null {
  try {
    return createPrivateKey(text)
  } catch (error) {
    // OpenSSL's code differs with the version of Node. The header is RFC 7468's (section 11), or that of RFC 1421.
    const isEncrypted =
      (error as NodeJS.ErrnoException).code === 'ERR_MISSING_PASSPHRASE' ||
      /^(-----BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED)/m.test(text)
    problems.push({
      path: pathOf(name, files),
      // Never a part of the text: it may be a key.
      problem: isEncrypted ? 'is a key with a password' : 'has no private key that can be read',
      remedy: isEncrypted
        ? 'Give the key without a password: openssl pkey -in key.pem -out open.pem'
        : 'Give the key in PEM form, from -----BEGIN PRIVATE KEY----- to the end.',
    })
    return null
  }
}

const certificateRemedy =
  'Give certificates in PEM form, each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.'

/** The variable that was set. */
function pathOf(name: PemVariable, files: PemFiles): string {
  return name in files ? `${name}_FILE` : name
}

/** OpenSSL's own words, which have nothing of the text in them. */
function reasonOf(error: unknown): string {
  const { reason, message } = error as Error & { readonly reason?: string }
  return reason ?? message
}

/** The certificates of a PEM text, in order. @throws Error if one of them cannot be read. */
function certificatesIn(text: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? []
  return blocks.map((block) => new X509Certificate(block))
}

function subjectOf({ subject }: X509Certificate): string {
  return (subject ?? 'without a subject').replaceAll('\n', ', ')
}

/** A certificate of the gateway itself, with whatever is behind it in its file. */
export interface OwnCertificate {
  /** `server`: of the event port. `kafka_client`: of the connections to Kafka. A label of a metric. */
  readonly certificate: 'server' | 'kafka_client'
  readonly variable: string
  readonly subject: string
  /** Unix times in milliseconds. The first end of all certificates of the file: a chain ends with its first member. */
  readonly notBeforeMs: number
  readonly notAfterMs: number
}

/** The own certificates that can be read. Those of authorities are not among them. */
export function ownCertificates({ tls, kafkaSsl }: Certificates, files: PemFiles): OwnCertificate[] {
  const texts = [
    ['server', 'TLS_CERT', tls?.cert ?? null],
    ['kafka_client', 'KAFKA_SSL_CERT', kafkaSsl?.cert ?? null],
  ] as const
  return texts.flatMap(([certificate, name, text]) => {
    try {
      const chain = text === null ? [] : certificatesIn(text)
      if (chain[0] === undefined) return []
      return {
        certificate,
        variable: pathOf(name, files),
        subject: subjectOf(chain[0]),
        notBeforeMs: Date.parse(chain[0].validFrom),
        notAfterMs: Math.min(...chain.map(({ validTo }) => Date.parse(validTo))),
      }
    } catch {
      // Its connections fail, and say why.
      return []
    }
  })
}

/**
 * What an operator should know of certificates that are out of date, or will be within a week (of a certificate for less than four
 * weeks: within a quarter of its time).
 */
export function warningsOfCertificates(own: readonly OwnCertificate[], nowMs = Date.now()): string[] {
  return own.flatMap(({ variable, subject, notBeforeMs, notAfterMs }) => {
    const soonMs = Math.min(7 * dayMs, (notAfterMs - notBeforeMs) / 4)
    const until = new Date(notAfterMs).toISOString()
    const what = `${variable}: the certificate of ${subject}`
    if (nowMs > notAfterMs) return `${what} ended on ${until}. Who checks it refuses it: renew it`
    if (nowMs < notBeforeMs)
      return `${what} begins on ${new Date(notBeforeMs).toISOString()}. Who checks it refuses it until then`
    return notAfterMs - nowMs < soonMs ? `${what} ends on ${until}: renew it` : []
  })
}

const dayMs = 86_400_000

/** What {@link rereadCertificates} found. Either side stays as it was where something is wrong with it. */
export interface Reread {
  readonly certificates: Certificates
  /** The sides that are new. */
  readonly renewed: readonly ('server' | 'kafka')[]
  /** The variables whose texts are new and in force. */
  readonly settings: readonly string[]
  readonly problems: readonly ConfigProblem[]
}

/**
 * Reads the files of PEM texts again. The event port is one side, Kafka is the other. A side is taken whole or not at all: a
 * certificate without its key is of no use, and one that has ended is no renewal.
 */
export function rereadCertificates(
  { tls, kafkaSsl }: Certificates,
  files: PemFiles,
  readFile: ReadFile,
  nowMs = Date.now(),
): Reread {
  const problems: ConfigProblem[] = []
  const renewed: ('server' | 'kafka')[] = []
  const settings: string[] = []
  const take = (
    side: 'server' | 'kafka',
    texts: readonly (readonly [PemVariable, unknown, unknown])[],
  ): void => {
    renewed.push(side)
    settings.push(...texts.filter(([, old, now]) => old !== now).map(([name]) => pathOf(name, files)))
  }
  const read = (name: PemVariable, old: string | null): string | null => {
    const path = files[name]
    if (path === undefined) return old
    try {
      return readFile(path).replace(/\r?\n$/, '')
    } catch (error) {
      const problem = `names ${path}: ${describeReadError(error)}`
      problems.push({ path: `${name}_FILE`, problem, remedy: 'Name a file that this process can read.' })
      return old
    }
  }
  const refuseEnded = (which: Certificates): void => {
    for (const { variable, notAfterMs } of ownCertificates(which, files))
      if (notAfterMs < nowMs)
        problems.push({
          path: variable,
          problem: `has a certificate that ended on ${new Date(notAfterMs).toISOString()}`,
          remedy: 'Give one that has not.',
        })
  }

  let newTls = tls
  if (tls !== null) {
    const before = problems.length
    const cert = read('TLS_CERT', tls.cert)!
    const key = read('TLS_KEY', tls.key)!
    const clientCa = read('TLS_CLIENT_CA', tls.clientCa)
    const isNew = cert !== tls.cert || key !== tls.key || clientCa !== tls.clientCa
    if (isNew) {
      refuseBadTls({ cert, key, clientCa }, files, problems)
      refuseEnded({ tls: { cert, key, clientCa }, kafkaSsl: null })
    }
    if (isNew && problems.length === before) {
      newTls = { cert, key, clientCa }
      take('server', [
        ['TLS_CERT', tls.cert, cert],
        ['TLS_KEY', tls.key, key],
        ['TLS_CLIENT_CA', tls.clientCa, clientCa],
      ])
    }
  }

  let newKafkaSsl = kafkaSsl
  if (kafkaSsl !== null) {
    const before = problems.length
    const ca = read('KAFKA_SSL_CA', kafkaSsl.ca)
    const cert = read('KAFKA_SSL_CERT', kafkaSsl.cert)
    const key = read('KAFKA_SSL_KEY', kafkaSsl.key)
    const isNew = ca !== kafkaSsl.ca || cert !== kafkaSsl.cert || key !== kafkaSsl.key
    const candidate = { ...kafkaSsl, ca, cert, key }
    if (isNew) {
      refuseBadKafkaSsl(candidate, files, problems)
      refuseEnded({ tls: null, kafkaSsl: candidate })
    }
    if (isNew && problems.length === before) {
      newKafkaSsl = candidate
      take('kafka', [
        ['KAFKA_SSL_CA', kafkaSsl.ca, ca],
        ['KAFKA_SSL_CERT', kafkaSsl.cert, cert],
        ['KAFKA_SSL_KEY', kafkaSsl.key, key],
      ])
    }
  }
  return { certificates: { tls: newTls, kafkaSsl: newKafkaSsl }, renewed, settings, problems }
}

import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A certificate authority of a test's own, and whom it vouches for: a broker on 127.0.0.1, and a client. PEM texts. */
export interface Certificates {
  readonly ca: string
  /** Lines of server.properties, by which a broker has its certificate and trusts the authority. */
  readonly brokerProperties: Readonly<Record<string, string>>
  readonly client: Pair
  /** Makes other certificates that the broker trusts. */
  readonly issue: Authority['issue']
}

/** A certificate and its key. PEM texts. */
export interface Pair {
  readonly cert: string
  readonly key: string
}

/** An authority, which signs certificates for 127.0.0.1 and localhost (X.509 version 3, RFC 5280). */
export interface Authority {
  readonly ca: string
  /** @param days from when on, and until when, seen from now. */
  issue(
    commonNames: string | readonly string[],
    options?: { kind?: 'ec' | 'rsa'; days?: readonly [number, number] },
  ): Pair
}

/** Makes an authority. No tool is needed that a machine may lack. */
export function makeAuthority(name = 'Test authority'): Authority {
  const authority = { names: [name], ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) }
  const week = [-1, 90] as const
  return {
    ca: pem('CERTIFICATE', certificate(authority, authority, isAuthority, week)),
    issue(commonNames, { kind = 'ec', days = week } = {}) {
      const keys =
        kind === 'ec'
          ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
          : generateKeyPairSync('rsa', { modulusLength: 2_048 })
      const subject = { names: [commonNames].flat(), ...keys }
      return {
        cert: pem('CERTIFICATE', certificate(subject, authority, isLocalhost, days)),
        key: pem('PRIVATE KEY', subject.privateKey.export({ type: 'pkcs8', format: 'der' })),
      }
    },
  }
}

/** Makes them, and the broker's files in `folder`. */
export function makeCertificates(folder: string): Certificates {
  const authority = makeAuthority()
  const { ca: caPem } = authority
  const broker = authority.issue('broker')
  const [keyStore, trustStore] = [join(folder, 'broker.pem'), join(folder, 'ca.pem')]
  writeFileSync(keyStore, broker.key + broker.cert + caPem)
  writeFileSync(trustStore, caPem)
  return {
    ca: caPem,
    brokerProperties: {
      'ssl.keystore.type': 'PEM',
      'ssl.keystore.location': keyStore,
      'ssl.truststore.type': 'PEM',
      'ssl.truststore.location': trustStore,
    },
    client: authority.issue('client'),
    issue: (commonNames, options) => authority.issue(commonNames, options),
  }
}

interface Party {
  readonly names: readonly string[]
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

function certificate(
  subject: Party,
  issuer: Party,
  extension: Buffer,
  [from, until]: readonly [number, number],
): Buffer {
  const dayMs = 86_400_000
  const toBeSigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, Buffer.from([1, ...randomBytes(8)])), // serial number
    ecdsaWithSha256,
    nameOf(issuer),
    sequence(utcTime(Date.now() + from * dayMs), utcTime(Date.now() + until * dayMs)),
    nameOf(subject),
    subject.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(extension)),
  )
  const signature = sign('sha256', toBeSigned, issuer.privateKey)
  return sequence(toBeSigned, ecdsaWithSha256, der(0x03, Buffer.from([0]), signature))
}

function nameOf({ names }: Party): Buffer {
  return sequence(...names.map((name) => der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from(name))))))
}

function utcTime(epochMs: number): Buffer {
  const digits = new Date(epochMs).toISOString().replaceAll(/\D/g, '').slice(2, 14)
  return der(0x17, Buffer.from(`${digits}Z`))
}

/** A value of DER (ITU-T X.690) with its tag and length. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  const lengthBytes =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...lengthBytes]), content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, ...parts)
}

function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'))
}

function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'))
/** Basic constraints, critical: it may vouch for others. */
const isAuthority = sequence(
  oid('551d13'),
  der(0x01, Buffer.from([0xff])),
  der(0x04, sequence(der(0x01, Buffer.from([0xff])))),
)
/** Subject alternative names: 127.0.0.1 and localhost. */
const isLocalhost = sequence(
  oid('551d11'),
  der(0x04, sequence(der(0x87, Buffer.from([127, 0, 0, 1])), der(0x82, Buffer.from('localhost')))),
)

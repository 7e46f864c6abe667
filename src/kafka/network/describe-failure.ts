import type { KafkaConfig } from '../../config/config.ts'
import type { SaslConfig } from '../../config/kafka-login.ts'

/**
 * Describes a failure of kafkajs for an operator: the message of kafkajs, and behind it the right that is missing, or the setting that is
 * probably wrong. Never holds a secret.
 * @param context what kafkajs was to do.
 */
export function describeFailure(error: unknown, context: FailureContext): string {
  const { message, advice } = explainFailure(error, context)
  return advice === null ? message : `${message}: ${advice}`
}

/** As {@link describeFailure}, for one who reads the topic that `--topic` names. */
export function describeReadFailure(
  error: unknown,
  context: FailureContext & { readonly topic: string },
): string {
  if (causesOf(error).some(({ type }) => type === 'UNKNOWN_TOPIC_OR_PARTITION'))
    return `there is no topic ${context.topic}: correct --topic, or create it`
  return describeFailure(error, context)
}

/** The two parts of {@link describeFailure}. `advice` is null where there is nothing to say. */
export function explainFailure(
  error: unknown,
  context: FailureContext,
): { readonly message: string; readonly advice: string | null } {
  const chain = causesOf(error)
  const { message } = chain[0]!
  for (const { name, type } of chain) {
    const right = missingRight(type ?? name, context)
    if (right !== null) return { message, advice: right }
  }
  return { message, advice: context.kafka === undefined ? null : adviceOnConnecting(chain, context.kafka) }
}

/**
 * Whether a connection ended during the login, so that nothing is known of the credentials. A broker that does not take them says so in an answer, and only
 * then ends the connection. kafkajs makes an authentication error of both.
 */
export function isCutLogin({ name, message }: Error): boolean {
  return name === 'KafkaJSSASLAuthenticationError' && endOfConnection.test(message)
}

/** What kafkajs says of a connection that has ended (`Connection.connect`). */
const endOfConnection = /Closed connection|Connection error: |Connection timeout/

/** See {@link describeFailure}. */
export interface FailureContext {
  readonly kafka?: Pick<KafkaConfig, 'ssl' | 'sasl'>
  readonly topic?: string
  readonly group?: string
}

type KafkajsError = Error & { readonly type?: string; readonly code?: unknown; readonly retriable?: boolean }

/** An error and its causes. kafkajs wraps an error in errors of its retries. */
export function causesOf(error: unknown): readonly KafkajsError[] {
  const chain: KafkajsError[] = []
  for (let each = error; each instanceof Error && chain.length < 10; each = each.cause) chain.push(each)
  return chain.length > 0 ? chain : [new Error(String(error))]
}

function missingRight(name: string, { topic, group }: FailureContext): string | null {
  switch (name) {
    case 'GROUP_AUTHORIZATION_FAILED':
      return group === undefined ? null : `READ on group ${group} is not permitted; ${adviceOnAcl}`
    case 'TOPIC_AUTHORIZATION_FAILED':
      return topic === undefined ? null : `READ on topic ${topic} is not permitted; ${adviceOnAcl}`
    case 'CLUSTER_AUTHORIZATION_FAILED':
      return `an operation on the cluster is not permitted; ${adviceOnAcl}`
    // kafkajs drops the error with which the brokers answered.
    case 'KafkaJSGroupCoordinatorNotFound':
      return group === undefined
        ? null
        : `most likely READ on group ${group} is not permitted; ${adviceOnAcl}; else see whether the brokers can create __consumer_offsets`
    default:
      return null
  }
}

/**
 * Advice on the settings of the connection; null: there is none. A broker just ends the connection of a client whose security settings do
 * not fit the listener. So the failure alone does not say what is wrong. Together with the settings it says what may be wrong.
 */
function adviceOnConnecting(
  chain: readonly KafkajsError[],
  { ssl, sasl }: Pick<KafkaConfig, 'ssl' | 'sasl'>,
): string | null {
  if (chain.some(isCutLogin)) return null
  const said = chain
    .map(({ name, message, code, type }) => `${name} ${message} ${String(code)} ${type ?? ''}`)
    .join(' ')
  if (/ILLEGAL_SASL_STATE|not valid given the current SASL state/i.test(said))
    return 'the listener takes no credentials; unset KAFKA_SASL_MECHANISM, or use the port of the SASL listener'
  const onLogin = adviceOnLogin(said, sasl)
  if (onLogin !== null) return onLogin
  if (ssl === null) {
    if (/speaks TLS/.test(said)) return 'set KAFKA_SSL=true'
    if (!/closed|ECONNRESET|did not answer/i.test(said)) return null
    return sasl === null
      ? 'the listener may want TLS (KAFKA_SSL=true) or credentials (KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME)'
      : 'the listener may want TLS (KAFKA_SSL=true)'
  }
  const onCertificate = adviceOnCertificate(said, ssl)
  if (onCertificate !== null) return onCertificate
  const isNoTls =
    /before secure TLS connection|wrong version number|packet length too long|EPROTO|ECONNRESET/i.test(said)
  return isNoTls
    ? 'the listener may speak no TLS; set KAFKA_SSL=false, or use the port of the TLS listener'
    : null
}

/** Advice where a broker was reached, and did not take the credentials; null: there is none. */
function adviceOnLogin(said: string, sasl: KafkaConfig['sasl']): string | null {
  if (sasl === null) return null
  if (/UNSUPPORTED_SASL_MECHANISM|mechanism is not supported/i.test(said))
    return `set KAFKA_SASL_MECHANISM to a mechanism of the listener (sasl.enabled.mechanisms of the broker), and not ${sasl.mechanism}`
  if (!/SASL_AUTHENTICATION_FAILED|KafkaJSSASLAuthenticationError|Authentication failed/i.test(said))
    return null
  return adviceByMechanism[sasl.mechanism]
}

const adviceOnPassword =
  'look at KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and at the user in Kafka (SCRAM: it has credentials of the same mechanism)'
const adviceByMechanism: Readonly<Record<SaslConfig['mechanism'], string>> = {
  plain: adviceOnPassword,
  'scram-sha-256': adviceOnPassword,
  'scram-sha-512': adviceOnPassword,
  oauthbearer: 'look at the issuer, the audience and the end of the token, as the broker expects them',
  aws_msk_iam:
    'look at the region, and whether the policy of the role permits kafka-cluster:Connect to this cluster',
}

/** Advice where the broker's certificate, or that of the client, is not taken; null: there is none. Codes are those of OpenSSL, as Node has them. */
function adviceOnCertificate(said: string, { ca, cert }: NonNullable<KafkaConfig['ssl']>): string | null {
  if (/SELF_SIGNED_CERT|UNABLE_TO_VERIFY_LEAF|UNABLE_TO_GET_ISSUER_CERT|CERT_SIGNATURE_FAILURE/.test(said))
    return ca === null
      ? 'no authority known here has signed the certificate of the broker; give its authority as KAFKA_SSL_CA'
      : 'KAFKA_SSL_CA is not the authority that has signed the certificate of the broker'
  if (/CERT_HAS_EXPIRED/.test(said))
    return 'the certificate of the broker has ended, so renew it; if it has not, the clock of this machine is wrong'
  if (/CERT_NOT_YET_VALID/.test(said))
    return 'the certificate of the broker is not valid yet: look at the clock of this machine'
  if (/ERR_TLS_CERT_ALTNAME_INVALID/.test(said))
    return 'use a name of the certificate as the address of the broker, or name it as KAFKA_SSL_SERVERNAME'
  if (
    /alert (certificate required|bad certificate|unknown ca|handshake failure|certificate unknown)/i.test(
      said,
    )
  )
    return cert === null
      ? 'the listener may want a certificate of the client (KAFKA_SSL_CERT, KAFKA_SSL_KEY)'
      : 'the broker does not take the certificate of KAFKA_SSL_CERT: its trust store needs the authority of that certificate'
  if (/ERR_SSL_(TLSV1_ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL)/.test(said))
    return 'the broker and this machine have no version of TLS in common: the broker needs TLS 1.2 or 1.3'
  return null
}

const adviceOnAcl = 'permit it to the principal with an ACL'

import type { KafkaConfig } from '../../config/config.ts'

/**
 * Describes a failure of kafkajs for an operator: the message of kafkajs, and behind it the right that is missing, or the setting that is
 * probably wrong. Never holds a secret.
 * @param context what kafkajs was to do.
 */
export function describeFailure(error: unknown, context: FailureContext): string {
  const chain = causesOf(error)
  const { message } = chain[0]!
  for (const { name, type } of chain) {
    const right = missingRight(type ?? name, context)
    if (right !== null) return `${message}: ${right}`
  }
  const advice = context.kafka === undefined ? null : adviceOnConnecting(chain, context.kafka)
  return advice === null ? message : `${message}: ${advice}`
}

/** See {@link describeFailure}. */
export interface FailureContext {
  readonly kafka?: Pick<KafkaConfig, 'ssl' | 'sasl'>
  readonly topic?: string
  readonly group?: string
}

type KafkajsError = Error & { readonly type?: string; readonly code?: unknown }

/** An error and its causes. kafkajs wraps an error in errors of its retries. */
function causesOf(error: unknown): readonly KafkajsError[] {
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
  const said = chain.map(({ message, code, type }) => `${message} ${String(code)} ${type ?? ''}`).join(' ')
  if (/ILLEGAL_SASL_STATE|not valid given the current SASL state/i.test(said))
    return 'the listener takes no credentials; unset KAFKA_SASL_MECHANISM, or use the port of the SASL listener'
  if (ssl === null) {
    if (/speaks TLS/.test(said)) return 'set KAFKA_SSL=true'
    if (!/closed|ECONNRESET|did not answer/i.test(said)) return null
    return sasl === null
      ? 'the listener may want TLS (KAFKA_SSL=true) or credentials (KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME)'
      : 'the listener may want TLS (KAFKA_SSL=true)'
  }
  const isNoTls =
    /before secure TLS connection|wrong version number|packet length too long|EPROTO|ECONNRESET/i.test(said)
  return isNoTls
    ? 'the listener may speak no TLS; set KAFKA_SSL=false, or use the port of the TLS listener'
    : null
}

const adviceOnAcl = 'permit it to the principal with an ACL'

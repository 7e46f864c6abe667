import { Kafka, logLevel } from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import { stopIdleTimers } from './kafkajs-idle-timer.ts'
import { saslOptions, tlsOptions } from './tls-and-sasl.ts'

stopIdleTimers()

/** kafkajs's public client. Its admin and its consumer are used as they are. Its own log is off, since failures come back as errors. */
export function kafkajsClient(config: KafkaConfig): Kafka {
  const { ssl, sasl } = config
  return new Kafka({
    brokers: [...config.brokers],
    clientId: config.clientId,
    connectionTimeout: config.connectionTimeoutMs,
    logLevel: logLevel.NOTHING,
    ...(ssl === null ? {} : { ssl: tlsOptions(ssl) }),
    ...(sasl === null ? {} : { sasl: saslOptions(sasl) }),
  })
}

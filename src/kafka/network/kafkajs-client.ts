import type { ConnectionOptions } from 'node:tls'
import { Kafka, logLevel, type SASLOptions } from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import { stopIdleTimers } from './kafkajs-idle-timer.ts'

stopIdleTimers()

/** kafkajs's public client, for its admin and its consumer, which are used as they are. Its own log is off: failures come back as errors. */
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

/** TLS as kafkajs, and `node:tls`, take it. */
export function tlsOptions(ssl: NonNullable<KafkaConfig['ssl']>): ConnectionOptions {
  return {
    rejectUnauthorized: ssl.rejectUnauthorized,
    ...(ssl.ca === null ? {} : { ca: ssl.ca }),
    ...(ssl.cert === null ? {} : { cert: ssl.cert }),
    ...(ssl.key === null ? {} : { key: ssl.key }),
    ...(ssl.servername === null ? {} : { servername: ssl.servername }),
  }
}

/** SASL as kafkajs takes it. Every mechanism has its case here, since kafkajs takes each with options of its own. */
export function saslOptions({
  mechanism,
  username,
  password,
}: NonNullable<KafkaConfig['sasl']>): SASLOptions {
  switch (mechanism) {
    case 'plain':
      return { mechanism, username, password }
    case 'scram-sha-256':
      return { mechanism, username, password }
    case 'scram-sha-512':
      return { mechanism, username, password }
  }
}

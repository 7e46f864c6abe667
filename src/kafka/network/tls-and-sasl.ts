import type { ConnectionOptions } from 'node:tls'
import type { Mechanism, SASLOptions } from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import type { SaslConfig } from '../../config/kafka-login.ts'
import { oauthBearer } from './oauthbearer.ts'

/** The TLS options of kafkajs and of `node:tls`. */
export function tlsOptions(ssl: NonNullable<KafkaConfig['ssl']>): ConnectionOptions {
  return {
    rejectUnauthorized: ssl.rejectUnauthorized,
    ...(ssl.ca === null ? {} : { ca: ssl.ca }),
    ...(ssl.cert === null ? {} : { cert: ssl.cert }),
    ...(ssl.key === null ? {} : { key: ssl.key }),
    ...(ssl.servername === null ? {} : { servername: ssl.servername }),
  }
}

/**
 * The SASL options of kafkajs. Every mechanism has its case here, since kafkajs has other options for each mechanism. The set of mechanisms is
 * `saslMechanisms` in `config/kafka-login.ts`.
 */
export function saslOptions(sasl: SaslConfig): SASLOptions | Mechanism {
  switch (sasl.mechanism) {
    case 'plain':
      return { mechanism: sasl.mechanism, username: sasl.username, password: sasl.password }
    case 'scram-sha-256':
      return { mechanism: sasl.mechanism, username: sasl.username, password: sasl.password }
    case 'scram-sha-512':
      return { mechanism: sasl.mechanism, username: sasl.username, password: sasl.password }
    case 'oauthbearer':
    case 'aws_msk_iam':
      return oauthBearer(sasl)
  }
}

/** The mechanisms that log in with a name and a password. */
export const passwordMechanisms = ['plain', 'scram-sha-256', 'scram-sha-512'] as const

/** The mechanisms that log in with a token. MSK's IAM is OAUTHBEARER on the wire, with a token that AWS's package signs. */
export const tokenMechanisms = ['oauthbearer', 'aws_msk_iam'] as const

/**
 * SASL mechanisms that Chute offers. Their settings are in environment-schema.ts, and `settingsOfMechanism` and `logsInWith` in read-environment.ts say
 * which of them a mechanism takes. `saslConfig` in load-config.ts makes a {@link SaslConfig} of them, `saslOptions` in kafka/network/tls-and-sasl.ts hands
 * it to kafkajs, and `adviceByMechanism` in kafka/network/describe-failure.ts says what to look at when a broker refuses it. None of these
 * compiles without a new mechanism. `describeSasl` in describe-config.ts prints a mechanism. The rest is in CONTRIBUTING.md.
 */
export const saslMechanisms = [...passwordMechanisms, ...tokenMechanisms] as const

/** How a connection to Kafka logs in. `kafka/network/tls-and-sasl.ts` goes by it. */
export type SaslConfig = PasswordConfig | BearerConfig

/** A name and a password. */
export interface PasswordConfig {
  readonly mechanism: (typeof passwordMechanisms)[number]
  readonly username: string
  readonly password: string
}

/** A token (RFC 7628, KIP-255). */
export interface BearerConfig {
  readonly mechanism: (typeof tokenMechanisms)[number]
  readonly token: TokenSourceConfig
  /** SASL extensions, such as Confluent's `logicalCluster` (KIP-342). */
  readonly extensions: Readonly<Record<string, string>>
}

/**
 * Where tokens come from. `tokenSource` in kafka/network/bearer-tokens.ts asks there. `endpoint`: client credentials (RFC 6749, section 4.4). `file`: a file that changes. `command`: a command of the
 * shell that prints one. `aws`: AWS's package signs one with AWS's credentials, for MSK.
 */
export type TokenSourceConfig =
  | {
      readonly from: 'endpoint'
      readonly url: string
      readonly clientId: string
      readonly clientSecret: string
      readonly scope: string | null
      readonly audience: string | null
    }
  | { readonly from: 'file'; readonly path: string }
  | { readonly from: 'command'; readonly command: string }
  | {
      readonly from: 'aws'
      readonly region: string
      /** A role that is taken on to sign; null: the credentials that are found sign. */
      readonly roleArn: string | null
    }

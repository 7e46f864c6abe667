/**
 * Variables that people bring from other clients of Kafka, and what they are called here. A name that is ignored is worse
 * than one that is refused: with `KAFKA_SECURITY_PROTOCOL=SASL_SSL` ignored, a gateway would speak plaintext.
 */
const foreignNames: readonly (readonly [names: RegExp, ours: string])[] = [
  // librdkafka's and Java's `bootstrap.servers`, librdkafka's `metadata.broker.list`, Heroku's KAFKA_URL.
  [
    /^(KAFKA_)?BOOTSTRAP_SERVERS?$|^KAFKA_(METADATA_)?BROKER_LIST$|^KAFKA_(BROKER_)?URLS?$|^KAFKA_HOSTS?$/,
    'KAFKA_BROKERS=host:port,host:port',
  ],
  [
    /^(KAFKA_)?SECURITY_PROTOCOL$/,
    'KAFKA_SSL=true for SSL and SASL_SSL, and KAFKA_SASL_MECHANISM for SASL_PLAINTEXT and SASL_SSL',
  ],
  [/^KAFKA_((USE|ENABLE)_)?(SSL|TLS)(_ENABLED?)?$/, 'KAFKA_SSL=true'],
  [
    /^(KAFKA_)?SSL_CA(FILE|_LOCATION|_PEM|_CERT|_PATH)?$|^(KAFKA_)?SSL_TRUSTSTORE_\w+$|^KAFKA_(TLS_CA|CA)\w*$/,
    'KAFKA_SSL_CA_FILE, a file in PEM form',
  ],
  [
    /^(KAFKA_)?SSL_(CERTIFICATE|CERTFILE|CLIENT_CERT)\w*$|^(KAFKA_)?SSL_KEYSTORE_(LOCATION|TYPE|CERTIFICATE_CHAIN)$|^KAFKA_TLS_CERT\w*$/,
    'KAFKA_SSL_CERT_FILE and KAFKA_SSL_KEY_FILE, files in PEM form',
  ],
  [
    /^(KAFKA_)?SSL_KEY(FILE|_LOCATION|_PEM|STORE_KEY|STORE_PASSWORD|_PASSWORD)$|^KAFKA_TLS_KEY\w*$/,
    'KAFKA_SSL_KEY_FILE, a file in PEM form without a password',
  ],
  [
    /^(KAFKA_)?(ENABLE_)?SSL_(CERTIFICATE|HOSTNAME)_VERIFICATION\w*$|^(KAFKA_)?SSL_(ENDPOINT_IDENTIFICATION_ALGORITHM|CHECK_HOSTNAME|VERIFY)$/,
    'KAFKA_SSL_REJECT_UNAUTHORIZED',
  ],
  [/^(KAFKA_)?SASL_MECHANISMS?$/, 'KAFKA_SASL_MECHANISM'],
  [
    /^(KAFKA_)?SASL_(PLAIN_)?USER(NAME)?$|^KAFKA_USER(NAME)?$|^KAFKA_(API|ACCESS)_KEY$/,
    'KAFKA_SASL_USERNAME',
  ],
  [/^(KAFKA_)?SASL_(PLAIN_)?PASS(WORD)?$|^KAFKA_PASS(WORD)?$|^KAFKA_(API_)?SECRET$/, 'KAFKA_SASL_PASSWORD'],
  [/^(KAFKA_)?SASL_JAAS_CONFIG$/, 'KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD'],
  [
    /^KAFKA_(ACKS|RETRIES|LINGER_MS|BATCH_SIZE|BUFFER_MEMORY|COMPRESSION_TYPE|MAX_REQUEST_SIZE|ENABLE_IDEMPOTENCE|DELIVERY_TIMEOUT_MS|REQUEST_TIMEOUT_MS)$/,
    'the setting in dots (such as linger.ms) under producer: of a stream, in the file of CHUTE_CONFIG',
  ],
  [/^KAFKA_TOPICS?$/, 'topic: of a stream, in the file of CHUTE_CONFIG'],
  [/^SPRING_KAFKA_\w+$/, 'KAFKA_BROKERS and the other KAFKA_ variables of docs/configuration.md'],
  [/^CORS_(ALLOW(ED)?_)?ORIGINS?$/, 'CORS_ORIGINS=https://app.example.com'],
  [/^RATE_LIMIT(_(REQUESTS|COUNT|RPS|PER_\w+))?$/, 'RATE_LIMIT_MAX and RATE_LIMIT_WINDOW'],
]

/** What a variable of another client is called here; null for one that is none of these. */
export function oursFor(name: string): string | null {
  return foreignNames.find(([names]) => names.test(name))?.[1] ?? null
}

/**
 * Whether a variable with a prefix of ours belongs to somebody else: to Kafka's own scripts, to what Kubernetes and Docker set
 * for a service called kafka or chute, to `chute kafka`, or to our tests.
 */
export function belongsToOthers(name: string): boolean {
  return (
    /_SERVICE_(HOST|PORT(_\w+)?)$/.test(name) ||
    /^\w+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$/.test(name) ||
    /^KAFKA_(HOME|DEBUG|VERSION|\w*_OPTS)$/.test(name) ||
    /^CHUTE_(CACHE_DIR|FAULTS|RUNS|SEED|TEST_\w+)$/.test(name)
  )
}

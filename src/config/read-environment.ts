import { pemFilesOf, refuseBadKafkaSsl } from './certificates.ts'
import type { ConfigProblem } from './config.ts'
import type { saslMechanisms } from './kafka-login.ts'
import { environmentShape, type EnvironmentValues, fileVariables } from './environment-schema.ts'
import { nearestName, readFields } from './read-fields.ts'
import { describeReadError, type ReadFile } from './read-file.ts'

/** Reads the environment. An empty variable counts as not set: Compose and systemd give an empty text to a variable without a value. */
export function readEnvironment(
  env: NodeJS.ProcessEnv,
  readFile: ReadFile,
  problems: ConfigProblem[],
): EnvironmentValues {
  const input: Record<string, string | undefined> = {}
  for (const name of Object.keys(environmentShape)) input[name] = env[name] === '' ? undefined : env[name]
  for (const name of fileVariables) {
    const fromFile = readVariableFile(name, env, readFile, problems)
    input[name] ??= fromFile
  }
  const values = readFields(environmentShape, input, (name) => name, problems)
  refuseUnknown(env, problems)
  refuseContradictions(values, env, problems)
  const {
    KAFKA_SSL: isTls,
    KAFKA_SSL_CA: ca = null,
    KAFKA_SSL_CERT: cert = null,
    KAFKA_SSL_KEY: key = null,
  } = values
  if (isTls === true) refuseBadKafkaSsl({ ca, cert, key }, pemFilesOf(env), problems)
  return values
}

/** The value of a variable from the file that `NAME_FILE` names. @returns undefined if no file is named, or it cannot be read. */
function readVariableFile(
  name: string,
  env: NodeJS.ProcessEnv,
  readFile: ReadFile,
  problems: ConfigProblem[],
): string | undefined {
  const path = env[`${name}_FILE`]
  if (path === undefined || path === '') return undefined
  if ((env[name] ?? '') !== '') {
    problems.push({
      path: `${name}_FILE`,
      problem: `is set beside ${name}`,
      remedy: 'Set one of the two.',
    })
    return undefined
  }
  try {
    // Editors and `echo` put a newline at the end of a file. It is no part of the secret.
    const text = readFile(path).replace(/\r?\n$/, '')
    return text === '' && isLeftOutByEmptyFile(name) ? undefined : text
  } catch (error) {
    problems.push({
      path: `${name}_FILE`,
      problem: `names ${path}: ${describeReadError(error)}`,
      remedy: `Name a file that this process can read, or give the value in ${name}.`,
    })
    return undefined
  }
}

/** Whether an empty file is as an empty variable. A certificate, a password, a URL with one, or the origins are not left out by a file that is empty for a moment. */
function isLeftOutByEmptyFile(name: string): boolean {
  return name === 'LOG_LEVEL' || (name.startsWith('RATE_LIMIT_') && name !== 'RATE_LIMIT_REDIS_URL')
}

/**
 * Refuses variables that look like settings and are none: settings of other clients, misspelt settings, and all other names
 * that begin like a setting. Variables of other programs, such as `KAFKA_HOME`, are left alone ({@link belongsToOthers}).
 */
function refuseUnknown(env: NodeJS.ProcessEnv, problems: ConfigProblem[]): void {
  const known = [...Object.keys(environmentShape), ...fileVariables.map((name) => `${name}_FILE`)]
  for (const name of Object.keys(env)) {
    const value = env[name] ?? ''
    if (value === '' || known.includes(name) || belongsToOthers(name, value)) continue
    const ours = oursFor(name)
    if (ours === null && !/^(KAFKA|CHUTE|CORS|RATE_LIMIT|TLS)_/.test(name)) continue
    const meant = nearestName(name, known)
    problems.push({
      path: name,
      problem: 'is not a setting',
      remedy:
        meant !== null
          ? `Did you mean ${meant}?`
          : ours === null
            ? 'docs/configuration.md has all settings. Leave this one out.'
            : `Set ${ours}.`,
    })
  }
}

function refuseContradictions(
  values: EnvironmentValues,
  env: NodeJS.ProcessEnv,
  problems: ConfigProblem[],
): void {
  const isSet = (name: string) => (env[name] ?? '') !== '' || (env[`${name}_FILE`] ?? '') !== ''
  const { PORT: port, ADMIN_PORT: adminPort } = values
  if (adminPort !== undefined && adminPort !== null && adminPort === port && port !== 0) {
    problems.push({
      path: 'ADMIN_PORT',
      problem: `is ${adminPort}, the same as PORT`,
      remedy: 'Give another port, or leave it out to have metrics, health and docs on PORT.',
    })
  }
  if (values.CHUTE_DATA_DIR_EPHEMERAL === true && !isSet('CHUTE_DATA_DIR')) {
    problems.push({
      path: 'CHUTE_DATA_DIR_EPHEMERAL',
      problem: 'is true without CHUTE_DATA_DIR, so it would not be used',
      remedy: 'Set CHUTE_DATA_DIR, or leave it out.',
    })
  }
  const { BODY_TIMEOUT_MS: bodyTimeoutMs, BODY_TIMEOUT_MAX_MS: bodyTimeoutMaxMs } = values
  if (bodyTimeoutMs !== undefined && bodyTimeoutMaxMs != null && bodyTimeoutMaxMs < bodyTimeoutMs) {
    problems.push({
      path: 'BODY_TIMEOUT_MAX_MS',
      problem: `is ${bodyTimeoutMaxMs}, below BODY_TIMEOUT_MS (${bodyTimeoutMs})`,
      remedy: `Set it to ${bodyTimeoutMs} or more, or leave it out.`,
    })
  }
  if (!['RATE_LIMIT_MAX', 'RATE_LIMIT_EVENTS', 'RATE_LIMIT_BYTES'].some(isSet)) {
    for (const name of ['RATE_LIMIT_WINDOW', 'RATE_LIMIT_BURST'].filter(isSet))
      problems.push({
        path: name,
        problem:
          'is set without RATE_LIMIT_MAX, RATE_LIMIT_EVENTS and RATE_LIMIT_BYTES, so nothing is limited',
        remedy: 'Set RATE_LIMIT_MAX, the requests that an address may make in a window, or leave it out.',
      })
  }
  for (const name of Object.keys(environmentShape)) {
    const url = /^(CHUTE_DEDUPE|RATE_LIMIT)_REDIS_(?!URL$)/.exec(name)
    if (url === null || !isSet(name) || isSet(`${url[1]}_REDIS_URL`)) continue
    problems.push({
      path: name,
      problem: `is set without ${url[1]}_REDIS_URL, so it would not be used`,
      remedy: `Set ${url[1]}_REDIS_URL, or leave it out.`,
    })
  }
  if (values.KAFKA_SSL === false) {
    for (const name of Object.keys(environmentShape)) {
      if (!name.startsWith('KAFKA_SSL_') || !isSet(name)) continue
      problems.push({
        path: name,
        problem: 'is set while KAFKA_SSL is false, so it would not be used',
        remedy: 'Set KAFKA_SSL=true, or leave it out.',
      })
    }
  }
  refuseHalves(['TLS_CERT', 'TLS_KEY'], 'TLS needs both', isSet, problems)
  if (isSet('TLS_CLIENT_CA') && !isSet('TLS_CERT') && !isSet('TLS_KEY')) {
    problems.push({
      path: 'TLS_CLIENT_CA',
      problem: 'is set without TLS_CERT and TLS_KEY, so no client could send its certificate',
      remedy: 'Set TLS_CERT and TLS_KEY, or leave it out.',
    })
  }
  refuseHalves(['KAFKA_SSL_CERT', 'KAFKA_SSL_KEY'], 'a client certificate needs both', isSet, problems)
  refuseSaslContradictions(values, isSet, problems)
}

const passwordSettings = ['KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD']
const endpointSettings = ['TOKEN_ENDPOINT_URL', 'CLIENT_ID', 'CLIENT_SECRET'].map(ofBearer)
const endpointOptions = ['SCOPE', 'AUDIENCE'].map(ofBearer)
const otherTokenSettings = ['TOKEN_FILE', 'TOKEN_COMMAND'].map(ofBearer)
const bearerSettings = [
  ...endpointSettings,
  ...endpointOptions,
  ...otherTokenSettings,
  ofBearer('EXTENSIONS'),
]

function ofBearer(name: string): string {
  return `KAFKA_SASL_OAUTHBEARER_${name}`
}

/** The settings of each mechanism. Those of another mechanism would not be used. */
const settingsOfMechanism = {
  plain: passwordSettings,
  'scram-sha-256': passwordSettings,
  'scram-sha-512': passwordSettings,
  oauthbearer: bearerSettings,
  aws_msk_iam: ['KAFKA_SASL_AWS_REGION', 'KAFKA_SASL_AWS_ROLE_ARN'],
} as const satisfies Record<(typeof saslMechanisms)[number], readonly string[]>

/** What each mechanism logs in with, for the words of an error. */
const logsInWith = {
  plain: 'a name and a password',
  'scram-sha-256': 'a name and a password',
  'scram-sha-512': 'a name and a password',
  oauthbearer: 'a token',
  aws_msk_iam: 'a token',
} as const satisfies Record<(typeof saslMechanisms)[number], string>

/** The region in the name of a broker of MSK: `b-1.events.abc123.c2.kafka.eu-central-1.amazonaws.com:9098`. null: no broker has one. */
export function regionOfBrokers(brokers: readonly string[]): string | null {
  for (const broker of brokers) {
    const region = /\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?:\d+$/.exec(broker)?.[1]
    if (region !== undefined) return region
  }
  return null
}

/** What each mechanism needs is set, and nothing else. Settings of a new kind that have to be set together get a check of their own here. */
function refuseSaslContradictions(
  values: Pick<EnvironmentValues, 'KAFKA_SASL_MECHANISM' | 'KAFKA_BROKERS'>,
  isSet: (name: string) => boolean,
  problems: ConfigProblem[],
): void {
  const mechanism = values.KAFKA_SASL_MECHANISM ?? null
  const own: readonly string[] = mechanism === null ? passwordSettings : settingsOfMechanism[mechanism]
  if (own === passwordSettings)
    refuseHalves(['KAFKA_SASL_MECHANISM', ...passwordSettings], 'SASL needs all three', isSet, problems)
  const others = new Set<readonly string[]>(Object.values(settingsOfMechanism))
  others.delete(own)
  for (const names of others)
    for (const name of names.filter(isSet))
      problems.push({
        path: name,
        problem: `is set, and KAFKA_SASL_MECHANISM is ${mechanism ?? 'not set'}, so it would not be used`,
        remedy:
          names === passwordSettings && mechanism !== null
            ? `Leave it out: ${mechanism} logs in with ${logsInWith[mechanism]}.`
            : `Set KAFKA_SASL_MECHANISM=${mechanismOf(names)}, or leave it out.`,
      })
  if (mechanism === 'aws_msk_iam') refuseNoRegion(values.KAFKA_BROKERS ?? [], isSet, problems)
  if (mechanism === 'oauthbearer') refuseTokenSources(isSet, problems)
}

/** The mechanism to which settings belong; the first one of several. */
function mechanismOf(names: readonly string[]): string | undefined {
  return Object.entries(settingsOfMechanism).find(([, own]) => own === names)?.[0]
}

function refuseNoRegion(
  brokers: readonly string[],
  isSet: (name: string) => boolean,
  problems: ConfigProblem[],
): void {
  if (isSet('KAFKA_SASL_AWS_REGION') || regionOfBrokers(brokers) !== null) return
  problems.push({
    path: 'KAFKA_SASL_AWS_REGION',
    problem: 'is not set, and no name in KAFKA_BROKERS has a region',
    remedy: 'Give the region of the cluster, such as eu-central-1.',
  })
}

/** Tokens come from one source, and the source has all that it needs. */
function refuseTokenSources(isSet: (name: string) => boolean, problems: ConfigProblem[]): void {
  const sources = [endpointSettings[0]!, ...otherTokenSettings].filter(isSet)
  if (sources.length !== 1)
    problems.push({
      path: 'KAFKA_SASL_MECHANISM',
      problem: `is oauthbearer, and ${sources.length === 0 ? 'nothing says where tokens come from' : `tokens come from ${sources.join(' and ')}`}`,
      remedy: `Set one of ${endpointSettings[0]} (with ${endpointSettings.slice(1).join(' and ')}), ${otherTokenSettings.join(' and ')}.`,
    })
  refuseHalves(endpointSettings, 'client credentials need all three', isSet, problems)
  for (const name of endpointOptions)
    if (isSet(name) && !isSet(endpointSettings[0]!))
      problems.push({
        path: name,
        problem: `is set without ${endpointSettings[0]}, so it would not be used`,
        remedy: `Set ${endpointSettings[0]}, or leave it out.`,
      })
}

function refuseHalves(
  names: readonly string[],
  why: string,
  isSet: (name: string) => boolean,
  problems: ConfigProblem[],
): void {
  const present = names.filter(isSet)
  if (present.length === 0) return
  for (const name of names.filter((each) => !isSet(each))) {
    problems.push({
      path: name,
      problem: `is not set, while ${present.join(' and ')} ${present.length === 1 ? 'is' : 'are'}`,
      remedy: `Set it as well, or leave out ${present.join(' and ')}: ${why}.`,
    })
  }
}

/**
 * Variables of other clients of Kafka, and the settings of Chute that stand for them. Such a variable is refused and not
 * ignored: a gateway that ignored `KAFKA_SECURITY_PROTOCOL=SASL_SSL` would speak plaintext.
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
  [
    /^(KAFKA_)?SASL_(OAUTHBEARER|OAUTH)_?(TOKEN_)?(ENDPOINT|URL|URI)\w*$|^KAFKA_OAUTH_TOKEN_ENDPOINT\w*$/,
    'KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL',
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
  [/^(CHUTE|TLS)_PORT$/, 'PORT'],
  [/^(CHUTE|TLS)_ADMIN_PORT$/, 'ADMIN_PORT'],
  [/^CORS_(ALLOW(ED)?_)?ORIGINS?$/, 'CORS_ORIGINS=https://app.example.com'],
  [/^RATE_LIMIT(_(REQUESTS|COUNT|RPS|PER_\w+))?$/, 'RATE_LIMIT_MAX and RATE_LIMIT_WINDOW'],
]

/** The setting that stands for a variable of another client; null if the variable is not in the list. */
export function oursFor(name: string): string | null {
  return foreignNames.find(([names]) => names.test(name))?.[1] ?? null
}

/**
 * Whether a variable that begins like a setting belongs to another program: Kafka's own scripts, `chute kafka`, `chute tail` or our tests.
 * Kubernetes and Docker set such variables too, for a service called kafka or chute.
 */
export function belongsToOthers(name: string, value: string): boolean {
  // Kubernetes and Docker give a URL to such a name. A number was meant for the gateway.
  if (/^(CHUTE|TLS)(_ADMIN)?_PORT$/.test(name) && /^\d+$/.test(value)) return false
  return (
    /_SERVICE_(HOST|PORT(_\w+)?)$/.test(name) ||
    /^\w+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$/.test(name) ||
    /^KAFKA_(HOME|DEBUG|VERSION|\w*_OPTS)$/.test(name) ||
    /^CHUTE_ADMIN_KEY(_FILE)?$/.test(name) ||
    /^CHUTE_(CACHE_DIR|FAULTS|RUNS|SEED|TEST_\w+)$/.test(name)
  )
}

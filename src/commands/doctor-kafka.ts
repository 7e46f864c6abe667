import { lookup } from 'node:dns/promises'
import net from 'node:net'
import tls from 'node:tls'
import { resends, type Config, type KafkaConfig, type StreamConfig } from '../config/config.ts'
import { eventTopics } from '../config/record-sources.ts'
import { bearerTokens } from '../kafka/network/bearer-tokens.ts'
import {
  clusterFacts,
  topicFacts,
  type ClusterClock,
  type ClusterFacts,
  type TopicFacts,
} from '../kafka/network/cluster-facts.ts'
import { describeFailure, explainFailure } from '../kafka/network/describe-failure.ts'
import { tlsOptions } from '../kafka/network/tls-and-sasl.ts'
import { parseAddress, topicsOf } from '../kafka/producers.ts'
import { UnservedError } from '../kafka/protocol/requests.ts'
import { lookAsGateway, type Finding } from './check-connect.ts'
import { type Diagnosis, failure, fine, skipped, warning, within } from './diagnosis.ts'

/**
 * Looks at Kafka for `chute doctor`: at each broker step by step, at the addresses that the cluster gives out, at everything that readiness goes
 * by, at the settings of each topic, and at the clock. It writes no record and creates nothing.
 * @param limitMs how long it waits for each step, and for what readiness goes by.
 */
export async function lookAtKafka(config: Config, limitMs: number): Promise<Diagnosis[]> {
  const { kafka } = config
  const token = await lookAtToken(kafka, limitMs)
  const canLogIn = token?.state !== 'failure'
  const ways = await Promise.all(
    kafka.brokers.map(async (address) => await wayTo(kafka, address, { limitMs, canLogIn })),
  )
  const steps = [...(token === null ? [] : [token]), ...ways.flatMap((way) => way.steps)]
  const cluster = ways.find((way) => way.cluster !== null)?.cluster ?? null
  if (cluster === null) return [...steps, skipped(theRest, 'no broker of KAFKA_BROKERS was reached')]
  const advertised = await lookAtAdvertised(kafka, cluster, limitMs)
  const found = [
    // A gateway needs one broker to find the others.
    ...steps.map((step) => (step.state === 'failure' ? { ...step, state: 'warning' as const } : step)),
    ...advertised.steps,
  ]
  if (!advertised.isAnyReached)
    return [...found, skipped(theRest, 'no broker is reached at the address that the cluster gives out')]
  const [{ findings }, topics] = await Promise.all([lookAsGateway(config, limitMs), factsOf(config, limitMs)])
  return [
    ...found,
    ...readiness(findings),
    ...(typeof topics === 'string'
      ? [skipped('settings of topics', `they cannot be read: ${topics}`)]
      : topics.flatMap((each) => judgeTopic(each, config))),
    judgeClock(cluster.clock, typeof topics === 'string' ? [] : topics),
  ]
}

const theRest = 'topics, rights, versions, clock'

/** What readiness goes by. As long as Kafka or a topic is missing, nothing good is known of what comes after it. */
function readiness(findings: readonly Finding[]): Diagnosis[] {
  const isBlind = findings.some(({ name, ok }) => !ok && (name === 'kafka' || name === 'topics'))
  return findings
    .filter(({ name, ok }) => name !== 'settings' && !(ok && isBlind && afterTopics.has(name)))
    .map(({ name, ok, detail }) => (ok ? fine(name, detail) : failure(name, detail, null)))
}

const afterTopics: ReadonlySet<string> = new Set(['topics', 'rights', 'leaders', 'versions', 'confirmation'])

async function factsOf({ kafka, streams }: Config, limitMs: number): Promise<TopicFacts[] | string> {
  try {
    return await within(limitMs, topicFacts(kafka, [...new Set(streams.flatMap(topicsOf))]))
  } catch (error) {
    return describeFailure(error, { kafka })
  }
}

/** Asks for a token (OAUTHBEARER), apart from any broker. null: no token is needed. */
async function lookAtToken({ sasl }: KafkaConfig, limitMs: number): Promise<Diagnosis | null> {
  if (sasl === null || !('token' in sasl)) return null
  try {
    await within(limitMs, bearerTokens(sasl).get())
    return fine('token', `a token for ${sasl.mechanism.toUpperCase()} was given`)
  } catch (error) {
    const remedy = 'See what the source of the tokens says, and the variables KAFKA_SASL_OAUTHBEARER_….'
    return failure('token', (error as Error).message, remedy)
  }
}

/** The steps on the way to a broker, and what it told of the cluster; null: a step has failed, which is the last one. */
interface Way {
  readonly steps: Diagnosis[]
  readonly cluster: ClusterFacts | null
}

/** Goes to a broker. @param options.name how the broker is called beside its address. @param options.limitMs longest wait for each step. */
async function wayTo(
  kafka: KafkaConfig,
  address: string,
  { limitMs, canLogIn = true, name = '' }: { limitMs: number; canLogIn?: boolean; name?: string },
): Promise<Way> {
  const { host, port } = parseAddress(address)
  const { ssl, sasl } = kafka
  const where = `${address}${name}`
  const last = sasl === null ? `Kafka ${where}` : `log in ${where}`
  let cluster: ClusterFacts | null = null
  const askBroker = async (): Promise<string> => {
    cluster = await clusterFacts(kafka, { host, port })
    return sasl === null
      ? 'a broker answers, and wants no credentials'
      : `the broker takes the credentials (${sasl.mechanism})`
  }
  const way: { readonly name: string; readonly go: () => Promise<string> }[] = [
    ...(net.isIP(host) === 0
      ? [{ name: `resolve ${host}${name}`, go: async () => await resolved(host) }]
      : []),
    { name: `connect ${where}`, go: async () => await connected(kafka, host, port) },
    ...(ssl === null ? [] : [{ name: `TLS ${where}`, go: async () => await shookHands(kafka, host, port) }]),
    ...(canLogIn ? [{ name: last, go: askBroker }] : []),
  ]
  const steps: Diagnosis[] = []
  for (const step of way) {
    try {
      steps.push(fine(step.name, await within(limitMs, step.go())))
    } catch (error) {
      const { message, advice } = explained(error as Error, kafka)
      return { steps: [...steps, failure(step.name, message, advice)], cluster: null }
    }
  }
  return { steps: canLogIn ? steps : [...steps, skipped(last, 'there is no token to log in with')], cluster }
}

async function resolved(host: string): Promise<string> {
  const found = await lookup(host, { all: true })
  return found.map(({ address }) => address).join(', ')
}

async function connected({ connectionTimeoutMs }: KafkaConfig, host: string, port: number): Promise<string> {
  const socket = net.connect({ host, port })
  return await whenOpen(socket, 'connect', connectionTimeoutMs, () => 'something listens there')
}

async function shookHands(kafka: KafkaConfig, host: string, port: number): Promise<string> {
  const { ssl, connectionTimeoutMs } = kafka
  const servername = net.isIP(host) === 0 ? { servername: host } : {}
  const socket = tls.connect({ host, port, ...servername, ...tlsOptions(ssl!) })
  return await whenOpen(socket, 'secureConnect', connectionTimeoutMs, () => {
    const { subject, valid_to: end } = socket.getPeerCertificate()
    const names = [subject?.CN ?? 'nobody by name'].flat().join(', ')
    const unchecked = ssl!.rejectUnauthorized
      ? ''
      : ', and is not checked (KAFKA_SSL_REJECT_UNAUTHORIZED=false)'
    return `${socket.getProtocol()}; the certificate is that of ${names}, until ${end}${unchecked}`
  })
}

/** Waits until a socket is open, reads from it what there is to say, and ends it. */
async function whenOpen(
  socket: net.Socket,
  event: 'connect' | 'secureConnect',
  limitMs: number,
  read: () => string,
): Promise<string> {
  const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${limitMs} ms`)), limitMs)
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once(event, resolve)
      socket.once('error', reject)
      socket.once('close', () => reject(new Error('the connection was closed')))
    })
    return read()
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
}

/** The transport has the advice in its message, and the failure itself behind it. */
function explained(error: Error, kafka: KafkaConfig): { message: string; advice: string | null } {
  if (error instanceof UnservedError) return { message: error.message, advice: adviceOnVersions }
  const { message, advice } = explainFailure(error.cause instanceof Error ? error.cause : error, { kafka })
  const onAddress = adviceByCode.find(([pattern]) =>
    pattern.test(`${message} ${(error as NodeJS.ErrnoException).code ?? ''}`),
  )
  return { message, advice: onAddress?.[1] ?? advice }
}

const adviceOnVersions =
  'Use the port of a broker, and not that of a controller. A broker needs Kafka 2.3 or later, or another kind that serves these versions (docs/brokers.md).'

/** Advice on failures that have one meaning (getaddrinfo(3), connect(2)). */
const adviceByCode: readonly (readonly [RegExp, string])[] = [
  [
    /ENOTFOUND/,
    'The name does not resolve on this machine: correct it (KAFKA_BROKERS, or advertised.listeners of the broker), or the DNS of this machine.',
  ],
  [/EAI_AGAIN/, 'The DNS of this machine does not answer. Look at /etc/resolv.conf, and at the network.'],
  [
    /ECONNREFUSED/,
    'Nothing listens there: correct the address (KAFKA_BROKERS, or advertised.listeners of the broker), or start the broker.',
  ],
  [
    /ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/,
    'No way leads there: look at the address, at routes, firewalls and network policies.',
  ],
]

/**
 * The brokers whose address only the cluster tells. A gateway writes to each broker at that address.
 * @returns also whether any broker of the cluster is reached at the address that the cluster tells.
 */
async function lookAtAdvertised(
  kafka: KafkaConfig,
  { brokers }: ClusterFacts,
  limitMs: number,
): Promise<{ readonly steps: Diagnosis[]; readonly isAnyReached: boolean }> {
  const told = brokers.map(({ nodeId, host, port }) => ({
    nodeId,
    address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
  }))
  const others = told.filter(({ address }) => !kafka.brokers.includes(address))
  const ways = await Promise.all(
    others.map(
      async ({ nodeId, address }) =>
        await wayTo(kafka, address, { limitMs, name: ` (broker ${nodeId} by advertised.listeners)` }),
    ),
  )
  const isAnyReached = others.length < told.length || ways.some(({ cluster }) => cluster !== null)
  return { steps: ways.flatMap(({ steps }) => steps), isAnyReached }
}

/** Judges the settings of a topic by what the streams want of it. */
export function judgeTopic(
  facts: TopicFacts,
  { streams, http }: Pick<Config, 'streams'> & { readonly http: Pick<Config['http'], 'limits'> },
): Diagnosis[] {
  const { topic, partitions, replicas, inSync, settings } = facts
  const name = `topic ${topic}`
  const said = `${partitions} partition${partitions === 1 ? '' : 's'}, ${replicas} replica${replicas === 1 ? '' : 's'}, ${inSync} in sync`
  if (settings === null)
    return [
      warning(name, `${said}. Its settings cannot be read`, `Permit DESCRIBE_CONFIGS on topic ${topic}.`),
    ]
  const number = (setting: string): number => Number(settings[setting] ?? Number.NaN)
  const leastInSync = number('min.insync.replicas')
  const writers = streams.filter((stream) => topicsOf(stream).includes(topic))
  const waits = writers.some(({ delivery }) => resends[delivery])
  const found: Diagnosis[] = []
  const say = (each: typeof failure, detail: string, remedy: string): void =>
    void found.push(each(name, detail, remedy))

  if (leastInSync > replicas)
    say(
      failure,
      `min.insync.replicas is ${leastInSync}, and there ${replicas === 1 ? 'is 1 replica' : `are ${replicas} replicas`}: no write is ever confirmed`,
      `Set min.insync.replicas of the topic to ${Math.max(1, replicas - 1)}, or give it more replicas.`,
    )
  else if (inSync < leastInSync)
    say(
      failure,
      `${inSync} of ${replicas} replicas are in sync, and min.insync.replicas is ${leastInSync}: no write is confirmed now`,
      'Bring the brokers back that have the other replicas.',
    )
  else if (inSync < replicas)
    say(warning, `${inSync} of ${replicas} replicas are in sync`, 'See which broker is away, or slow.')
  else if (replicas > 1 && leastInSync === replicas)
    say(
      warning,
      `min.insync.replicas is ${leastInSync}, as many as there are replicas: no write is confirmed while one broker is away`,
      `Set min.insync.replicas of the topic to ${replicas - 1}.`,
    )
  else if (waits && replicas > 2 && leastInSync === 1)
    say(
      warning,
      'min.insync.replicas is 1, so a record that is acknowledged can be on one broker alone',
      'Set min.insync.replicas of the topic to 2.',
    )

  const largest = number('max.message.bytes')
  if (largest < http.limits.eventBytes)
    say(
      warning,
      `max.message.bytes is ${largest}, and MAX_EVENT_BYTES is ${http.limits.eventBytes}: events between the two are refused with event_too_large`,
      `Raise max.message.bytes of the topic, or set MAX_EVENT_BYTES=${largest}.`,
    )

  const retentionMs = number('retention.ms')
  if (retentionMs >= 0 && retentionMs < shortRetentionMs)
    say(
      warning,
      `retention.ms is ${retentionMs}: a reader that pauses for so long finds its records gone`,
      'Raise retention.ms of the topic.',
    )

  if ((settings['cleanup.policy'] ?? '').includes('compact'))
    for (const stream of writers.filter((each) => eventTopics(each).includes(topic)))
      found.push(...judgeKeys(name, stream))
  return found.length > 0
    ? found
    : [fine(name, `${said}, min.insync.replicas ${leastInSync}, max.message.bytes ${largest}`)]
}

/** A compacted topic takes no record without a key. */
function judgeKeys(name: string, stream: StreamConfig): Diagnosis[] {
  const about = `it is compacted (cleanup.policy), so events of the stream ${stream.name} without a key are refused`
  return stream.key === 'none'
    ? [
        failure(
          name,
          `${about}, and key: none gives none to any`,
          `Set key of the stream, or cleanup.policy=delete of the topic.`,
        ),
      ]
    : [fine(name, about)]
}

/** Judges the clock of this machine by that of the cluster, and by what the topics take. A text says why the cluster's is not known. */
export function judgeClock(clock: ClusterClock | string, topics: readonly TopicFacts[]): Diagnosis {
  const name = 'clock'
  if (typeof clock === 'string') return fine(name, `the cluster does not tell its time: ${clock}`)
  const { aheadMs, uncertainMs, nodeId } = clock
  const offMs = Math.max(0, Math.abs(aheadMs) - uncertainMs)
  const offBy = `${durationOf(Math.abs(aheadMs))} ${aheadMs > 0 ? 'ahead of' : 'behind'} that of broker ${nodeId}`
  if (offMs < clockToleranceMs)
    return fine(name, `within ${durationOf(Math.abs(aheadMs) + uncertainMs)} of that of broker ${nodeId}`)
  const refusing = topics
    .filter(({ settings }) => offMs > boundMs(settings, aheadMs))
    .map(({ topic }) => topic)
  const remedy = 'Set the clocks of both by NTP (timedatectl, chronyc tracking).'
  if (refusing.length > 0)
    return failure(
      name,
      `${offBy}: ${refusing.join(', ')} refuse${refusing.length === 1 ? 's' : ''} such records (INVALID_TIMESTAMP)`,
      remedy,
    )
  const said = `${offBy}, and so is the time of each record`
  return offMs > wrongClockMs ? failure(name, said, remedy) : warning(name, said, remedy)
}

/** How far the time of a record may be from that of the broker. */
function boundMs(settings: TopicFacts['settings'], aheadMs: number): number {
  if (settings === null || settings['message.timestamp.type'] === 'LogAppendTime') return Infinity
  const side = aheadMs > 0 ? 'after' : 'before'
  const bounds = [`message.timestamp.${side}.max.ms`, 'message.timestamp.difference.max.ms']
  return Math.min(...bounds.map((setting) => Number(settings[setting] ?? Infinity)))
}

function durationOf(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  const seconds = Math.round(ms / 1_000)
  return seconds < 120
    ? `${seconds} s`
    : seconds < 7_200
      ? `${Math.round(seconds / 60)} min`
      : `${Math.round(seconds / 3_600)} h`
}

const shortRetentionMs = 15 * 60_000
const clockToleranceMs = 2_000
const wrongClockMs = 60_000

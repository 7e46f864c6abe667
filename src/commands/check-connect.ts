import { setTimeout as pause } from 'node:timers/promises'
import type { Config, KafkaConfig } from '../config/config.ts'
import { KafkajsTransport } from '../kafka/network/kafkajs-transport.ts'
import { silentLogger } from '../logger.ts'
import { parseAddress, Producers } from '../kafka/producers.ts'
import { admissionTraits } from '../kafka/producer/producer.ts'
import { createTopics } from '../kafka/network/topic-creator.ts'
import { readinessOf } from '../readiness.ts'
import { within } from './diagnosis.ts'

/** The result of one check: its name, whether it is right, and what was found or would be right. */
export interface Finding {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

/**
 * Looks at Kafka as the gateway would at its start: each broker of `KAFKA_BROKERS` by itself, then everything that readiness
 * goes by. It writes no record and creates no topic; whether a missing topic could be created is asked.
 * @param limitMs how long it waits for what is not right yet.
 */
export async function checkConnections(config: Config, limitMs: number): Promise<Finding[]> {
  const reached = config.kafka.brokers.map(async (address) => await reach(config, address, limitMs))
  const [{ everConnected, findings }, ...brokers] = await Promise.all([
    lookAsGateway(config, limitMs),
    ...reached,
  ])
  // One broker is enough to reach Kafka. A gateway is ready while others are away.
  return [...brokers.map((broker) => ({ ...broker, ok: broker.ok || everConnected })), ...findings]
}

/** Everything that readiness goes by, and whether the settings of the topics can be read. @param limitMs as of {@link checkConnections}. */
export async function lookAsGateway(
  config: Config,
  limitMs: number,
): Promise<{ readonly everConnected: boolean; readonly findings: Finding[] }> {
  const producers = new Producers({
    // `creatable` asks below whether the topics could be created.
    kafka: { ...config.kafka, topics: { ...config.kafka.topics, create: false } },
    streams: config.streams,
    dataDir: null,
    // The findings have the problems.
    logger: silentLogger,
    telemetry: () => ({ batchWritten() {}, requestCompleted() {} }),
  })
  for (const stream of config.streams)
    if (stream.invalid !== null)
      producers.openInvalid(stream, stream.invalid, { create: false, isLate: false })
  const deadlineMs = performance.now() + limitMs
  producers.start()
  try {
    for (;;) {
      const { ready, checks } = readinessOf({ producers, draining: false })
      const missing = config.kafka.topics.create ? missingTopics(producers) : []
      const isOver = ready || performance.now() >= deadlineMs
      const { obstructed } = producers
      const onlyTopicsAreMissing =
        missing.length > 0 &&
        obstructed.every(({ admission }) => admissionTraits[admission].isMissing) &&
        checks.every(({ ok, name }) => ok || ofTopics.has(name))
      if (isOver || onlyTopicsAreMissing) {
        const { everConnected } = producers
        const ofReadiness = checks.filter(({ name }) => !ofGateway.has(name))
        if (missing.length === 0)
          return { everConnected, findings: [...ofReadiness, ...settingsOf(producers, ready)] }
        // What is wrong with other topics stays. `topics` is replaced, unless a topic that is there was not seen.
        const isUnseen = obstructed.some(({ admission }) => admission === 'not_known_yet')
        const others = ofReadiness.filter(
          ({ name, ok }) => !ofTopics.has(name) || (!ok && (name !== 'topics' || isUnseen)),
        )
        return { everConnected, findings: [...others, await creatable(config, missing, limitMs)] }
      }
      await pause(50)
    }
  } finally {
    producers.abort()
  }
}

async function reach({ kafka }: Config, address: string, limitMs: number): Promise<Finding> {
  const name = `broker ${address}`
  try {
    await within(limitMs, touch(kafka, address))
    const how = `${kafka.ssl === null ? 'plaintext' : 'TLS'}, ${kafka.sasl === null ? 'no SASL' : `SASL ${kafka.sasl.mechanism}`}`
    return { name, ok: true, detail: `reached (${how})` }
  } catch (error) {
    return { name, ok: false, detail: `not reached: ${(error as Error).message}` }
  }
}

/** Connects, which may wait for a token before, and ends the connection. */
async function touch(kafka: KafkaConfig, address: string): Promise<void> {
  const { host, port } = parseAddress(address)
  const transport = new KafkajsTransport(kafka, silentLogger)
  const connection = await transport.connect(host, port, kafka.connectionTimeoutMs)
  connection.destroy(new Error('it was reached'))
}

/** Is never a reason not to be ready: without the settings a gateway works, and checks less before the 202. */
function settingsOf({ withoutSettings }: Producers, isReady: boolean): Finding[] {
  const names = 'max.message.bytes and cleanup.policy'
  if (withoutSettings.length > 0) {
    const remedy = `permit DESCRIBE_CONFIGS on topic ${withoutSettings.join(', ')}, or set max.request.size to no more than the topic takes`
    return [{ name: 'settings', ok: true, detail: `${names} cannot be read; ${remedy}` }]
  }
  // Of topics that were not seen nothing is known.
  return isReady ? [{ name: 'settings', ok: true, detail: `${names} of every topic were read` }] : []
}

function missingTopics(producers: Producers): string[] {
  return producers.obstructed.flatMap(({ admission, topic }) =>
    admissionTraits[admission].isMissing ? [topic] : [],
  )
}

async function creatable({ kafka }: Config, topics: readonly string[], limitMs: number): Promise<Finding> {
  const asked = createTopics(kafka, topics, { validateOnly: true })
  const causes = await within(limitMs, asked).catch(({ message }: Error) => new Map([['', message]]))
  const detail =
    causes.size === 0
      ? `${topics.join(', ')}: missing, and created at the start of the gateway`
      : [...new Set(causes.values())].join('; ')
  return { name: 'topics', ok: causes.size === 0, detail }
}

/** Checks of a gateway that runs. */
const ofGateway: ReadonlySet<string> = new Set(['draining', 'buffers', 'durability'])

/** Checks that say nothing of a missing topic. */
const ofTopics: ReadonlySet<string> = new Set(['topics', 'rights', 'leaders'])

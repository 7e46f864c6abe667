import type { TopicState } from './kafka/producer/cluster-metadata.ts'
import { configuredMode } from './kafka/producer/confirmation-mode.ts'
import type { ManagedProducer } from './kafka/producer/producer.ts'
import type { Producers } from './kafka/producer/producers.ts'
import type { Readiness } from './routes/health.ts'

/**
 * Ready means: give me requests. Not before Kafka was reached once and every topic is known; not while draining; not
 * while a buffer is full and its Kafka is away. An outage alone does not flip it: there is room, and a fleet that leaves
 * its load balancer together loses more than one that answers.
 */
export function readinessOf(state: {
  producers: Pick<Producers, 'byStream' | 'everConnected' | 'failure' | 'topicStatus'>
  draining: boolean
}): Readiness {
  const { producers, draining } = state
  const streams = [...producers.byStream.values()]
  const unknown = streams
    .filter((producer) => producer.admission === 'not_known_yet')
    .map(({ stream: { topic } }) => `${topic} ${saidOf[producers.topicStatus(topic)]}`)
  const stuck = streams.filter((producer) => producer.isFullAndStuck).map(nameOf)
  const lacking = [...new Set(streams.flatMap(({ stats }) => stats.lacking))]
  const checks = [
    check('draining', !draining, 'the gateway takes requests', 'the gateway is shutting down'),
    check('kafka', producers.everConnected, 'Kafka was reached', notReached(producers.failure)),
    check('topics', unknown.length === 0, 'every topic was seen', unknown.join('; ')),
    check('versions', lacking.length === 0, 'brokers serve what Chute sends', lacking.join('; ')),
    check('confirmation', true, saidOfConfirmation(streams), ''),
    check('buffers', stuck.length === 0, 'there is room', `full, with Kafka away: ${stuck.join(', ')}`),
  ]
  return { ready: checks.every(({ ok }) => ok), checks }
}

const saidOf: Record<TopicState['status'], string> = {
  unseen: 'was not seen yet',
  known: 'has no partitions yet',
  unknown_topic: 'does not exist',
  not_authorized: 'may not be seen with these credentials',
}

/** Does not make unready: it costs answers, and everything is as true as before. */
function saidOfConfirmation(streams: readonly ManagedProducer[]): string {
  const answered = streams.filter(
    ({ stream, stats }) => stats.confirmation === 'acks_1' && configuredMode(stream.producer) === 'log_end',
  )
  return answered.length === 0
    ? 'every stream confirms as it is configured to'
    : `a broker has not shown where its log ends, so each write is answered (acks=1): ${answered.map(nameOf).join(', ')}`
}

function notReached(cause: string | null): string {
  return cause === null ? 'Kafka was not reached yet' : `Kafka was not reached yet: ${cause}`
}

function nameOf({ stream }: { stream: { name: string } }): string {
  return stream.name
}

function check(name: string, ok: boolean, good: string, bad: string): Readiness['checks'][number] {
  return { name, ok, detail: ok ? good : bad }
}

import { acksOf, configuredMode, isAnswered } from './kafka/producer/outcome.ts'
import type { ManagedProducer, Obstacle, ProducerAdmission } from './kafka/producer/producer.ts'
import type { ObstructedTopic, Producers } from './kafka/producers.ts'

/** Whether a process wants requests, and the result of each check. `GET /readyz` answers with it. */
export interface Readiness {
  readonly ready: boolean
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[]
}

/**
 * Whether the gateway wants requests. At the start it is ready once Kafka was reached, and every topic is known, may be written
 * to, and has a leader that was reached. Later it is not ready while it drains, or while a buffer is full and its Kafka is away.
 *
 * An outage of Kafka alone does not make it unready: there is room in the buffers, and a whole fleet that leaves its load
 * balancer at the same time loses more events than a fleet that answers. For the same reason a stream that is refused later,
 * since its topic is gone or a right was taken away, is named and changes nothing while another stream takes events.
 */
export function readinessOf(state: {
  producers: Pick<Producers, 'byStream' | 'everConnected' | 'failure' | 'obstructed'>
  draining: boolean
}): Readiness {
  const { producers, draining } = state
  const streams = [...producers.byStream.values()]
  const stuck = streams.filter((producer) => producer.isFullAndStuck).map(nameOf)
  const { obstructed } = producers
  const seen = (good: string): string =>
    producers.everConnected ? good : 'nothing was looked at, since Kafka was not reached yet'
  const someTakeEvents = streams.some(({ obstacle }) => obstacle === null)
  const about = (
    name: NonNullable<(typeof checkOf)[ProducerAdmission]>,
    good: string,
  ): Readiness['checks'][number] => {
    const found = obstructed.filter(({ admission }) => checkOf[admission] === name)
    const ok = found.every(({ wasOpen }) => wasOpen && someTakeEvents)
    return check(name, ok, [seen(good), ...textsOf(found)].join('; but '), textsOf(found).join('; '))
  }
  const lacking = [...new Set(streams.flatMap((stream) => stream.lacking))]
  const checks = [
    check('draining', !draining, 'the gateway takes requests', 'the gateway is shutting down'),
    check('kafka', producers.everConnected, 'Kafka was reached', notReached(producers.failure)),
    about('topics', 'every topic was seen'),
    about('rights', 'every topic may be written to'),
    about('leaders', 'a leader of every topic was reached'),
    check('versions', lacking.length === 0, seen('brokers serve what Chute sends'), lacking.join('; ')),
    check('confirmation', true, saidOfConfirmation(streams), ''),
    check('durability', true, saidOfDurability(streams), ''),
    check('buffers', stuck.length === 0, 'there is room', `full, with Kafka away: ${stuck.join(', ')}`),
  ]
  return { ready: checks.every(({ ok }) => ok), checks }
}

/** The check that fails if the producer of a topic gives this answer; null: no check depends on it. */
const checkOf = {
  open: null,
  not_known_yet: 'topics',
  unknown_topic: 'topics',
  not_authorized: 'rights',
  no_leader_yet: 'leaders',
  spool_unavailable: null,
  closing: null,
} as const satisfies Record<ProducerAdmission, string | null>

function textsOf(found: readonly ObstructedTopic[]): string[] {
  return [...new Set(found.map(({ obstacle }) => describe(obstacle)))]
}

function describe({ summary, cause }: Obstacle): string {
  return cause === null ? summary : `${summary} (${cause})`
}

/** The text of a check that never fails: if a broker has to answer each write, that costs time, and the outcomes are as true as before. */
function saidOfConfirmation(streams: readonly ManagedProducer[]): string {
  const answered = streams.filter(
    ({ stream, confirmation }) => isAnswered(confirmation) && !isAnswered(configuredMode(stream.producer)),
  )
  const acks = [...new Set(answered.map(({ confirmation }) => acksOf(confirmation)))]
  return answered.length === 0
    ? 'every stream confirms as it is configured to'
    : `a broker has not shown where its log ends, so each write is answered (acks=${acks.join(', ')}): ${answered.map(nameOf).join(', ')}`
}

/** The text of a check that never fails: no reply promises more than the disk can keep. */
function saidOfDurability(streams: readonly ManagedProducer[]): string {
  const fleeting = streams.filter(({ durability }) => durability?.isLasting === false)
  return fleeting.length === 0
    ? 'every 202 that says durable is on a disk that stays, or CHUTE_DATA_DIR_EPHEMERAL has it so'
    : `CHUTE_DATA_DIR is on a file system that does not stay, so no 202 says durable: ${fleeting.map(nameOf).join(', ')}`
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

import type { ProducerStats } from '../src/kafka/producer/producer.ts'
import { endOffsets } from '../test/support/independent-reader.ts'
import type { ChuteProcess } from './server-process.ts'

/** What became of what a server accepted. */
export interface Landed {
  readonly accepted: number
  /** Records in the topics, by their log end offsets: a rate of events that did not land is no rate. */
  readonly inTopics: number
}

/** Waits until every record of a gateway has its outcome, then holds the ends of its topics against what it accepted. */
export async function landedOf(chute: ChuteProcess, broker: string): Promise<Landed> {
  const streams = await settled(chute)
  const used = streams.filter(({ accepted }) => accepted > 0)
  const ends = await Promise.all(used.map(async ({ topic }) => await recordsIn(broker, topic)))
  return {
    accepted: used.reduce((sum, { accepted }) => sum + accepted, 0),
    inTopics: ends.reduce((sum, end) => sum + end, 0),
  }
}

/** Waits until every record of a gateway has its outcome. */
export async function settled(chute: ChuteProcess): Promise<readonly ProducerStats[]> {
  for (;;) {
    const streams = await chute.stats()
    if (streams.every(({ spooled, buffered, inFlight }) => spooled + buffered + inFlight === 0))
      return streams
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Records that were ever written to a topic. */
export async function recordsIn(broker: string, topic: string): Promise<number> {
  const ends = await endOffsets(broker, topic)
  return [...ends.values()].reduce((sum, end) => sum + end, 0)
}

import { promiseOf, type ConfigProblem, type StreamConfig } from './config.ts'
import { eventTopics } from './record-sources.ts'

/**
 * Finds topics that would get records of two kinds. A topic never gets two deliveries, over all streams, dead letters and invalid events:
 * nobody could say what such a topic promises.
 */
export function refuseSharedTopics(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  refuseTwoDeliveries(streams, problems)
  refuseMixedDeadLetters(streams, problems)
  refuseMixedInvalid(streams, problems)
}

function refuseTwoDeliveries(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  const first = new Map<string, StreamConfig>()
  for (const stream of streams) {
    for (const topic of eventTopics(stream)) {
      const other = first.get(topic)
      if (other === undefined) first.set(topic, stream)
      else if (promiseOf(other) !== promiseOf(stream)) {
        problems.push({
          path: pathOf(stream),
          problem: `${verbOf(stream)} "${topic}", which ${other.name} writes to with another delivery (${promiseOf(other)}, here ${promiseOf(stream)})`,
          remedy: 'Give each delivery a topic of its own: nobody could say what a mixed topic promises.',
        })
      }
    }
  }
}

function pathOf({ name, topics }: StreamConfig): string {
  return `streams.${name}.${topics === null ? 'topic' : 'topics'}`
}

function verbOf({ topics }: StreamConfig): string {
  return topics === null ? 'is' : 'names'
}

/** A topic with both dead letters and events of a stream could be read as neither. */
function refuseMixedDeadLetters(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  for (const { name, deadLetterTopic } of streams) {
    const writer = streams.find(
      (stream) => deadLetterTopic !== null && eventTopics(stream).includes(deadLetterTopic),
    )
    if (writer === undefined) continue
    problems.push({
      path: `streams.${name}.deadLetterTopic`,
      problem: `is "${deadLetterTopic}", ${nameOfTopic(writer)} of ${writer.name}`,
      remedy: 'Give dead letters a topic of their own; several streams can share it.',
    })
  }
}

/** Anyone can send invalid events. A reader of good events, or of dead letters, must not get them. */
function refuseMixedInvalid(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  for (const { name, invalid } of streams) {
    if (invalid === null) continue
    const writer = streams.find((stream) => eventTopics(stream).includes(invalid.topic))
    const buried = streams.find(({ deadLetterTopic }) => deadLetterTopic === invalid.topic)
    const other = writer ?? buried
    if (other === undefined) continue
    const what = other === writer ? nameOfTopic(other) : 'the deadLetterTopic'
    problems.push({
      path: `streams.${name}.invalidTopic`,
      problem: `is "${invalid.topic}", ${what} of ${other.name}`,
      remedy: 'Give invalid events a topic of their own; several streams can share it.',
    })
  }
}

function nameOfTopic({ topics }: StreamConfig): string {
  return topics === null ? 'the topic' : 'a topic'
}

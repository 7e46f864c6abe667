import { promiseOf, type ConfigProblem, type StreamConfig } from './config.ts'

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
    const other = first.get(stream.topic)
    if (other === undefined) first.set(stream.topic, stream)
    else if (promiseOf(other) !== promiseOf(stream)) {
      problems.push({
        path: `streams.${stream.name}.topic`,
        problem: `is "${stream.topic}", which ${other.name} writes to with another delivery (${promiseOf(other)}, here ${promiseOf(stream)})`,
        remedy: 'Give each delivery a topic of its own: nobody could say what a mixed topic promises.',
      })
    }
  }
}

/** A topic with both dead letters and events of a stream could be read as neither. */
function refuseMixedDeadLetters(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  for (const { name, deadLetterTopic } of streams) {
    const writer = streams.find(({ topic }) => topic === deadLetterTopic)
    if (writer === undefined) continue
    problems.push({
      path: `streams.${name}.deadLetterTopic`,
      problem: `is "${writer.topic}", the topic of ${writer.name}`,
      remedy: 'Give dead letters a topic of their own; several streams can share it.',
    })
  }
}

/** Anyone can send invalid events. A reader of good events, or of dead letters, must not get them. */
function refuseMixedInvalid(streams: readonly StreamConfig[], problems: ConfigProblem[]): void {
  for (const { name, invalid } of streams) {
    const other = streams.find(
      ({ topic, deadLetterTopic }) => topic === invalid?.topic || deadLetterTopic === invalid?.topic,
    )
    if (invalid === null || other === undefined) continue
    const what = other.topic === invalid.topic ? 'the topic' : 'the deadLetterTopic'
    problems.push({
      path: `streams.${name}.invalidTopic`,
      problem: `is "${invalid.topic}", ${what} of ${other.name}`,
      remedy: 'Give invalid events a topic of their own; several streams can share it.',
    })
  }
}

import { invalidResults, type InvalidResult, type InvalidStats } from './edge-telemetry.ts'
import { mergeFamilies, type MergeableFamily } from './family.ts'

/** The events that the `invalidTopic` of each stream was to get. Streams without such a topic have no series. */
export function collectInvalidMetrics(streams: readonly InvalidStats[]): MergeableFamily[] {
  if (streams.length === 0) return []
  return [
    {
      name: totalName,
      help: 'Events that were refused for themselves and that invalidTopic was to get, by what became of them; each has one result, or is pending.',
      type: 'counter',
      samples: streams.flatMap(({ stream, topic, results }) =>
        invalidResults.map((result) => ({
          suffix: '',
          labels: { stream, topic, result },
          value: results[result],
        })),
      ),
    },
    {
      name: pendingName,
      help: 'Invalid events in the buffer of their topic, or written and not acknowledged.',
      type: 'gauge',
      merge: 'sum',
      samples: streams.map(({ stream, topic, pending }) => ({
        suffix: '',
        labels: { stream, topic },
        value: pending,
      })),
    },
  ]
}

/**
 * The counters of a process that has ended. What was pending went with its memory, and nobody knows whether it was written.
 * @param families all of that process; those that are not of invalid events stay as they are.
 */
export function retireInvalid(families: readonly MergeableFamily[]): MergeableFamily[] {
  const counters = families.filter(({ type }) => type !== 'gauge')
  const total = counters.find(({ name }) => name === totalName)
  const pending = families.find(({ name }) => name === pendingName)
  if (total === undefined || pending === undefined) return counters
  const lost = pending.samples.map((sample) => ({
    ...sample,
    labels: { ...sample.labels, result: 'suspected_lost' satisfies InvalidResult },
  }))
  return mergeFamilies([counters, [{ ...total, samples: lost }]])
}

const totalName = 'chute_invalid_events_total'
const pendingName = 'chute_invalid_events_pending'

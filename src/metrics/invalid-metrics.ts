import { invalidResults, type InvalidStats } from './edge-telemetry.ts'
import type { MergeableFamily } from './family.ts'

/** The events that the `invalidTopic` of each stream was to get. Streams without such a topic have no series. */
export function collectInvalidMetrics(streams: readonly InvalidStats[]): MergeableFamily[] {
  if (streams.length === 0) return []
  return [
    {
      name: 'chute_invalid_events_total',
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
      name: 'chute_invalid_events_pending',
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

import { collectDefaultMetrics, Registry } from 'prom-client'
import type { GaugeMerge, MergeableFamily, Sample } from './exposition.ts'

/**
 * One for the whole process, made at the first use: what it measures is the process, and prom-client cannot stop its
 * observers of garbage collection and of the event loop again, so one a gateway would be a leak in tests.
 */
let registry: Registry | null = null

/** Gauges whose names end like a counter's, which linters of metrics refuse; the same numbers are there by type. */
const leftOut = new Set([
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
])

/** Begins to observe garbage collection and the event loop. Does nothing when called again. */
export function watchProcess(): Registry {
  if (registry === null) {
    registry = new Registry()
    collectDefaultMetrics({ register: registry })
  }
  return registry
}

/**
 * Memory, CPU, file descriptors, event-loop lag and garbage collection, under the names that every Node dashboard knows.
 * The lag's minimum, maximum and percentiles are since the last call.
 */
export async function collectProcessMetrics(): Promise<MergeableFamily[]> {
  const collected = await watchProcess().getMetricsAsJSON()
  return collected
    .filter(({ name }) => !leftOut.has(name))
    .map(({ name, help, type: promType, values }) => {
      const samples = values.map((value) => toSample(name, value))
      // prom-client types this as an enum of numbers; it is a string.
      const type = String(promType)
      if (type === 'counter' || type === 'histogram') return { name, help, type, samples }
      return { name, help, type: 'gauge', merge: mergeOf(name), samples }
    })
}

/** Memory, handles and descriptors are quantities. Of a lag the worst counts; the group is as old as its first process. */
function mergeOf(name: string): GaugeMerge {
  if (name === 'process_start_time_seconds' || name === 'nodejs_eventloop_lag_min_seconds') return 'min'
  if (name.startsWith('nodejs_eventloop_lag') || name === 'nodejs_version_info') return 'max'
  return 'sum'
}

/** prom-client gives each sample of a histogram a name of its own, and the bound as a label. */
function toSample(
  familyName: string,
  sample: { value: number; labels: Partial<Record<string, string | number>>; metricName?: string },
): Sample {
  const { le, ...others } = sample.labels
  return {
    suffix: (sample.metricName ?? familyName).slice(familyName.length),
    labels: Object.fromEntries(Object.entries(others).map(([label, value]) => [label, String(value)])),
    ...(le === undefined ? {} : { le: le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le) }),
    value: sample.value,
  }
}

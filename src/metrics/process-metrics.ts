import { collectDefaultMetrics, Registry } from 'prom-client'
import type { GaugeMerge, MergeableFamily, Sample } from './family.ts'

/**
 * The process has one registry, made at the first use. prom-client cannot stop its observers of garbage collection and of the
 * event loop, so one registry a gateway would be a leak in tests, which build many gateways.
 */
let registry: Registry | null = null

/** Gauges with names that end in `_total`, which linters of metrics refuse. Other gauges have the same numbers by type. */
const leftOut = new Set([
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
])

/** Begins to observe garbage collection and the event loop. A second call does nothing. @returns the registry. */
export function watchProcess(): Registry {
  if (registry === null) {
    registry = new Registry()
    collectDefaultMetrics({ register: registry })
  }
  return registry
}

/**
 * Memory, CPU, file descriptors, event-loop lag and garbage collection, under the names that every Node dashboard knows.
 * The minimum, the maximum and the percentiles of the lag are of the time since the last call.
 */
export async function collectProcessMetrics(): Promise<MergeableFamily[]> {
  const collected = await watchProcess().getMetricsAsJSON()
  return collected
    .filter(({ name }) => !leftOut.has(name))
    .map(({ name, help, type: promType, values }) => {
      const samples = values.map((value) => toSample(name, value))
      // prom-client declares the type as an enum of numbers. At run time it is a string.
      const type = String(promType)
      if (type === 'counter' || type === 'histogram') return { name, help, type, samples }
      return { name, help, type: 'gauge', merge: mergeOf(name), samples }
    })
}

/** Memory, handles and descriptors are quantities. The largest lag stands for all processes, and so does the oldest start. */
function mergeOf(name: string): GaugeMerge {
  if (name === 'process_start_time_seconds' || name === 'nodejs_eventloop_lag_min_seconds') return 'min'
  if (name.startsWith('nodejs_eventloop_lag') || name === 'nodejs_version_info') return 'max'
  return 'sum'
}

/** In prom-client each sample of a histogram has a name of its own, and the bound is a label. */
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

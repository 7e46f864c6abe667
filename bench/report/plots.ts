import { flameGraph } from './flame-graph.ts'
import { lineChart } from './svg.ts'
import type { KeptResults } from './results.ts'

/** The plots of docs/plots/, by name. */
export function plotsOf({ latency, growth, soak, profile }: KeptResults): Record<string, string> {
  const plots: Record<string, string> = {}
  if (latency !== undefined) {
    plots['latency'] = lineChart({
      title: 'Latency at a fixed rate, single events',
      xLabel: 'requests/s',
      yLabel: 'ms',
      yLog: true,
      series: ['bare Fastify', 'Chute'].flatMap((server) =>
        (['p50Ms', 'p99Ms'] as const).map((percentile) => ({
          name: `${server}, ${percentile.slice(0, 3)}`,
          points: latency.rows
            .filter((row) => row.server === server)
            .map((row) => ({ x: row.ratePerSecond, y: row[percentile] })),
        })),
      ),
    })
  }
  if (growth !== undefined) {
    const quantities = ['streams', 'partitions', 'connections', 'keys'] as const
    plots['growth'] = lineChart({
      title: 'CPU time of an event against the first of each row',
      xLabel: '1st, 2nd… size of the table',
      yLabel: 'ratio',
      categories: ['1st', '2nd', '3rd', '4th'],
      series: quantities.map((quantity) => ({
        name: quantity,
        points: growth.rows
          .filter((row) => row.quantity === quantity)
          .map(({ ratio }, x) => ({ x, y: ratio })),
      })),
    })
    plots['growth-bytes'] = lineChart({
      title: 'CPU time of an event by its size',
      xLabel: 'bytes',
      yLabel: 'CPU µs',
      series: [
        {
          name: 'Chute',
          points: growth.rows
            .filter(({ quantity }) => quantity === 'bytes')
            .map(({ size, cpuMicrosPerEvent }) => ({ x: Number(size), y: cpuMicrosPerEvent })),
        },
      ],
    })
  }
  if (soak !== undefined) {
    plots['soak'] = lineChart({
      title: 'Resident memory under steady load',
      xLabel: 'seconds',
      yLabel: 'MiB',
      series: [
        {
          name: 'RSS',
          points: soak.samples.map(({ atSeconds, rssMegabytes }) => ({ x: atSeconds, y: rssMegabytes })),
        },
      ],
    })
  }
  for (const { request, flames } of profile?.rows ?? [])
    plots[flamePlotOf(request)] = flameGraph(`Where the time goes: ${request}`, flames)
  return plots
}

/** The name of the plot of a profile. */
export function flamePlotOf(request: string): string {
  return `flame-${request.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}`
}

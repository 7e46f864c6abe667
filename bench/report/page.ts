import { goalsOf, slownessOf } from './goals.ts'
import type { KeptResults } from './results.ts'
import { sections } from './sections.ts'

/** docs/performance.md. */
export function performancePage(results: KeptResults): string {
  const goals = goalsOf(results)
  const rows = goals.map(({ goal, measured, met }) => `| ${goal} | ${measured} | ${verdict(met)} |\n`)
  const parts = [
    '# Performance\n',
    `Written by \`npm run bench\` from bench/results/; do not edit. Servers are measured in turn in one run, with Kafka and the
load on the same cores, so quote the ratios. The absolute bars were set on a machine where bare Fastify takes 30 µs of CPU a
request; here it takes ${(slownessOf(results) * 30).toFixed(0)}, and they are scaled by ${slownessOf(results).toFixed(2)}.\n`,
    `## Goals\n\n| goal | measured | met |\n|---|---|---|\n${rows.join('')}`,
    ...(goals.some(({ met }) => met === false) ? [inTheWay] : []),
    ...sections(results),
  ]
  return parts.join('\n')
}

function verdict(met: boolean | null): string {
  if (met === null) return '–'
  return met ? 'yes' : '**no**'
}

/** Where a goal above is missed, this is where to look. */
const inTheWay = `### What stands in the way

"Where the time of a request goes", below, is the profile, with flame graphs. Writing the reply to its socket and what node:http
does around a request are a floor that bare Fastify has too; what Chute can still save is in the rows of its own and in "Our own
part of an event".

Streams: each has a connection of its own to each broker, so that what one topic makes a broker do (it closes an acks=0 connection on
any error, and reads no further while it is busy) never harms another stream's records. The price is a call to the kernel, and the
answers to a barrier, for each stream's batches: at the same rate of events 50 streams have fifty times the batches of one, of two
events and not of a hundred. One connection for all would make cost flat, and end that isolation. Partitions: as many batches, each
with a header and a checksum, but one call for all.

On two cores the gateway, the load and Kafka share; bare Fastify shares with the load alone. "Waits for a core" in the tables
is the share of the time in which the server's thread was ready to run and had none: what p99 holds above bare Fastify's is
that wait as long as "Pauses of the event loop" shows no work of ours that is as long. A rate in a closed loop is held down by
it too, while CPU time is not.
`

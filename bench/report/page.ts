import { goalsOf, slownessOf } from './goals.ts'
import type { KeptResults } from './results.ts'
import { sections } from './sections.ts'

/** docs/performance.md. */
export function performancePage(results: KeptResults): string {
  const goals = goalsOf(results)
  const rows = goals.map(({ goal, measured, met }) => `| ${goal} | ${measured} | ${verdict(met)} |\n`)
  const parts = [
    '# Performance\n',
    `\`npm run bench\` writes this page from bench/results/. Do not edit it. Each part names its command, date, commit and machine.

One run measures the servers in turn, with Kafka and the load on the same cores. So quote the ratios, and not the absolute figures. The absolute bars were
set on a machine where bare Fastify takes 30 µs of CPU a request. Here bare Fastify takes ${(slownessOf(results) * 30).toFixed(0)} µs, so the bars are scaled by ${slownessOf(results).toFixed(2)}.

"Bare Fastify" and "bare node:http" are servers that parse a JSON body, answer 202, and do nothing else. "landed" are events that are in the topic, by its log end
offsets. "The delivery model" is [delivery-model.md](delivery-model.md).\n`,
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

"Where the time of a request goes", below, is the profile, with flame graphs. Two costs are a floor that bare Fastify has too: to write the reply to its socket,
and what node:http does around a request. What Chute can still save is in the rows of its own, and in "Our own part of an event".

**Streams.** At-most-once streams share a connection to each broker: the batches of a turn are one request and one call to the kernel, and one barrier asks for all
([semantics.md](semantics.md#a-connection-that-streams-share)). What is left is the price of a batch: a header, a checksum, a buffer, an entry in the account, and a place in the barrier. At the
same rate of events, 50 streams have twenty times as many batches, each with six events and not with more than a hundred. A stream with \`connection: own\` also has the calls to the kernel and the barriers to itself. At-least-once streams share another connection, and write one request
at a time: what comes before its answer goes with the next one.

**Partitions.** There are as many batches, each with a header and a checksum, but one call to the kernel for all of them. Batches wait for their confirmation, so they outlive young collections,
which copy them: that is a part of what more of them cost. Another part is not ours: a broker takes longer over a request with 200 partitions, on the same two cores.

**Connections.** Node and the kernel keep tens of kilobytes for each connection, and a processor's caches hold a few hundred of them. So bare node:http grows, too: its rows in "How cost grows" are measured
in the same way. Requests of which no reply came have a connection that was not taken in time. Node takes one new connection each time it asks the kernel what there is
(libuv, pull request 3696), and with thousands of busy connections it asks a few dozen times a second. That is so for bare node:http, too.

**Memory.** What a load adds to an idle gateway is V8's young generation (17 MB), code that the compilers made, objects of batches that wait for their confirmation, and bodies that are being
read, which \`buffer.memory\` does not count. node:http makes a piece of 64 KB of each read. To free each piece and each large buffer at once, by detaching it, took
bodies of 1 MB from 181 to 104 MB (at 3ed037d). That went out again. Once a process has detached one buffer, V8 checks each access to the bytes of every buffer: in a small program loops over bytes
took 1.5 to 2.2 × as long from then on, and an event of NDJSON took 1.28 µs there. The 64 connections of that load can have 64 MB of bodies under way by themselves.
What stays: the library of lz4 gives its pages back at once, which took 28 MB from the \`logs\` preset. With \`MIMALLOC_PURGE_DELAY=10\` in the environment it keeps them, and a request of 100 log lines takes less CPU.

**Pauses.** One above 20 ms comes once in some minutes, in any row, and another one in each run. One of 27 ms was looked at closely: no collection, no page fault, one slice of the scheduler.
The process had run for 13 s, and its time in the kernel and outside it grew in just the ratio that they had so far. Linux tells that where its timer did not tick meanwhile (\`cputime_adjust\`). So the virtual
core stood still, on a machine that tells of no stolen time. The collector's longest time has the waiting for its helper threads in it, which share two cores with Kafka and the load.

**Soak.** What is under way in a burst gets into V8's old space, some 8 MB each time, and is collected when that space has grown from 22 to about 60 MB. So memory goes up and down. The least that is
resident rose in this run, from 157 to 190 MiB, in one step. It did in another run, at 4c9b5a1 (1.102 ×), with heap statistics beside it: within one burst at 345 s some 25 MB came, and stayed. V8's heap was at 64 to 68 MB
before and after it, and what is outside of the heap went back to 11 to 30 MB. From then on to the end nothing came. So it is memory that malloc has back and keeps, as in the paragraph before the last, and no leak.

**A key, limits, CORS and two headers.** In arrays of 100 the two headers make each record larger by a fifth, and Kafka, on the same cores, has more to do, too. Runs of the same code differ: four
printed 0.91, 0.91, 0.86 and 0.90 of the rate.

**Idle.** A gateway with 300 streams took less memory in this run (89 MB) than one with two (91 MB), and at 3ed037d it was the other way round (93 and 85 MB). So runs differ by more than the bar is missed by.

**Deliveries at the producer.** In the run of this page, at most once took 0.48 µs of CPU an event, and at least once 0.32. In another run of \`npm run bench -- delivery\` at the same commit, right behind it,
they took 0.26 and 0.33. An event costs so little there that a pause of Kafka's, on the same cores, decides.

**Hostile bodies.** Which body has the longest pause changes from run to run of one code: 25.7 ms once for 30 bad labels, which took 14.8, 6.4 and 7.4 ms in three more runs. The paragraph about pauses holds here, too.

**Two cores.** The gateway shares them with the load and Kafka. Bare Fastify shares them with the load alone. "Waits for a core" in the tables is the share of
the time in which the server's thread was ready to run and had no core. That wait explains why p99 is above that of bare Fastify, as long as "Pauses of the
event loop" shows no work of ours that is as long. The wait also holds down a rate in a closed loop. It does not change CPU time.
`

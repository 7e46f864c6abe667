import { arrayOf100, ndjsonOf100, singleEvent } from './events.ts'
import { IngestPath, turn } from './in-process/ingest-path.ts'
import type { LoadRequest } from './load.ts'
import { median } from './rounds.ts'

/** What an event costs between the route's handler and the connection to Kafka. */
export interface MicroRow {
  readonly request: string
  readonly cpuMicrosPerEvent: number
  /** Of the JavaScript heap, in bytes: what the garbage collector has to deal with. */
  readonly allocatedPerEvent: number
}

const requests: readonly { name: string; request: LoadRequest; events: number; aTurn: number }[] = [
  { name: 'single event', request: singleEvent, events: 1, aTurn: 64 },
  { name: 'NDJSON of 100', request: ndjsonOf100, events: 100, aTurn: 8 },
  { name: 'array of 100', request: arrayOf100, events: 100, aTurn: 8 },
]

/** The three kinds of request in turn, round by round; medians. No socket, no Kafka and no clock decide anything here. */
export async function benchMicro(options: { rounds: number; eventsPerRound: number }): Promise<MicroRow[]> {
  const path = await IngestPath.start()
  try {
    const rounds: { cpuMicros: number; allocated: number }[][] = requests.map(() => [])
    // The first round is for the compiler.
    for (let round = 0; round <= options.rounds; round++) {
      for (const [kind, measured] of rounds.entries()) {
        const result = await measure(path, requests[kind]!, options.eventsPerRound)
        if (round > 0) measured.push(result)
      }
    }
    return requests.map(({ name }, kind) => ({
      request: name,
      cpuMicrosPerEvent: median(rounds[kind]!.map(({ cpuMicros }) => cpuMicros)),
      allocatedPerEvent: median(rounds[kind]!.map(({ allocated }) => allocated)),
    }))
  } finally {
    path.stop()
  }
}

async function measure(
  path: IngestPath,
  { request, events, aTurn }: (typeof requests)[number],
  eventsPerRound: number,
): Promise<{ cpuMicros: number; allocated: number }> {
  const body = Buffer.from(request.body)
  const turns = Math.ceil(eventsPerRound / events / aTurn)
  const allocated: number[] = []
  const before = process.cpuUsage()
  for (let i = 0; i < turns; i++) {
    const heapBefore = process.memoryUsage().heapUsed
    for (let n = 0; n < aTurn; n++) path.take(request, body)
    await path.answered()
    const grown = process.memoryUsage().heapUsed - heapBefore
    await turn()
    // It shrinks where the collector ran in between.
    if (grown > 0) allocated.push(grown / aTurn / events)
  }
  const { user, system } = process.cpuUsage(before)
  return { cpuMicros: (user + system) / (turns * aTurn * events), allocated: median(allocated) }
}

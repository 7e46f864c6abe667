import { setTimeout as pause } from 'node:timers/promises'
import type { LocalKafka } from '../../../src/local-kafka/local-kafka.ts'
import { isFull } from '../../support/forms.ts'
import { startBystander } from './bystander.ts'
import { form } from './form.ts'
import { reportOf, type FaultReport } from './report.ts'
import {
  startSubject,
  type Ending,
  type Subject,
  type SubjectOptions,
  type SubjectStream,
} from './subject.ts'

/** Something that goes wrong with Kafka, and how it gets well again. */
export interface Fault {
  /** As the page of results names it. */
  readonly name: string
  readonly kafka: LocalKafka
  /** Makes it happen to the gateway that stays, the first, and to the one that leaves. It may take its time, as a rolling restart does. */
  readonly inflict: (gateways: readonly [Subject, Subject]) => Promise<void>
  /** How long it lasts at the least; longer, if the gateway that leaves has not ended by then. */
  readonly lastsMs: number
  /** Undoes it. @returns when Kafka answers again. */
  readonly heal: () => Promise<void>
  /** What differs from {@link usualStreams} and one broker. */
  readonly subject?: Partial<SubjectOptions>
}

/**
 * Two gateways live through a fault. One stays and has to be well afterwards; the other is told to go (SIGTERM) in the
 * middle of it. Both have an at-most-once and an at-least-once stream. Everything is read back at the end.
 */
export async function liveThrough(fault: Fault): Promise<FaultReport> {
  const { kafka } = fault
  const options = { brokers: kafka.brokers, streams: usualStreams, ...fault.subject }
  const [stays, leaves] = await Promise.all([
    startSubject(options),
    startSubject({
      ...options,
      streams: options.streams.map((stream) => ({ ...stream, load: fewer(stream.load) })),
      env: { ...options.env, SHUTDOWN_TIMEOUT_MS: String(form.shutdownTimeoutMs) },
    }),
  ])
  const bystander = await startBystander()
  stays.startLoads()
  leaves.startLoads()
  await pause(form.warmUpMs)
  const calmFromMs = performance.now()
  await pause(form.calmMs)

  const inflictedAtMs = performance.now()
  const inflicted = fault.inflict([stays, leaves])
  const [ending] = await Promise.all([leaveAmid(leaves, inflicted), inflicted, pause(fault.lastsMs)])
  const healedFromMs = performance.now()
  await fault.heal()
  const answeredAtMs = performance.now()
  await flowsAgain(stays)
  await pause(form.afterMs)

  await Promise.all([stays.stopLoads(), bystander.stop()])
  const settledMs = await stays.settled()
  const stayedEnding = await stays.end()
  const times = { calmFromMs, inflictedAtMs, healedFromMs, answeredAtMs }
  return await reportOf({ fault, stays, stayedEnding, settledMs, leaves, ending, bystander, times })
}

/** Some time into the fault, when buffers hold something. The devices go on sending for as long as there is somebody. */
async function leaveAmid(subject: Subject, inflicted: Promise<void>): Promise<Ending> {
  await Promise.race([inflicted, pause(10 * leaveAfterMs)])
  await pause(leaveAfterMs)
  const ending = await subject.end()
  await subject.stopLoads()
  return ending
}

/** Waits until something is confirmed that was not before, on every stream. */
async function flowsAgain({ scraper }: Subject): Promise<void> {
  const startMs = performance.now()
  const delivered = (): number[] => scraper.scrapes.at(-1)!.streams.map((s) => s.confirmed + s.acked)
  const before = delivered()
  while (delivered().some((count, index) => count === before[index])) {
    if (performance.now() - startMs > flowLimitMs) throw new Error('nothing is confirmed after the fault')
    await pause(20)
  }
}

/** What leaves is watched for what it says and not for how fast it is. */
function fewer(load: SubjectStream['load']): SubjectStream['load'] {
  return { ...load, devices: 10, requestsPerSecond: load.eventsPerRequest > 1 ? 10 : 50 }
}

const leaveAfterMs = isFull ? 3_000 : 700
const flowLimitMs = 60_000
/** Few devices, as send what must not be lost. */
export const fewDevices = { devices: 10, requestsPerSecond: 50, eventsPerRequest: 1, eventBytes: 200 }

/** One stream of each delivery. Each event is a request of its own, as from devices. */
export const usualStreams: SubjectOptions['streams'] = [
  {
    name: 'realtime',
    delivery: 'at-most-once',
    load: {
      devices: 50,
      requestsPerSecond: form.ratePerSecond,
      eventsPerRequest: 1,
      eventBytes: 200,
    },
  },
  { name: 'critical', delivery: 'at-least-once', load: fewDevices },
  // It shares its connections with the first one.
  { name: 'neighbour', delivery: 'at-most-once', load: fewDevices },
]

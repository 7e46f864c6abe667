/**
 * What a fleet needs, from what one process needs: the arithmetic of docs/scaling.md. `npm run bench -- fleet` compares it with what a real
 * fleet needs.
 */
export interface FleetShape {
  /** Gateways × `WORKERS`: each process has connections, buffers and batches of its own. */
  readonly processes: number
  readonly brokers: number
  /** Streams of all deliveries. A stream with `topics` counts once for each topic. */
  readonly streams: number
  /** Those of them that are at-most-once: they send barriers. The streams of a delivery share their connections. */
  readonly atMostOnceStreams: number
  /** Of all streams and processes together. They are spread evenly over all of them, and over all brokers. */
  readonly eventsPerSecond: number
  readonly lingerMs: number
  readonly confirmIntervalMs: number
}

/**
 * Connections at the first of `KAFKA_BROKERS`: of each process, one for all at-most-once streams, one for all at-least-once streams, and one
 * for metadata. Other brokers have none for metadata.
 */
export function connectionsOfFirstBroker({ processes, streams, atMostOnceStreams }: FleetShape): number {
  return processes * (Math.min(1, atMostOnceStreams) + Math.min(1, streams - atMostOnceStreams) + 1)
}

/**
 * Produce requests a second at one broker, at most: those of streams of a delivery that are due in the same turn of the event loop are one.
 * A batch opens with its first event and goes `linger.ms` later, with all that came meanwhile.
 */
export function produceRequestsOfBroker(fleet: FleetShape): number {
  return fleet.processes * fleet.streams * produceRequestsOfLink(fleet)
}

/**
 * Barriers a second at one broker, at most: one for each produce request of a stream, and no more than one in `confirm.interval.ms`. Those
 * of streams that are due in the same turn are one. Each is two ListOffsets requests.
 */
export function barriersOfBroker(fleet: FleetShape): number {
  const { processes, atMostOnceStreams, confirmIntervalMs } = fleet
  return processes * atMostOnceStreams * Math.min(1_000 / confirmIntervalMs, produceRequestsOfLink(fleet))
}

/** Events in one produce request, on average. */
export function eventsOfProduceRequest(fleet: FleetShape): number {
  return eventsOfLink(fleet) / produceRequestsOfLink(fleet)
}

/** Processes that a rate needs. A process uses one core, and above three quarters of it replies begin to wait. */
export function processesFor(eventsPerSecond: number, cpuMicrosPerEvent: number): number {
  return Math.ceil((eventsPerSecond * cpuMicrosPerEvent) / 1e6 / 0.75)
}

/** From one stream of one process to one broker. */
function produceRequestsOfLink(fleet: FleetShape): number {
  return 1_000 / (fleet.lingerMs + 1_000 / eventsOfLink(fleet))
}

function eventsOfLink({ eventsPerSecond, processes, streams, brokers }: FleetShape): number {
  return eventsPerSecond / processes / streams / brokers
}

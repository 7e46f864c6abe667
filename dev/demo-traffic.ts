/** The streams of a gateway without a configuration file. */
const streams = ['metrics-realtime', 'metrics-critical'] as const

/** What was sent to one stream and how it was answered. */
export interface StreamTraffic {
  readonly stream: (typeof streams)[number]
  accepted: number
  /** Durations of the replies, in milliseconds. */
  readonly replyMs: number[]
  startedAtMs: number
  endedAtMs: number
}

/**
 * Sends `eventCount` sample events to each kind of address: most to the realtime stream, a tenth to the critical one; one
 * by one, in arrays, in NDJSON and as beacons, from 50 devices.
 */
export async function sendTraffic(
  url: string,
  eventCount: number,
  onProgress: (sent: number) => void,
): Promise<StreamTraffic[]> {
  const critical = Math.floor(eventCount / 10)
  let sent = 0
  const progress = (count: number): void => {
    sent += count
    onProgress(sent)
  }
  const traffic = [newTraffic('metrics-realtime'), newTraffic('metrics-critical')] as const
  await Promise.all([
    send(url, traffic[0], eventCount - critical, progress),
    send(url, traffic[1], critical, progress),
  ])
  return [...traffic]
}

/** Four clients, each with one request at a time, as devices are. */
async function send(
  url: string,
  traffic: StreamTraffic,
  count: number,
  onProgress: (count: number) => void,
): Promise<void> {
  let next = 0
  const client = async (): Promise<void> => {
    while (next < count) {
      const shape = shapes[next % shapes.length]!
      const size = Math.min(shape.events, count - next)
      const events = Array.from({ length: size }, (_, index) => sampleEvent(next + index))
      next += size
      await post(url, traffic, shape, events)
      onProgress(size)
    }
  }
  traffic.startedAtMs = performance.now()
  await Promise.all([client(), client(), client(), client()])
  traffic.endedAtMs = performance.now()
}

async function post(
  url: string,
  traffic: StreamTraffic,
  shape: Shape,
  events: readonly object[],
): Promise<void> {
  const startedAtMs = performance.now()
  const reply = await fetch(`${url}${shape.path}${traffic.stream}`, {
    method: 'POST',
    headers: { 'content-type': shape.contentType },
    body: shape.encode(events),
  })
  const text = await reply.text()
  traffic.replyMs.push(performance.now() - startedAtMs)
  if (reply.status !== 202) throw new Error(`the gateway answered ${reply.status}: ${text}`)
  traffic.accepted += text === '' ? events.length : (JSON.parse(text) as { accepted: number }).accepted
}

interface Shape {
  readonly path: string
  readonly contentType: string
  readonly events: number
  readonly encode: (events: readonly object[]) => string
}

const shapes: readonly Shape[] = [
  {
    path: '/v1/streams/',
    contentType: 'application/json',
    events: 1,
    encode: (events) => JSON.stringify(events[0]),
  },
  {
    path: '/v1/streams/',
    contentType: 'application/json',
    events: 20,
    encode: (events) => JSON.stringify(events),
  },
  {
    path: '/v1/streams/',
    contentType: 'application/x-ndjson',
    events: 50,
    encode: (events) => events.map((event) => JSON.stringify(event)).join('\n'),
  },
  {
    path: '/v1/beacon/',
    contentType: 'text/plain',
    events: 1,
    encode: (events) => JSON.stringify(events[0]),
  },
]

function sampleEvent(index: number): object {
  const device = index % 50
  return {
    name: 'room.temperature',
    value: Math.round((20 + 3 * Math.sin(index / 100)) * 100) / 100,
    unit: 'C',
    timestamp: Date.now(),
    source: `device-${device}`,
    labels: { room: `${1 + (device % 9)}.${device}`, battery: 100 - (index % 40) },
  }
}

function newTraffic(stream: StreamTraffic['stream']): StreamTraffic {
  return { stream, accepted: 0, replyMs: [], startedAtMs: 0, endedAtMs: 0 }
}

import { setTimeout as sleep } from 'node:timers/promises'

/** The streams of `chute.yaml`. */
export const gameStreams = ['positions', 'heartbeats', 'kills', 'chat'] as const

/** See {@link gameStreams}. */
export type GameStream = (typeof gameStreams)[number]

/** The ids of the events that were answered with 202, by stream. */
export type Accepted = Record<GameStream, Set<string>>

/**
 * A game server's telemetry for `seconds`: each of `playerCount` players tells its position 20 times a second and its
 * heartbeat once; now and then one kills another or says something. Positions of one moment go in one request.
 *
 * A server does not wait for telemetry: what is refused is gone. Kills and chat that are refused (429, 503) are sent again
 * after `Retry-After`, which is safe, for a refused request has accepted nothing.
 */
export async function play(url: string, playerCount: number, seconds: number): Promise<Accepted> {
  const players = Array.from({ length: playerCount }, (_, index) => `player-${index}`)
  const accepted: Accepted = {
    positions: new Set(),
    heartbeats: new Set(),
    kills: new Set(),
    chat: new Set(),
  }
  const sending: Promise<void>[] = []
  const tell = (stream: GameStream, events: readonly GameEvent[], mustArrive: boolean): void => {
    sending.push(send(url, stream, events, mustArrive, accepted[stream]))
  }
  const ticks = seconds * ticksPerSecond
  const startedAtMs = performance.now()
  for (let tick = 0; tick < ticks; tick++) {
    const at = (player: string): string => `${player}/${tick}`
    tell(
      'positions',
      players.map((source, n) => ({ id: at(source), source, x: n + tick / 10, y: Math.sin(tick / 20) })),
      false,
    )
    const someone = players[tick % playerCount]!
    if (tick % ticksPerSecond === 0) {
      tell(
        'heartbeats',
        players.map((source) => ({ id: at(source), source, name: 'alive', value: 1 })),
        false,
      )
    }
    if (tick % 10 === 0) {
      const victim = players[(tick + 7) % playerCount]!
      tell('kills', [{ id: at(someone), source: someone, victim, weapon: 'bow' }], true)
    }
    if (tick % 10 === 5)
      tell('chat', [{ id: at(someone), source: someone, text: `anyone at ${tick}?` }], true)
    await sleep(Math.max(0, startedAtMs + ((tick + 1) * 1000) / ticksPerSecond - performance.now()))
  }
  await Promise.all(sending)
  return accepted
}

interface GameEvent {
  readonly id: string
  readonly source: string
  readonly [field: string]: unknown
}

async function send(
  url: string,
  stream: GameStream,
  events: readonly GameEvent[],
  mustArrive: boolean,
  accepted: Set<string>,
): Promise<void> {
  for (;;) {
    const reply = await fetch(`${url}/v1/streams/${stream}`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson', prefer: 'handling=strict' },
      body: events.map((event) => JSON.stringify(event)).join('\n'),
    })
    const text = await reply.text()
    if (reply.status === 202) {
      for (const { id } of events) accepted.add(id)
      return
    }
    if (reply.status !== 429 && reply.status !== 503) throw new Error(`${reply.status}: ${text}`)
    if (!mustArrive) return
    await sleep(1000 * Number(reply.headers.get('retry-after') ?? 1))
  }
}

const ticksPerSecond = 20

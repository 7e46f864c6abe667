import { setTimeout as pause } from 'node:timers/promises'

/** A part of the whole that can be made to fail, and how. */
export interface Victim {
  readonly name: string
  /** SIGKILL. */
  kill(): Promise<void>
  /** SIGTERM, and its end. @returns what the timeline says of it besides. */
  end(): Promise<string>
  /** SIGSTOP. */
  stop(): void
  /** SIGCONT. */
  goOn(): void
  /** After {@link kill} and {@link end}. */
  start(): Promise<void>
  /** Waits until the next fault of the same group may come. */
  recovered(): Promise<void>
}

/** How long things last, in milliseconds: from, to. */
export interface Pace {
  /** Between two faults of a group. */
  readonly calmMs: readonly [number, number]
  /** From a victim's end to its next start. */
  readonly awayMs: readonly [number, number]
  readonly stoppedMs: readonly [number, number]
}

/** What happened, and when: milliseconds since the beginning. */
export interface Incident {
  readonly atMs: number
  readonly what: string
}

/** Writes down what happens. */
export class Timeline {
  readonly incidents: Incident[] = []
  readonly startMs = performance.now()

  add(what: string): void {
    this.incidents.push({ atMs: Math.round(performance.now() - this.startMs), what })
  }

  /** How often each fault was inflicted, by what it was done to. */
  counts(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {}
    for (const { what } of this.incidents) {
      const [, victim, signal] = /^(\w+)\b.*: (SIG(?:KILL|TERM|STOP))/.exec(what) ?? []
      if (signal !== undefined) counts[`${victim} ${signal}`] = (counts[`${victim} ${signal}`] ?? 0) + 1
    }
    return counts
  }
}

/**
 * Inflicts faults on the victims of a group, one at a time, at random, until `untilMs` (of `performance.now()`); then all of
 * them are well. Each kind comes once in three faults. Groups run beside each other, so several faults meet.
 */
export async function inflictAtRandom(options: {
  victims: readonly Victim[]
  kinds?: readonly FaultKind[]
  pace: Pace
  untilMs: number
  random: () => number
  timeline: Timeline
}): Promise<void> {
  const { victims, pace, untilMs, random, timeline, kinds = faultKinds } = options
  const lasts = ([from, to]: readonly [number, number]): number => Math.round(from + random() * (to - from))
  let deck: FaultKind[] = []
  for (;;) {
    await pause(lasts(pace.calmMs))
    if (performance.now() >= untilMs) return
    if (deck.length === 0) deck = shuffled(kinds, random)
    const kind = deck.pop()!
    const victim = victims[Math.floor(random() * victims.length)]!
    const { name } = victim
    if (kind === 'SIGSTOP') {
      const stoppedMs = lasts(pace.stoppedMs)
      timeline.add(`${name}: SIGSTOP, for ${stoppedMs} ms`)
      victim.stop()
      await pause(stoppedMs)
      timeline.add(`${name}: SIGCONT`)
      victim.goOn()
    } else {
      timeline.add(`${name}: ${kind}`)
      if (kind === 'SIGKILL') await victim.kill()
      else timeline.add(`${name}: ended ${await victim.end()}`)
      await pause(lasts(pace.awayMs))
      timeline.add(`${name}: started again`)
      await victim.start()
    }
    await victim.recovered()
    timeline.add(`${name}: well`)
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const rest = [...items]
  return items.map(() => rest.splice(Math.floor(random() * rest.length), 1)[0]!)
}

const faultKinds = ['SIGKILL', 'SIGTERM', 'SIGSTOP'] as const

/** What is done to a victim. */
export type FaultKind = (typeof faultKinds)[number]

import type { BrokerConnection } from '../../network/transport.ts'
import { decodeListOffsets, encodeListOffsets, type PartitionOffset } from '../../protocol/requests.ts'
import type { WireRequest } from '../../protocol/wire.ts'

/**
 * Sends the barriers of one connection, and decides when. A barrier is two ListOffsets requests, one behind the other. The first asks where
 * the logs end behind the writes. The second asks how far all in-sync replicas have the logs. `confirmation.ts` says which partitions are
 * asked about, and judges the answers.
 *
 * One barrier is out at a time. While a write has no outcome, a barrier goes every `confirm.interval.ms`. It goes earlier, together with a
 * write and in one call to the kernel, if no other write is expected before the interval ends ({@link BarrierPace}). A barrier also goes
 * without a write, so the last batch before a silence is confirmed, too. If a client waits for the outcome of a write, the barrier goes
 * right behind the write, or right behind the answer to the barrier that is out. Each such write causes one barrier at most, and a few
 * more while replicas lag.
 */
export class Barrier {
  readonly #options: BarrierOptions
  readonly #requests: BarrierRequests
  readonly #pace: BarrierPace
  #connection: BrokerConnection | null = null
  #timer: NodeJS.Timeout | null = null
  #sentAtMs: number | null = null
  /** Smoothed time of a barrier's round trip, in milliseconds. */
  #roundTripMs = 0
  #isHurried = false
  /** A client waits for the outcome of a write behind which no barrier was sent. */
  #isAwaited = false
  /** Time from one barrier to the next. Shorter than the interval only while a client or the writing waits for replicas. */
  #pauseMs: number

  constructor(options: BarrierOptions) {
    this.#options = options
    this.#requests = new BarrierRequests(options.topic)
    this.#pauseMs = options.intervalMs
    this.#pace = new BarrierPace(options.intervalMs)
  }

  /** When the barrier that is out was sent; null if none is out. */
  get sentAtMs(): number | null {
    return this.#sentAtMs
  }

  /** Smoothed time of a round trip, in milliseconds; 0 before the first answer. */
  get roundTripMs(): number {
    return this.#roundTripMs
  }

  /** The stream is shutting down: a barrier goes right behind each write. */
  get isHurried(): boolean {
    return this.#isHurried
  }

  /** The barrier that is out should have been answered by now. */
  isLate(nowMs: number): boolean {
    return (
      this.#sentAtMs !== null && nowMs - this.#sentAtMs > this.#options.intervalMs + 2 * this.#roundTripMs
    )
  }

  /** Barriers go over this connection from now on. */
  attach(connection: BrokerConnection): void {
    this.#connection = connection
    // A barrier that is out on the old connection covers no write. It is asked again here.
    this.#sentAtMs = null
    this.schedule()
  }

  /** The connection has ended, and the answer that was out does not come. */
  detach(): void {
    this.#connection = null
    this.#stopTimer()
    this.#sentAtMs = null
    this.#isAwaited = false
    this.#pauseMs = this.#options.intervalMs
  }

  /** A write was made now. @param isAwaited a client waits for its outcome. */
  written(isAwaited: boolean): void {
    this.#isAwaited ||= isAwaited
    if (this.#pace.written(performance.now())) this.send()
    else this.schedule()
  }

  /** A batch waits for replicas. @param isAwaited a client waits for its outcome. */
  appended(isAwaited: boolean): void {
    this.#isAwaited ||= isAwaited
    this.schedule()
  }

  /** See {@link isHurried}. */
  hurry(): void {
    this.#isHurried = true
    this.schedule()
  }

  /**
   * Sends a barrier now, unless one is out or there is nothing to ask.
   * @param justWritten partitions of batches that went with acks=1 right before the barrier.
   */
  send(justWritten: readonly number[] = []): void {
    const connection = this.#connection
    const { questions } = this.#options
    if (connection === null || this.#sentAtMs !== null) return
    this.#stopTimer()
    if (!questions.hasAny && justWritten.length === 0) return
    const sentAtMs = performance.now()
    this.#sentAtMs = sentAtMs
    this.#pace.sent(sentAtMs)
    const isFirstOfAwaited = this.#isAwaited
    this.#isAwaited = false
    const onError = (error: Error): void => connection.destroy(error)
    const covered = questions.uncoveredWrites
    const partitions = new Set(justWritten)
    questions.addUncovered(partitions)
    if (partitions.size > 0) {
      const onLogEnds = (payload: Buffer): void => {
        if (connection === this.#connection) questions.cover(covered, decodeListOffsets(payload))
      }
      connection.call(this.#requests.about([...partitions]).logEnd, onLogEnds, onError)
    }
    questions.addWaiting(partitions)
    const onAnswer = (payload: Buffer): void => {
      if (connection !== this.#connection) return
      this.#sentAtMs = null
      const tookMs = performance.now() - sentAtMs
      this.#roundTripMs = this.#roundTripMs === 0 ? tookMs : this.#roundTripMs * 0.8 + tookMs * 0.2
      questions.judge(decodeListOffsets(payload))
      this.#pauseMs = this.#pauseAfter(isFirstOfAwaited)
      this.schedule()
      this.#options.onAnswered(tookMs)
    }
    connection.call(this.#requests.about([...partitions]).highWatermark, onAnswer, onError)
  }

  /** Sends the next barrier now, or sets the timer for it. */
  schedule(): void {
    const { questions } = this.#options
    if (this.#sentAtMs !== null || !questions.hasAny) return
    if (this.#isAwaited || (this.#isHurried && questions.uncoveredWrites > 0)) this.send()
    else this.#timer ??= setTimeout(() => this.send(), this.#pace.dueInMs(performance.now(), this.#pauseMs))
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /**
   * The time to the next barrier. Replicas usually fetch within a moment. So for a client that waits, the next barrier goes after 1 ms, and the
   * pauses then double up to the usual pace. While writing waits for replicas that stand still, the usual pace is four times as fast.
   */
  #pauseAfter(isFirstOfAwaited: boolean): number {
    const { intervalMs, questions } = this.#options
    const { isAnyWaiting, isAwaited, isStandstill } = questions.patience()
    if (!isAnyWaiting) return intervalMs
    const usualMs = isStandstill ? Math.max(1, intervalMs / 4) : intervalMs
    if (!isAwaited) return usualMs
    return isFirstOfAwaited ? 1 : Math.min(2 * this.#pauseMs, usualMs)
  }
}

/** See {@link Barrier}. */
export interface BarrierOptions {
  readonly topic: string
  /** `confirm.interval.ms`. */
  readonly intervalMs: number
  readonly questions: BarrierQuestions
  /** A barrier was answered, and its answers were judged. @param tookMs time from the barrier to its answer. */
  readonly onAnswered: (tookMs: number) => void
}

/** Says which partitions barriers ask about, and judges their answers. `Confirmation` implements it. */
export interface BarrierQuestions {
  /** There is something to ask. */
  readonly hasAny: boolean
  /** acks=0 writes that no answer covers. */
  readonly uncoveredWrites: number
  /** Adds the partitions whose log ends are asked for. */
  addUncovered(partitions: Set<number>): void
  /** Adds the partitions where batches wait for replicas. */
  addWaiting(partitions: Set<number>): void
  /** The answer to the first request: the broker has handled the oldest `count` writes. Behind them the logs end at `logEnds`. */
  cover(count: number, logEnds: readonly PartitionOffset[]): void
  /** The answer to the second request: how far all in-sync replicas have the logs. */
  judge(highWatermarks: readonly PartitionOffset[]): void
  /** Whether batches still wait, whether clients wait for them, and whether replicas stand still. */
  patience(): { isAnyWaiting: boolean; isAwaited: boolean; isStandstill: boolean }
}

/**
 * Decides whether a barrier goes together with a write: if no other write is expected before the interval ends, and half of the interval is
 * over. So a stream that writes rarely seldom needs a call to the kernel for the barrier alone. For a stream that writes all the time,
 * barriers are no more frequent than the interval says.
 */
export class BarrierPace {
  readonly #intervalMs: number
  #sentAtMs = -Infinity
  #writtenAtMs = -Infinity
  /** Smoothed time from one write to the next, in milliseconds. Each gap counts as half an interval at most. */
  #writeGapMs: number

  /** @param intervalMs `confirm.interval.ms`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs
    this.#writeGapMs = intervalMs / 2
  }

  /** A barrier is sent now. */
  sent(nowMs: number): void {
    this.#sentAtMs = nowMs
  }

  /** A write is made now. @returns whether a barrier is to go with the write. */
  written(nowMs: number): boolean {
    const gapMs = Math.min(nowMs - this.#writtenAtMs, this.#intervalMs / 2)
    this.#writtenAtMs = nowMs
    this.#writeGapMs = this.#writeGapMs * 0.8 + gapMs * 0.2
    return nowMs + this.#writeGapMs >= this.#sentAtMs + this.#intervalMs
  }

  /** Milliseconds until the next barrier is due without a write, `pauseMs` after the last barrier. */
  dueInMs(nowMs: number, pauseMs: number): number {
    return Math.max(1, Math.min(this.#sentAtMs + pauseMs - nowMs, pauseMs))
  }
}

/**
 * The two requests of a barrier. They differ only in the replica that asks. They are encoded again only if the partitions differ from those
 * of the last barrier: a topic with one partition needs one encoding.
 */
export class BarrierRequests {
  readonly #topic: string
  #partitions: readonly number[] = []
  #pair: BarrierPair | null = null

  constructor(topic: string) {
    this.#topic = topic
  }

  /** The requests that ask about these partitions. */
  about(partitions: readonly number[]): BarrierPair {
    if (this.#pair === null || !isSame(this.#partitions, partitions)) {
      this.#partitions = partitions
      this.#pair = {
        logEnd: encodeListOffsets(this.#topic, partitions, 'log_end'),
        highWatermark: encodeListOffsets(this.#topic, partitions, 'high_watermark'),
      }
    }
    return this.#pair
  }
}

/** See {@link BarrierRequests}. */
interface BarrierPair {
  readonly logEnd: WireRequest
  readonly highWatermark: WireRequest
}

function isSame(some: readonly number[], others: readonly number[]): boolean {
  return some.length === others.length && some.every((partition, i) => partition === others[i])
}

import type { BrokerConnection } from '../../network/transport.ts'
import { decodeListOffsets, encodeListOffsets, type PartitionOffset } from '../../protocol/requests.ts'
import type { WireRequest } from '../../protocol/wire.ts'

/**
 * When barriers go over one connection, and how: a barrier is two ListOffsets requests, one behind the other. The first asks where the
 * logs end behind the writes, the second how far all in-sync replicas have them. `confirmation.ts` says about which partitions, and
 * judges the answers.
 *
 * Barriers go every `confirm.interval.ms` while something waits, one at a time; and earlier with a write, in one call to the kernel,
 * where no other write is to be expected before the interval ends ({@link BarrierPace}). They need no batch to ride on, so the last batch
 * before a silence is confirmed too. Where a client waits for the outcome, a barrier goes right behind the write, or behind the answer
 * that is out: never more barriers than writes that somebody waits for, and a few more each for replicas that lag.
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
  /** A client waits for the outcome of something that no barrier was sent for. */
  #isAwaited = false
  /** From one barrier to the next: shorter than the interval only while somebody waits for replicas. */
  #pauseMs: number

  constructor(options: BarrierOptions) {
    this.#options = options
    this.#requests = new BarrierRequests(options.topic)
    this.#pauseMs = options.intervalMs
    this.#pace = new BarrierPace(options.intervalMs)
  }

  /** When the barrier was sent that is out; null: none is. */
  get sentAtMs(): number | null {
    return this.#sentAtMs
  }

  /** Smoothed time of a round trip, in milliseconds; 0: there was none. */
  get roundTripMs(): number {
    return this.#roundTripMs
  }

  /** The stream is shutting down: a barrier follows each write at once. */
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
    // A barrier that is out on the connection before this one covers no write, and is asked again here.
    this.#sentAtMs = null
    this.schedule()
  }

  /** The connection is gone, and with it the answer that was out. */
  detach(): void {
    this.#connection = null
    this.#stopTimer()
    this.#sentAtMs = null
    this.#isAwaited = false
    this.#pauseMs = this.#options.intervalMs
  }

  /** Something was written now. @param isAwaited a client waits for its outcome. */
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
   * @param justWritten partitions of batches that went with acks=1 right before it.
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

  /** Sends the next barrier when it is due. */
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
   * Replicas usually fetch within a moment. So a client that waits for them is looked after at once, then ever less often: if they lag
   * for long, barriers go at their usual pace. Where writing waits for replicas that stand still, the usual pace is a faster one.
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
  /** A barrier was answered after so long, and its answers were judged. */
  readonly onAnswered: (tookMs: number) => void
}

/** What barriers are to find out, and who judges their answers. */
export interface BarrierQuestions {
  /** A barrier could tell something. */
  readonly hasAny: boolean
  /** acks=0 writes that no answer covers. */
  readonly uncoveredWrites: number
  /** Adds the partitions whose log ends are to be told. */
  addUncovered(partitions: Set<number>): void
  /** Adds the partitions where batches wait for replicas. */
  addWaiting(partitions: Set<number>): void
  /** The answer to the first request: the oldest `count` writes are in the logs, which end at `logEnds` behind them. */
  cover(count: number, logEnds: readonly PartitionOffset[]): void
  /** The answer to the second request: how far all in-sync replicas are. */
  judge(highWatermarks: readonly PartitionOffset[]): void
  /** Whether batches are still waited for, by clients too, and whether replicas stand still meanwhile. */
  patience(): { isAnyWaiting: boolean; isAwaited: boolean; isStandstill: boolean }
}

/**
 * When a barrier rides on a write: if no other write is to be expected before the interval ends, and half of it is over. So
 * a stream that writes rarely, as with many streams, seldom needs a call to the kernel for the barrier alone, and one that
 * writes all the time is asked about no more often than the interval says.
 */
export class BarrierPace {
  readonly #intervalMs: number
  #sentAtMs = -Infinity
  #writtenAtMs = -Infinity
  /** Smoothed time from one write to the next, in milliseconds; none counts as more than half an interval. */
  #writeGapMs: number

  /** @param intervalMs `confirm.interval.ms`. */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs
    this.#writeGapMs = intervalMs / 2
  }

  /** A barrier goes now. */
  sent(nowMs: number): void {
    this.#sentAtMs = nowMs
  }

  /** Something is written now. @returns whether a barrier is to go with it. */
  written(nowMs: number): boolean {
    const gapMs = Math.min(nowMs - this.#writtenAtMs, this.#intervalMs / 2)
    this.#writtenAtMs = nowMs
    this.#writeGapMs = this.#writeGapMs * 0.8 + gapMs * 0.2
    return nowMs + this.#writeGapMs >= this.#sentAtMs + this.#intervalMs
  }

  /** Milliseconds until a barrier is due by itself, `pauseMs` after the last. */
  dueInMs(nowMs: number, pauseMs: number): number {
    return Math.max(1, Math.min(this.#sentAtMs + pauseMs - nowMs, pauseMs))
  }
}

/**
 * The two requests of a barrier, of which only the asking replica differs. They are made anew only where other partitions
 * are asked about than the last time: a topic with one partition has the same two for good.
 */
export class BarrierRequests {
  readonly #topic: string
  #partitions: readonly number[] = []
  #pair: BarrierPair | null = null

  constructor(topic: string) {
    this.#topic = topic
  }

  /** Asks about these partitions. */
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

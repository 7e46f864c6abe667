import { setTimeout as pause } from 'node:timers/promises'
import type { Consumer as KafkajsConsumer, EachBatchPayload, OffsetsByTopicPartition } from 'kafkajs'
import type { KafkaConfig } from '../../config/config.ts'
import { autoOffsetResets, commitsByTheClock, type ConsumerConfig } from '../../config/consumer-config.ts'
import { kafkajsClient } from '../network/kafkajs-client.ts'
import type { Logger } from '../../logger.ts'
import { Assignment } from './assignment.ts'
import { AutoCommit, type Moved } from './auto-commit.ts'
import { ConsumerAccount } from './consumer-account.ts'
import type { Consumer, ConsumerStats, ConsumerTelemetry, Process, ConsumedRecord } from './consumer.ts'
import { deliveries, type Failure, FailureLog, type Poll } from './deliveries.ts'
import { describeReadFailure } from '../network/describe-failure.ts'
import { endOfEpoch } from './epoch-end.ts'
import { GroupBeginning } from './group-beginning.ts'
import { GroupOffsets } from './group-offsets.ts'
import { Heartbeats } from './heartbeats.ts'
import { beforeFirstFetch, type MemberOffsets } from './kafkajs-beginning.ts'
import { decideOutOfRange } from './kafkajs-out-of-range.ts'
import { consumedRecord, kafkajsConsumerConfig, leaderEpochOf, prepareReading } from './kafkajs-consumer.ts'

/**
 * One member of a consumer group. It uses kafkajs's consumer, and does what kafkajs leaves to its user:
 * - Commits go out one at a time, for `max.poll.records` at most, and are awaited.
 * - A fetch that meets stale metadata joins the group anew, while other batches are being processed. So polled records carry the epoch of
 *   their assignment, and are given up if the epoch has changed.
 * - kafkajs can hand out a batch that is older than the present assignment. So the coordinator is asked for the group's committed offsets
 *   after each rebalance, and records below these offsets are never handed out.
 * - kafkajs skips what was written to a new partition before it looked (`group-beginning.ts`).
 * - kafkajs skips or repeats records in silence where a partition does not have the position. So the member decides where it goes on, and says so.
 */
export class GroupConsumer implements Consumer {
  readonly #config: ConsumerConfig
  readonly #kafka: KafkaConfig
  readonly #process: Process
  readonly #logger: Logger
  readonly #telemetry: ConsumerTelemetry
  readonly #consumer: KafkajsConsumer
  readonly #offsets: GroupOffsets
  readonly #account = new ConsumerAccount()
  readonly #assignment = new Assignment()
  readonly #autoCommit: AutoCommit | null
  /** null: kafkajs goes to `auto.offset.reset` wherever the group has no committed offset. */
  readonly #beginning: GroupBeginning | null
  /** Commits offsets in the group's present generation, and tries once; null until the first batch. */
  #tryCommit: ((offsets: OffsetsByTopicPartition) => Promise<void>) | null = null
  readonly #failures: FailureLog
  readonly #deadline = new AbortController()
  readonly #watchTimer: NodeJS.Timeout
  readonly failed: Promise<Error>
  #fail: (error: Error) => void = () => {}
  #committed: Promise<ReadonlyMap<number, number>> | null = null
  /** By partition: the position behind the records that were polled last, and the epoch of the leader that wrote the last of them. */
  readonly #lastPolled = new Map<number, { readonly position: number; readonly leaderEpoch: number }>()
  #undecide: () => void = () => {}
  #rebalances = 0
  #stopping = false

  constructor(options: GroupConsumerOptions) {
    const { kafka, consumer: config, logger } = options
    prepareReading()
    this.#config = config
    this.#kafka = kafka
    this.#process = options.process
    this.#logger = logger
    this.#telemetry = options.telemetry
    const client = kafkajsClient(kafka)
    this.#offsets = new GroupOffsets(client.admin(), config)
    const mayRestart = async (): Promise<boolean> => !this.#stopping
    this.#consumer = client.consumer(kafkajsConsumerConfig(config, kafka, mayRestart))
    this.#failures = new FailureLog(logger)
    this.#autoCommit = commitsByTheClock(config.delivery)
      ? new AutoCommit(config, async (partitions) => await this.#commitByTheClock(partitions))
      : null
    const skips =
      config.delivery === 'at-least-once' && !autoOffsetResets[config.autoOffsetReset].fromBeginning
    this.#beginning = skips ? new GroupBeginning((partitions) => this.#foundNew(partitions)) : null
    this.failed = new Promise((resolve) => {
      this.#fail = resolve
    })
    this.#watchTimer = setInterval(() => void this.#watchOffsets(), watchIntervalMs).unref()
    this.#followGroup()
  }

  /** Joins the group, in the background. Keeps trying until Kafka is reached and the topic is found. */
  start(): void {
    void this.#start()
  }

  async #start(): Promise<void> {
    const { topic, autoOffsetReset } = this.#config
    let told = ''
    while (!this.#stopping) {
      try {
        await this.#consumer.connect()
        await this.#offsets.connect()
        await this.#consumer.subscribe({
          topic,
          fromBeginning: autoOffsetResets[autoOffsetReset].fromBeginning,
        })
        break
      } catch (error) {
        if (this.#stopping) break
        const cause = this.#describe(error)
        if (cause !== told) this.#logger.warn({ topic, cause }, 'the topic cannot be read yet; trying again')
        told = cause
        await pause(startPauseMs, null, { signal: this.#deadline.signal }).catch(() => {})
      }
    }
    if (this.#stopping) {
      // A connection may have been made behind `stop`. It would keep the process of a library's user alive.
      await Promise.all([this.#consumer.disconnect(), this.#offsets.disconnect()])
      return
    }
    await this.#consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async (payload) => await this.#onBatch(payload),
    })
  }

  /** @inheritdoc */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true
    clearInterval(this.#watchTimer)
    const timer = setTimeout(() => this.#deadline.abort(), timeoutMs)
    try {
      await this.#autoCommit?.stop()
      await this.#consumer.stop()
      await Promise.all([this.#consumer.disconnect(), this.#offsets.disconnect()])
    } catch (error) {
      this.#logger.warn({ cause: (error as Error).message }, 'the group could not be left in good order')
    } finally {
      clearTimeout(timer)
      this.#undecide()
      this.#deadline.abort()
      this.#assignment.leave()
    }
  }

  /** @inheritdoc */
  get stats(): ConsumerStats {
    const { topic, groupId: group, delivery, sessionTimeoutMs } = this.#config
    const partitions = Array.from(this.#assignment.positions, ([partition, position]) => ({
      partition,
      position,
      lag: this.#offsets.lag(partition, position),
    }))
    return {
      topic,
      group,
      delivery,
      ...this.#account.counts,
      rebalances: this.#rebalances,
      joined: this.#assignment.isInSession(performance.now(), sessionTimeoutMs),
      partitions,
    }
  }

  #followGroup(): void {
    const consumer = this.#consumer
    const { GROUP_JOIN: joined, HEARTBEAT: answered, REBALANCING: rebalancing } = consumer.events
    const { CRASH: crashed, STOP: stopped } = consumer.events
    consumer.on(answered, () => this.#assignment.heard(performance.now()))
    consumer.on(joined, ({ payload }) => {
      const partitions = payload.memberAssignment[this.#config.topic] ?? []
      this.#committed = null
      this.#autoCommit?.forgetAll()
      this.#undecide()
      const { memberId, isLeader } = payload
      const undecide = decideOutOfRange(memberId, async (...where) => await this.#resume(...where))
      const unbegin = this.#followBeginning(memberId, isLeader)
      this.#undecide = () => {
        undecide()
        unbegin()
      }
      this.#rebalances++
      this.#assignment.join(partitions)
      this.#assignment.heard(performance.now())
      this.#logger.info({ group: payload.groupId, partitions }, 'joined the group')
      void this.#watchOffsets()
    })
    consumer.on(rebalancing, () => {
      // The group takes commits of the old assignment until all of its members have asked to join.
      this.#autoCommit?.commitNow()
      this.#assignment.leave()
    })
    consumer.on(stopped, () => this.#assignment.leave())
    consumer.on(crashed, ({ payload }) => {
      this.#assignment.leave()
      if (this.#stopping) return
      const cause = this.#describe(payload.error)
      if (payload.restart) this.#logger.warn({ cause }, 'the group was left on an error; joining it anew')
      else this.#fail(new Error(cause, { cause: payload.error }))
    })
  }

  /** See `GroupBeginning`. */
  #followBeginning(memberId: string, isLeader: boolean): () => void {
    const beginning = this.#beginning
    if (beginning === null) return () => {}
    const joinedAtMs = performance.now()
    let asked: Promise<boolean> | null = null
    const begin = async (offsets: MemberOffsets): Promise<boolean> => {
      const isLate = performance.now() - joinedAtMs > leaderTimeMs
      const hasBegun = await beginning.begin(offsets, { isLeader, isLate })
      // What was read of the group's offsets at the rebalance lacks the beginning.
      if (hasBegun) this.#committed = null
      return hasBegun
    }
    // kafkajs asks for each broker, and again before each fetch.
    return beforeFirstFetch(memberId, this.#config.topic, async (offsets) => {
      asked ??= begin(offsets)
      const own = asked
      let hasBegun = false
      try {
        hasBegun = await own
        return hasBegun
      } finally {
        if (!hasBegun && asked === own) asked = null
      }
    })
  }

  async #onBatch(payload: EachBatchPayload): Promise<void> {
    const { batch } = payload
    const { partition } = batch
    this.#tryCommit = async (offsets) => await payload.commitOffsetsIfNecessary(offsets)
    const epoch = this.#assignment.epochOf(partition)
    const committed = (await this.#readCommitted()).get(partition) ?? 0
    if (await this.#isBehindTruncation(payload, epoch)) return
    this.#offsets.saw(partition, Number(batch.highWatermark))
    const messages = batch.messages.filter(({ offset }) => Number(offset) >= committed)
    const records = messages.map((message) => consumedRecord(batch.topic, partition, message))
    const { maxPollRecords } = this.#config
    for (let at = 0; at < records.length; at += maxPollRecords) {
      if (!this.#mayPoll(payload, epoch)) return
      const polled = records.slice(at, at + maxPollRecords)
      const leaderEpoch = leaderEpochOf(messages[at + polled.length - 1]!)
      const isDone = await this.#deliver(payload, polled, leaderEpoch)
      if (!isDone) return
    }
    // Behind the last record there can be markers of transactions, which are never handed out.
    if (this.#mayPoll(payload, epoch)) payload.resolveOffset(batch.lastOffset())
  }

  #foundNew(partitions: readonly number[]): void {
    const { topic, groupId: group } = this.#config
    this.#logger.info(
      { topic, group, partitions },
      'partitions that are new to the group are read from their beginning',
    )
  }

  #mayPoll(payload: EachBatchPayload, epoch: number): boolean {
    return (
      !this.#stopping &&
      payload.isRunning() &&
      epoch === this.#assignment.epochOf(payload.batch.partition) &&
      this.#assignment.owns(payload.batch.partition)
    )
  }

  /** Delivers records of one partition. @param leaderEpoch of the last record. @returns whether this member goes on behind them. */
  async #deliver(
    payload: EachBatchPayload,
    records: readonly ConsumedRecord[],
    leaderEpoch: number,
  ): Promise<boolean> {
    const { partition } = payload.batch
    const epoch = this.#assignment.epochOf(partition)
    const firstOffset = Number(records[0]!.offset)
    const lastOffset = records.at(-1)!.offset
    const nextOffset = Number(lastOffset) + 1
    this.#account.poll(records.length)
    const heartbeats = new Heartbeats(async () => await payload.heartbeat(), {
      intervalMs: this.#config.heartbeatIntervalMs,
      limitMs: this.#config.maxPollIntervalMs,
      onLimit: () => this.#logger.warn({ partition }, 'processing takes longer than max.poll.interval.ms'),
      deadline: this.#deadline.signal,
    })
    let isDone = false
    const resets = this.#assignment.resetsOf(partition)
    const isCurrent = (): boolean => epoch === this.#assignment.epochOf(partition)
    const poll: Poll = {
      records,
      // After a reset the group has committed the offset of the reset, and the records from there on are others.
      commit: async () => {
        if (resets === this.#assignment.resetsOf(partition))
          await this.#commit(payload, nextOffset, records.length)
      },
      moveOn: () => {
        // In another assignment the member begins at the group's committed offset, and after a reset at the offset of the reset.
        if (!isCurrent()) return
        isDone = true
        payload.resolveOffset(lastOffset)
        this.#lastPolled.set(partition, { position: nextOffset, leaderEpoch })
        this.#assignment.advance(partition, nextOffset)
        this.#autoCommit?.moved(partition, nextOffset, records.length)
      },
      isCurrent,
      hurry: heartbeats.hurry,
      signal: this.#deadline.signal,
    }
    const process: Process = async (each, context) => {
      const handedOut = Number(each[0]!.offset)
      this.#account.repeated += this.#assignment.handOut(partition, handedOut, nextOffset, each.length)
      await this.#process(each, context)
    }
    this.#assignment.advance(partition, firstOffset)
    try {
      const onFailure = (failure: Failure) => this.#failures.add(failure)
      await deliveries[this.#config.delivery](poll, { process, account: this.#account, onFailure })
    } finally {
      heartbeats.stop()
    }
    heartbeats.rethrow()
    await payload.heartbeat()
    return isDone
  }

  /** Commits, in one try, with the generation of the present assignment. A retry of kafkajs could go out in the next assignment. */
  async #commit(payload: EachBatchPayload, nextOffset: number, count: number): Promise<void> {
    const { topic, partition } = payload.batch
    const partitions = [{ partition, offset: String(nextOffset) }]
    const startMs = performance.now()
    try {
      await payload.commitOffsetsIfNecessary({ topics: [{ topic, partitions }] })
    } catch (error) {
      this.#commitFailed(error)
      throw error
    }
    this.#committedIn(performance.now() - startMs, count)
  }

  /** See `TryCommit`. */
  async #commitByTheClock(moved: readonly Moved[]): Promise<boolean> {
    const { topic } = this.#config
    const partitions = moved.map(({ partition, offset }) => ({ partition, offset }))
    const startMs = performance.now()
    try {
      // `commitOffsets` of kafkajs's consumer would try again for seconds, also behind a rebalance.
      await this.#tryCommit!({ topics: [{ topic, partitions }] })
    } catch (error) {
      this.#commitFailed(error)
      return false
    }
    const count = moved.reduce((sum, each) => sum + each.count, 0)
    this.#committedIn(performance.now() - startMs, count)
    return true
  }

  #commitFailed(error: unknown): void {
    this.#account.commitErrors++
    this.#logger.warn({ cause: this.#describe(error) }, 'offsets could not be committed')
  }

  #describe(error: unknown): string {
    const { groupId: group, topic } = this.#config
    return describeReadFailure(error, { kafka: this.#kafka, topic, group })
  }

  #committedIn(latencyMs: number, count: number): void {
    this.#account.commit(count, latencyMs)
    this.#telemetry.committed(latencyMs)
  }

  /** The group's committed offsets after the last rebalance. The coordinator is asked once a rebalance. */
  async #readCommitted(): Promise<ReadonlyMap<number, number>> {
    const { epoch } = this.#assignment
    const asked = (this.#committed ??= this.#offsets.committed())
    try {
      const committed = await asked
      if (epoch === this.#assignment.epoch && asked === this.#committed)
        for (const [partition, offset] of committed) this.#assignment.advance(partition, offset)
      return committed
    } catch (error) {
      if (this.#committed === asked) this.#committed = null
      throw error
    }
  }

  /**
   * A batch of a leader of another epoch may be one of a log that went back, and has grown beyond the position since (KIP-320). Then the member goes
   * on where the log went back to, and the batch is not delivered.
   */
  async #isBehindTruncation(payload: EachBatchPayload, epoch: number): Promise<boolean> {
    const { topic, partition, messages, highWatermark } = payload.batch
    const [first] = messages
    const known = this.#lastPolled.get(partition)
    const position = this.#assignment.position(partition)
    if (first === undefined || known === undefined || known.position !== position) return false
    if (leaderEpochOf(first) <= known.leaderEpoch) return false
    const logEnd = await this.#endOfLastEpoch(partition, position)
    if (logEnd === null || logEnd >= position || !this.#mayPoll(payload, epoch)) return false
    await this.#moveBack(
      partition,
      { position, logEnd: Number(highWatermark), resumedAt: logEnd },
      async () => {
        const partitions = [{ partition, offset: String(logEnd) }]
        await payload.commitOffsetsIfNecessary({ topics: [{ topic, partitions }] })
        this.#consumer.seek({ topic, partition, offset: String(logEnd) })
      },
    )
    return true
  }

  /**
   * Goes on where a partition does not have the member's position.
   * - The log ends before the position: a leader was elected that lacks records, say. The member goes on where the log went back to, if the leader
   *   tells that, and else at the log's end. A group that must lose nothing, and may read the topic from its beginning, does that.
   * - The log begins behind the position: records were deleted before the group had read them. `auto.offset.reset` decides, as in Kafka.
   */
  async #resume(
    partition: number,
    position: number,
    moveTo: (offset: number) => Promise<void>,
  ): Promise<void> {
    const { low, high } = await this.#offsets.range(partition)
    const { topic, autoOffsetReset, delivery } = this.#config
    const { fromBeginning } = autoOffsetResets[autoOffsetReset]
    if (position >= low) {
      const ifUnknown = fromBeginning && delivery === 'at-least-once' ? low : high
      const wentBackTo = (await this.#endOfLastEpoch(partition, position)) ?? ifUnknown
      const resumedAt = Math.max(low, Math.min(wentBackTo, high, position))
      await this.#moveBack(
        partition,
        { position, logEnd: high, resumedAt },
        async () => await moveTo(resumedAt),
      )
      return
    }
    const resumedAt = fromBeginning ? low : high
    this.#autoCommit?.forget(partition)
    await moveTo(resumedAt)
    this.#reset(partition, resumedAt)
    this.#logger.warn(
      { topic, partition, position, logStart: low, resumedAt },
      'records were deleted before the group had read them',
    )
  }

  /** @param move commits the offset at which the member goes on for the group, and has the member fetch from there. */
  async #moveBack(
    partition: number,
    at: { readonly position: number; readonly logEnd: number; readonly resumedAt: number },
    move: () => Promise<void>,
  ): Promise<void> {
    this.#autoCommit?.forget(partition)
    await move()
    this.#reset(partition, at.resumedAt)
    this.#logger.warn(
      { topic: this.#config.topic, partition, ...at },
      'the log of a partition went back behind the position of the group: the cluster has lost records',
    )
  }

  #reset(partition: number, position: number): void {
    this.#committed = null
    this.#lastPolled.delete(partition)
    this.#assignment.reset(partition, position)
  }

  /** Where the present log has the last of the records that were written by the leader of the record before the position. null: it is not known. */
  async #endOfLastEpoch(partition: number, position: number): Promise<number | null> {
    const known = this.#lastPolled.get(partition)
    if (known?.position !== position || known.leaderEpoch < 0) return null
    const { topic } = this.#config
    try {
      const leader = await this.#offsets.leader(partition)
      return await endOfEpoch(this.#kafka, leader, { topic, partition, leaderEpoch: known.leaderEpoch })
    } catch (error) {
      const cause = this.#describe(error)
      this.#logger.warn({ topic, partition, cause }, 'the leader does not tell whether its log went back')
      return null
    }
  }

  /** Reads the ends of the partitions, so that the lag is right also while nothing is polled. */
  async #watchOffsets(): Promise<void> {
    if (!this.#assignment.isJoined || this.#stopping) return
    try {
      await this.#readCommitted()
      await this.#offsets.look()
    } catch (error) {
      this.#logger.debug({ cause: (error as Error).message }, 'the ends of the partitions are not known')
    }
  }
}

/** See {@link GroupConsumer}. */
export interface GroupConsumerOptions {
  readonly kafka: KafkaConfig
  readonly consumer: ConsumerConfig
  readonly process: Process
  readonly logger: Logger
  readonly telemetry: ConsumerTelemetry
}

const watchIntervalMs = 5_000
const startPauseMs = 1_000
/** So long the members of a group wait for its leader to commit where the group begins. */
const leaderTimeMs = 10_000

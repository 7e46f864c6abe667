import type { ConnectionUse, ProducerConfig } from '../../src/config/config.ts'
import type { StreamProducer } from '../../src/kafka/producer/stream-producer.ts'
import type { PendingBatch, ProducerStats, Settlement } from '../../src/kafka/producer/producer.ts'
import { inflict, type Fault } from './faults.ts'
import { ModelCluster } from './model-broker.ts'
import type { StoredRecord } from './model-topic.ts'
import { append, ProducerFixture, streamConfig } from './producer-fixture.ts'
import { sumOfOutcomes } from './producer-stats.ts'
import { pass } from './virtual-clock.ts'

/** One run under the virtual clock. */
export interface Scenario {
  readonly delivery: 'at-most-once' | 'at-least-once'
  readonly producer: Partial<ProducerConfig>
  readonly nodes: number
  readonly partitions: number
  /** Milliseconds that an answer takes while all is well. */
  readonly responseMs: number
  /** How far replicas are behind. */
  readonly replicationMs: number
  /** False: brokers answer a debugging replica with the high watermark. True unless set. */
  readonly tellsLogEnd?: boolean
  /** Records that others write to each partition with each burst; 0 unless set. */
  readonly others?: number
  /** Milliseconds between two bursts of records, and how many records a burst has. */
  readonly everyMs: number
  readonly burst: number
  /** Share of records that have one of four keys, 0 to 1. */
  readonly keyed: number
  readonly faults: readonly Fault[]
  /** Faults and load last this long. Then all is well again, unless `closeAfterMs` says to close in the midst of it. */
  readonly lengthMs: number
  /** null: heal, drain, then close. Otherwise close without healing, with this time to do so. */
  readonly closeWithinMs: number | null
  readonly seed: number
  /** Further streams with topics of their own, which no fault of a topic happens to; 0 unless set. */
  readonly neighbours?: number
  /** Left out: as the delivery has it. */
  readonly connection?: ConnectionUse
}

/** What a run showed of a stream. */
export interface Judgement {
  readonly stats: ProducerStats
  readonly stored: number
  readonly lost: number
  /** Records more than one in the same log. */
  readonly duplicates: number
}

/** What a run showed. `problems` is empty when every invariant held. */
export interface FaultReport extends Judgement {
  readonly problems: string[]
  /** The other streams. */
  readonly neighbours: readonly Judgement[]
  readonly connectsPerSecond: number
}

/** Runs a scenario and checks the invariants all along. The virtual clock has to be in use. */
export async function runFaults(scenario: Scenario): Promise<FaultReport> {
  return await new FaultRun(scenario).run()
}

class FaultRun {
  readonly #scenario: Scenario
  readonly #random: () => number
  readonly #cluster: ModelCluster
  readonly #fixture: ProducerFixture
  readonly #problems = new Set<string>()
  /** The first one has the topic that faults happen to. */
  readonly #streams: readonly JudgedStream[]

  constructor(scenario: Scenario) {
    this.#scenario = scenario
    this.#random = seededRandom(scenario.seed)
    const nodeIds = Array.from({ length: scenario.nodes }, (_, index) => index + 1)
    const cluster = new ModelCluster(nodeIds, this.#random)
    this.#cluster = cluster
    cluster.metadataLagMs = scenario.seed % 3 === 0 ? 150 : 0
    cluster.responseMs = scenario.responseMs
    cluster.replicationMs = scenario.replicationMs
    cluster.tellsLogEnd = scenario.tellsLogEnd ?? true
    const others = Array.from({ length: scenario.neighbours ?? 0 }, (_, nth) => `neighbour-${nth}`)
    const topics = [topic, ...others]
    for (const each of topics) cluster.createTopic(each, scenario.partitions)
    this.#fixture = new ProducerFixture(
      cluster,
      topics.map((each) => ({
        ...streamConfig(each, scenario.delivery, scenario.producer),
        ...(scenario.connection !== undefined && { connection: scenario.connection }),
      })),
    )
    const judging = {
      scenario,
      cluster,
      random: this.#random,
      onProblem: (text: string) => this.#problem(text),
    }
    this.#streams = this.#fixture.producers.map((producer) => new JudgedStream(producer, judging))
  }

  async run(): Promise<FaultReport> {
    const { faults, lengthMs, everyMs, closeWithinMs } = this.#scenario
    await this.#fixture.start()
    const startMs = performance.now()
    const waiting = faults.toSorted((one, other) => one.atMs - other.atMs)
    while (performance.now() - startMs < lengthMs) {
      while (waiting.length > 0 && waiting[0]!.atMs <= performance.now() - startMs)
        inflict(waiting.shift()!, this.#cluster, topic, this.#scenario.partitions)
      for (const stream of this.#streams) stream.appendBurst()
      for (const partition of this.#cluster.topics.get(topic)?.partitions ?? [])
        partition.appendOf(othersValue, this.#scenario.others ?? 0)
      await pass(everyMs)
      this.#scrape()
    }
    if (closeWithinMs === null) await this.#healAndDrain()
    await this.#close(closeWithinMs ?? 5_000)
    const [first, ...neighbours] = this.#streams.map((stream) => stream.judge())
    return {
      problems: [...this.#problems],
      ...first!,
      neighbours,
      connectsPerSecond: this.#connectsPerSecond(),
    }
  }

  #scrape(): void {
    for (const stream of this.#streams) stream.scrape()
  }

  /** Once all is well, everything has to get its outcome, and soon. */
  async #healAndDrain(): Promise<void> {
    const cluster = this.#cluster
    for (const nodeId of cluster.nodes.keys()) {
      cluster.resume(nodeId)
      cluster.restart(nodeId)
    }
    if (!cluster.topics.has(topic)) cluster.createTopic(topic, this.#scenario.partitions)
    const healed = cluster.topics.get(topic)!
    healed.isForbidden = false
    healed.maxMessageBytes = 1_048_588
    for (const partition of healed.partitions) partition.refusals.length = 0
    cluster.responseMs = 1
    cluster.responsesToLose = 0
    cluster.replicationMs = 0
    const healedAtMs = performance.now()
    const isLeft = (): boolean => this.#streams.some(({ stats }) => stats.buffered + stats.inFlight > 0)
    while (isLeft() && performance.now() - healedAtMs < drainLimitMs) {
      await pass(20)
      this.#scrape()
    }
    for (const { stats } of this.#streams)
      if (stats.buffered + stats.inFlight > 0)
        this.#problem(`${stats.stream} is stuck: ${stats.buffered} buffered and ${stats.inFlight} in flight`)
  }

  async #close(withinMs: number): Promise<void> {
    const { producers, metadata } = this.#fixture
    const startMs = performance.now()
    const end = { isReached: false }
    const closing = Promise.all(
      producers.map(async (producer) => await producer.close(startMs + withinMs)),
    ).finally(() => (end.isReached = true))
    while (!end.isReached && performance.now() - startMs < withinMs + 100) {
      this.#scrape()
      await pass(5)
    }
    if (!end.isReached) this.#problem('close did not end in time')
    await closing
    metadata.stop()
    await pass(1)
    this.#scrape()
  }

  #connectsPerSecond(): number {
    const bySecond = new Map<string, number>()
    for (const { nodeId, atMs } of this.#cluster.connects) {
      const second = `${nodeId}/${Math.floor(atMs / 1000)}`
      bySecond.set(second, (bySecond.get(second) ?? 0) + 1)
    }
    return Math.max(...bySecond.values())
  }

  #problem(text: string): void {
    if (this.#problems.size < 5) this.#problems.add(text)
  }
}

interface Judging {
  readonly scenario: Scenario
  readonly cluster: ModelCluster
  readonly random: () => number
  readonly onProblem: (text: string) => void
}

/** One stream of a run: what it was given, and whether what became of that is what its account says. */
class JudgedStream {
  readonly #producer: StreamProducer
  readonly #judging: Judging
  readonly #settlements = new Map<PendingBatch, Settlement[]>()
  readonly #recordsOf = new Map<PendingBatch, number[]>()
  /** The one outcome of each record. */
  readonly #outcomeOf = new Map<number, Settlement>()
  #nextId = 0

  constructor(producer: StreamProducer, judging: Judging) {
    this.#producer = producer
    this.#judging = judging
  }

  get stats(): ProducerStats {
    return this.#producer.stats
  }

  appendBurst(): void {
    const { scenario, random } = this.#judging
    const producer = this.#producer
    for (let i = 0; i < scenario.burst; i++) {
      if (producer.admission !== 'open') return
      const key = random() < scenario.keyed ? `key-${Math.floor(random() * 4)}` : null
      const batch = append(producer, `${this.#nextId}`.padEnd(20 + (this.#nextId % 60)), key)
      if (batch === null) return
      const records = this.#recordsOf.get(batch)
      if (records === undefined) this.#watch(batch)
      else records.push(this.#nextId)
      this.#nextId++
    }
  }

  #watch(batch: PendingBatch): void {
    this.#recordsOf.set(batch, [this.#nextId])
    batch.onSettled((settlement) => {
      const settlements = this.#settlements.get(batch)
      if (settlements === undefined) this.#settlements.set(batch, [settlement])
      else settlements.push(settlement)
    })
  }

  scrape(): void {
    const { stats } = this
    const outcomes = sumOfOutcomes(stats)
    if (stats.accepted !== stats.buffered + stats.inFlight + outcomes)
      this.#problem(`the account is open: ${JSON.stringify(stats)}`)
    if (stats.accepted !== this.#nextId) this.#problem(`accepted is ${stats.accepted}, not ${this.#nextId}`)
    const { bufferAvailableBytes, bufferTotalBytes } = stats
    if (bufferAvailableBytes < 0 || bufferAvailableBytes > bufferTotalBytes)
      this.#problem(`${bufferAvailableBytes} of ${bufferTotalBytes} bytes are available`)
  }

  /** To be called when everything is closed. */
  judge(): Judgement {
    const { stats } = this
    if (stats.buffered + stats.inFlight > 0) this.#problem('something is left after close')
    if (stats.bufferAvailableBytes !== stats.bufferTotalBytes) this.#problem('buffer memory is not free')
    const counts = this.#countStored()
    let lost = 0
    for (const [batch, ids] of this.#recordsOf) {
      const settlements = this.#settlements.get(batch) ?? []
      for (const [place, id] of ids.entries()) {
        const count = counts.get(id) ?? 0
        if (count === 0) lost++
        const own = settlements.filter(
          ({ firstPlace, recordCount }) => place >= firstPlace && place < firstPlace + recordCount,
        )
        if (own.length === 1) {
          this.#outcomeOf.set(id, own[0]!)
          this.#judge(id, count, own[0]!)
        } else this.#problem(`record ${id} has ${own.length} outcomes`)
      }
    }
    this.#checkLogs()
    return { stats, stored: counts.size, lost, duplicates: this.#countDuplicates() }
  }

  #judge(id: number, storedCount: number, { outcome, reason }: Settlement): void {
    const what = `record ${id} is ${outcome}${reason === null ? '' : ` (${reason})`}`
    const { acks, confirmIntervalMs } = this.#producer.stream.producer
    // With `confirm: off` it is the leader alone that says so.
    const isProven = confirmIntervalMs !== null || acks === -1
    const isSaidToBeThere = outcome === 'acked' || (outcome === 'confirmed' && isProven)
    if (isSaidToBeThere && storedCount === 0) this.#problem(`${what} and is not in the log`)
    if (outcome === 'dropped' && storedCount > 0) this.#problem(`${what} and is in the log`)
    if (this.#judging.scenario.delivery === 'at-most-once' && storedCount > 1)
      this.#problem(`${what} and is ${storedCount} times in the log`)
  }

  /** What this gateway wrote, a list a partition log. */
  #stored(): StoredRecord[][] {
    const logs = this.#judging.cluster.stored(this.#producer.stream.topic)
    return logs.map((log) => log.filter(({ value }) => value !== othersValue))
  }

  #countStored(): Map<number, number> {
    const counts = new Map<number, number>()
    for (const log of this.#stored())
      for (const { value } of log) counts.set(Number(value), (counts.get(Number(value)) ?? 0) + 1)
    return counts
  }

  #countDuplicates(): number {
    return this.#stored().reduce(
      (sum, log) => sum + log.length - new Set(log.map(({ value }) => value)).size,
      0,
    )
  }

  /**
   * Within a partition, the records of a key are in the order of acceptance; with duplicates, each run of them is. Of the others
   * docs/semantics.md says: "Events without a key stay together for a batch. Batches have no order between each other." So only the
   * records that got one outcome together have to be in order.
   */
  #checkLogs(): void {
    for (const log of this.#stored()) {
      const last = new Map<string | Settlement | undefined, number>()
      const seen = new Set<number>()
      for (const { key, value } of log) {
        const id = Number(value)
        const line = key ?? this.#outcomeOf.get(id)
        const before = last.get(line) ?? -1
        if (id < before && !seen.has(id)) this.#problem(`record ${id} of ${key} is behind ${before}`)
        seen.add(id)
        last.set(line, Math.max(id, before))
      }
    }
  }

  #problem(text: string): void {
    this.#judging.onProblem(`${this.#producer.stream.name}: ${text}`)
  }
}

/** mulberry32: numbers from 0 to 1, the same for the same seed. */
export function seededRandom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const topic = 'events'
const othersValue = 'others'
/** Back-off, circuit breaker, request timeout and metadata age, one behind the other, with room. */
const drainLimitMs = 30_000

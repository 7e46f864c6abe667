import type { StreamConfig } from '../../src/config/config.ts'
import type { ProducerStats } from '../../src/kafka/producer/producer.ts'
import { seededRandom } from './fault-run.ts'
import { flaggedOf, sumOfOutcomes } from './producer-stats.ts'
import { ModelDisk } from './model-disk.ts'
import { ModelHouse, type Life } from './model-house.ts'
import { streamConfig } from './producer-fixture.ts'
import type { HeapClock } from './heap-clock.ts'

/** What goes wrong, from when on, and for how long. `a` is turned into a node, a partition, a kind, as it needs one. */
export interface Trouble {
  readonly kind: TroubleKind
  readonly calmMs: number
  readonly lastsMs: number
  readonly a: number
}

/** Kinds of {@link Trouble}. */
export const troubleKinds = [
  'broker-killed',
  'broker-stopped',
  'broker-cut',
  'leader-moved',
  'answers-lost',
  'answers-slow',
  'replicas-lag',
  'redis-killed',
  'redis-stopped',
  'redis-cut',
  'redis-mute',
  'redis-slow',
  'disk-failing',
  'disk-full',
  'disk-hung',
  'clock-step',
] as const

/** See {@link troubleKinds}. */
export type TroubleKind = (typeof troubleKinds)[number]

/** How a process ends: by SIGKILL, with the power of its machine, or by SIGTERM. */
export const endings = ['kill', 'power', 'term'] as const

/** See {@link endings}. */
export type Ending = (typeof endings)[number]

/** One run. */
export interface PromiseRun {
  readonly seed: number
  readonly nodes: number
  /** Of each gateway: its processes, and how each of them ends. The last one ends when all is well, by SIGTERM. */
  readonly gateways: readonly (readonly { readonly lastsMs: number; readonly end: Ending }[])[]
  /** Troubles of a track come one after the other; the tracks run beside each other. */
  readonly tracks: readonly (readonly Trouble[])[]
}

/** Makes one run, and says which promise was broken. The virtual clock has to be in use. */
export async function runPromises(run: PromiseRun, clock: HeapClock): Promise<string[]> {
  return await new Run(run, clock).run()
}

interface Sent {
  readonly stream: string
  readonly number: number
  readonly tries: { readonly life: Life; readonly answer: string; readonly askedAtMs: number }[]
  state: 'none' | 'accepted' | 'refused'
}

class Run {
  readonly #run: PromiseRun
  readonly #clock: HeapClock
  readonly #random: () => number
  readonly #house: ModelHouse
  readonly #problems: string[] = []
  readonly #sent: Sent[] = []
  readonly #disks: ModelDisk[]
  readonly #lives: (Life | null)[] = []
  readonly #all: Life[] = []
  /** By the wall clock. */
  readonly #startedAtMs = new Map<Life, number>()
  readonly #cutMachines = new Set<string>()
  readonly #accounts = new Map<Life, readonly ProducerStats[]>()
  #isOver = false

  constructor(run: PromiseRun, clock: HeapClock) {
    this.#run = run
    this.#clock = clock
    this.#random = seededRandom(run.seed)
    this.#house = new ModelHouse(run.nodes, this.#random)
    this.#disks = run.gateways.map(() => new ModelDisk(this.#random))
    for (const name of Object.keys(promised)) this.#house.cluster.createTopic(name, 2)
  }

  async run(): Promise<string[]> {
    const { gateways, tracks } = this.#run
    runs++
    const work: Promise<void>[] = []
    const troubled = Promise.all([
      ...gateways.map(async (_, nth) => await this.#live(nth)),
      ...tracks.map(async (track) => await this.#trouble(track)),
    ])
    for (let nth = 0; nth < 4; nth++) work.push(this.#client(nth))
    const clients = Promise.all(work)
    await this.#until(troubled, 60_000, 'troubles')
    this.#heal()
    this.#isOver = true
    await this.#until(clients, 30_000, 'clients')
    await this.#until(this.#drained(), 30_000, 'drain')
    await this.#until(
      Promise.all(
        this.#lives.map(async (life) => (life === null ? undefined : await this.#end(life, 'term'))),
      ),
      30_000,
      'end',
    )
    this.#judge()
    return this.#problems.slice(0, 5)
  }

  async #until(work: Promise<unknown>, limitMs: number, what: string): Promise<void> {
    const state = { isDone: false }
    work.then(
      () => (state.isDone = true),
      (error: Error) => {
        state.isDone = true
        this.#problem(`${what}: ${error.stack}`)
      },
    )
    const giveUpAtMs = performance.now() + limitMs
    while (!state.isDone && performance.now() < giveUpAtMs) {
      await this.#clock.pass(25)
      this.#scrape()
    }
    if (!state.isDone) this.#problem(`${what}: not done after ${limitMs} ms`)
  }

  async #live(nth: number): Promise<void> {
    const plan = this.#run.gateways[nth]!
    for (const [index, { lastsMs, end }] of plan.entries()) {
      const life = this.#house.startLife(`r${runs}-${'ab'[nth]}-${index}`, {
        streams,
        disk: this.#disks[nth]!,
        shutdownTimeoutMs: 300,
        leaseMs: 1_500,
      })
      this.#lives[nth] = life
      this.#all.push(life)
      this.#startedAtMs.set(life, Date.now())
      await sleep(lastsMs)
      if (index === plan.length - 1) return
      await this.#end(life, end)
      this.#lives[nth] = null
      await sleep(this.#random() * 100)
    }
  }

  async #end(life: Life, end: Ending): Promise<void> {
    if (end !== 'term') {
      life.kill()
      if (end === 'power') {
        this.#cutMachines.add(machineOf(life))
        this.#disks[this.#lives.indexOf(life)]!.cutPower()
      }
      return
    }
    const tookMs = await life.stop()
    if (tookMs > 1_500) this.#problem(`${life.name}: took ${tookMs} ms to end`)
    if (life.underWay > 0) this.#problem(`${life.name}: left ${life.underWay} requests without an answer`)
    const stats = life.gateway.stats
    this.#accounts.set(life, stats)
    for (const each of stats) this.#checkSum(life, each)
  }

  async #trouble(track: readonly Trouble[]): Promise<void> {
    for (const { kind, calmMs, lastsMs, a } of track) {
      await sleep(calmMs)
      const { cluster, redis } = this.#house
      const nodeId = 1 + (a % cluster.nodes.size)
      switch (kind) {
        case 'broker-killed':
          cluster.kill(nodeId)
          await sleep(lastsMs)
          cluster.restart(nodeId, 20)
          break
        case 'broker-stopped':
          cluster.stop(nodeId)
          await sleep(lastsMs)
          cluster.resume(nodeId)
          break
        case 'broker-cut':
          cluster.cutConnections(nodeId)
          break
        case 'leader-moved':
          if (cluster.nodes.get(nodeId)!.state === 'up')
            for (const name of Object.keys(promised)) cluster.moveLeader(name, a % 2, nodeId)
          break
        case 'answers-lost':
          cluster.responsesToLose = 1 + (a % 3)
          break
        case 'answers-slow':
          cluster.responseMs = 60
          await sleep(lastsMs)
          cluster.responseMs = 1
          break
        case 'replicas-lag':
          cluster.replicationMs = 100
          await sleep(lastsMs)
          cluster.replicationMs = 0
          break
        case 'redis-killed':
          redis.kill()
          await sleep(lastsMs)
          redis.start()
          break
        case 'redis-stopped':
          redis.stop()
          await sleep(lastsMs)
          redis.goOn()
          break
        case 'redis-cut':
          redis.cut()
          break
        case 'redis-mute':
          redis.mute()
          break
        case 'redis-slow':
          redis.answerMs = 70
          await sleep(lastsMs)
          redis.answerMs = 0.5
          break
        case 'disk-failing':
        case 'disk-full': {
          const disk = this.#disks[a % this.#disks.length]!
          disk.failure = kind === 'disk-full' ? 'ENOSPC' : 'EIO'
          await sleep(lastsMs)
          disk.failure = null
          break
        }
        case 'disk-hung': {
          const disk = this.#disks[a % this.#disks.length]!
          disk.isHung = true
          await sleep(lastsMs)
          disk.isHung = false
          break
        }
        case 'clock-step':
          this.#clock.stepWallClock((a % 2 === 0 ? 1 : -1) * 15 * 60_000)
      }
    }
  }

  #heal(): void {
    const { cluster, redis } = this.#house
    for (const nodeId of cluster.nodes.keys()) {
      cluster.resume(nodeId)
      cluster.restart(nodeId)
    }
    for (const disk of this.#disks) {
      disk.failure = null
      disk.isHung = false
    }
    cluster.responseMs = 1
    cluster.responsesToLose = 0
    cluster.replicationMs = 0
    redis.goOn()
    redis.start()
    redis.answerMs = 0.5
  }

  async #client(nth: number): Promise<void> {
    const stream = ['exact', 'realtime', 'exact', 'critical'][nth]!
    const retries = stream !== 'realtime'
    for (let round = 0; round < 30 && !this.#isOver; round++) {
      await sleep(this.#random() * 80)
      const number = this.#sent.length
      const sent: Sent = { stream, number, tries: [], state: 'none' }
      this.#sent.push(sent)
      const key = nth % 2 === 0 ? `"source":"key-${nth}",` : ''
      const isByKey = this.#random() < 0.5
      const headers = {
        'content-type': 'application/json',
        ...(stream === 'exact' && isByKey && { 'idempotency-key': `"${number}"` }),
        ...(this.#random() < 0.2 && { prefer: 'wait=1' }),
      }
      const id = stream === 'exact' && !isByKey ? `"id":"${number}",` : ''
      const payload = `{"name":"p",${key}${id}"value":${number}}`
      for (;;) {
        const lives = this.#lives.filter((life) => life !== null)
        const life = lives[Math.floor(this.#random() * lives.length)]
        if (life === undefined) {
          await sleep(20)
          continue
        }
        const askedAtMs = Date.now()
        const reply = await life.ask(`/v1/streams/${stream}`, headers, payload, 700)
        const { status = 0, code = '', accepted = 0 } = reply ?? {}
        if (code === 'ECONNREFUSED') {
          await sleep(20)
          continue
        }
        sent.tries.push({ life, answer: `${status} ${code}`, askedAtMs })
        if (status === 202 || status === 200) {
          sent.state = 'accepted'
          if (accepted !== 1) this.#problem(`${stream} ${number}: accepted ${accepted}`)
          break
        }
        // 504: the disk took neither the record nor its removal, so it is not known yet whether the record will be sent.
        if (status !== 0 && status !== 503 && status !== 504 && code !== 'request_in_progress')
          this.#problem(`${stream} ${number}: ${status} ${code}`)
        if (!retries) {
          if (status === 503 && code !== 'delivery_failed') sent.state = 'refused'
          break
        }
        await sleep(20 + this.#random() * 60)
      }
    }
  }

  async #drained(): Promise<void> {
    for (;;) {
      const left = this.#lives.flatMap((life) => life?.gateway.stats ?? [])
      if (left.every(({ spooled, buffered, inFlight }) => spooled + buffered + inFlight === 0)) return
      await sleep(20)
    }
  }

  #scrape(): void {
    for (const life of this.#lives)
      if (life !== null && !life.isOver) for (const stats of life.gateway.stats) this.#checkSum(life, stats)
  }

  #checkSum(life: Life, stats: ProducerStats): void {
    const { accepted, recovered, spooled, buffered, inFlight } = stats
    const off = accepted + recovered - spooled - buffered - inFlight - sumOfOutcomes(stats)
    if (off !== 0) this.#problem(`${life.name}: the account of ${stats.stream} is off by ${off}`)
  }

  #judge(): void {
    const copies = new Map<number, number>()
    for (const name of Object.keys(promised))
      for (const log of this.#house.cluster.stored(name))
        for (const { value } of log) {
          const { value: number } = JSON.parse(value) as { value: number }
          copies.set(number, (copies.get(number) ?? 0) + 1)
        }
    const lostBy = new Map<Life, number>()
    for (const { stream, number, tries, state } of this.#sent) {
      const count = copies.get(number) ?? 0
      const told = `${stream} ${number} (${tries.map(({ life, answer }) => `${life.name}: ${answer}`).join(', ')})`
      if (state === 'refused' && count > 0) this.#problem(`${told} was refused, and is there`)
      if (count > this.#mostCopies(stream, tries)) this.#problem(`${told} is there ${count} times`)
      if (state === 'accepted' && count === 0) {
        if (stream !== 'realtime') this.#problem(`${told} is lost`)
        const { life } = tries.at(-1)!
        lostBy.set(life, (lostBy.get(life) ?? 0) + 1)
      }
      if (stream !== 'realtime' && state !== 'accepted') this.#problem(`${told} was never accepted`)
    }
    for (const [life, lost] of lostBy) {
      const stats = this.#accounts.get(life)?.find(({ stream }) => stream === 'realtime')
      if (stats === undefined) continue
      const flagged = flaggedOf(stats)
      if (lost > flagged) this.#problem(`${life.name} lost ${lost} and flagged ${flagged}`)
    }
  }

  /**
   * Never twice, but for what the client itself sends again without a key. Where the disk took no note of what was on its way to
   * Kafka, or a power cut took it, the next life may send that again (docs/semantics.md): records of such a machine are not
   * counted. The first is said in the log.
   */
  #mostCopies(stream: string, tries: Sent['tries']): number {
    if (stream === 'realtime') return 1
    const forgetful = tries.some(
      ({ life }) => this.#cutMachines.has(machineOf(life)) || this.#saysUnnoted(life),
    )
    if (forgetful) return Infinity
    if (stream === 'exact' && tries.some((each) => this.#isKeyOver(each))) return Infinity
    const taken = tries.filter(({ answer }) => !answer.startsWith('503'))
    return stream === 'exact' ? 1 : Math.max(1, taken.length)
  }

  /**
   * A try had no answer, and the clock was set forward by more than the window before the next life of the machine. Then the key on disk
   * is over by the wall clock, and nobody else was told of it (docs/duplicates.md).
   */
  #isKeyOver({ life, answer, askedAtMs }: Sent['tries'][number]): boolean {
    if (!answer.startsWith('0 ')) return false
    const later = this.#all.slice(this.#all.indexOf(life) + 1)
    const next = later.find((each) => machineOf(each) === machineOf(life))
    return next !== undefined && this.#startedAtMs.get(next)! - askedAtMs > dedupe.windowMs
  }

  #saysUnnoted(life: Life): boolean {
    return this.#all.some(
      (each) =>
        machineOf(each) === machineOf(life) &&
        each.logs.lines.some(({ message }) => message.startsWith('batches are sent without a note')),
    )
  }

  #problem(text: string): void {
    this.#problems.push(text)
  }
}

let runs = 0

const promised = { realtime: 'at-most-once', critical: 'at-least-once', exact: 'exactly-once' } as const

const sizes = { requestTimeoutMs: 400, confirmIntervalMs: 20 }
const spool = { fsync: true, maxBytes: 1 << 20 }
const dedupe = { windowMs: 600_000, maxEntries: 1_000 }
const streams: StreamConfig[] = [
  { ...streamConfig('realtime', 'at-most-once', sizes), schema: 'telemetry' },
  {
    ...streamConfig('critical', 'at-least-once', { ...sizes, confirmIntervalMs: null }),

    schema: 'telemetry',
    spool,
  },
  {
    ...streamConfig('exact', 'at-least-once', { ...sizes, confirmIntervalMs: null }),

    schema: 'telemetry',
    spool,
    dedupe,
    exactlyOnce: true,
  },
]

/** Of a life's name, which is that of its run, of its gateway, and its number. */
function machineOf({ name }: Life): string {
  return name.slice(0, name.lastIndexOf('-'))
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}

import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { readAuditHeader } from '../../src/kafka/protocol/audit-header.ts'
import type { ProducerStats } from '../../src/kafka/producer/producer.ts'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { hasBalancers, startHaproxy } from '../support/balancers.ts'
import { drain, DurableSetup } from '../support/durable-gateway.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { readTopic, type ReadRecord } from '../support/independent-reader.ts'
import { KeyedLoad, landingOf } from '../support/keyed-load.ts'
import { atLeast, atMost, exactly, type Bar } from './harness/bar.ts'
import { ChaosGateway, Scraping, type Life } from './harness/chaos-gateway.ts'
import { judge } from './harness/judge.ts'
import { flaggedOf, sumOfOutcomes } from '../support/producer-stats.ts'
import type { LoggedAccount } from './harness/subject.ts'

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka()
})
afterAll(async () => await kafka.stop())

/** A gateway of the fleet, with what each of its processes said of itself shortly before its end. */
class Member extends ChaosGateway {
  readonly setup: DurableSetup
  readonly looks = new Map<Life, readonly ProducerStats[]>()

  constructor(name: string, setup: DurableSetup, port: number) {
    super(name, { ...setup.env, PORT: String(port), DRAIN_DELAY_MS: '2500', SHUTDOWN_TIMEOUT_MS: '1000' })
    this.setup = setup
  }

  override async start(): Promise<void> {
    await super.start()
    onTestFinished(() => this.life.gateway.signal('SIGKILL'))
  }

  override async kill(): Promise<void> {
    await this.#look()
    await super.kill()
  }

  override async end(): Promise<number> {
    await this.#look()
    return await super.end()
  }

  /** Not before it has sent a record of the audited stream: only then does it tell which writer it is. */
  async #look(): Promise<void> {
    const hasWriter = async (): Promise<boolean> => {
      this.looks.set(this.life, await this.stats())
      return this.lookAt(this.life, 'realtime').audit.length > 0
    }
    await vi.waitUntil(hasWriter, { timeout: 10_000, interval: 20 })
  }

  /** What a process said of a stream shortly before its end. */
  lookAt(life: Life, stream: string): ProducerStats {
    return this.looks.get(life)!.find((each) => each.stream === stream)!
  }
}

test.runIf(hasBalancers && isLong)(
  'three gateways behind HAProxy: upgraded in turn, one killed, one gone for good with a backlog, Kafka restarted: nothing durable is lost, and the sums of the fleet close',
  { timeout: 300_000 },
  async () => {
    const broker = kafka.brokers[0]!
    const node = kafka.nodes[0]!
    const [balancer, ...ports] = (await freePorts(4)) as [number, number, number, number]
    const name = `fleet-${randomUUID().slice(0, 8)}`
    const fleet = ports.map((port, nth) => {
      const setup = new DurableSetup({ broker, name, realtimeStream: { audit: true } })
      return new Member('ABC'[nth]!, setup, port)
    })
    const [, toKill, toRemove] = fleet as [Member, Member, Member]
    await Promise.all(fleet.map(async (each) => await each.start()))
    const untilHaproxySees = await startHaproxy(balancer, ports)
    await untilHaproxySees()
    const scraping = new Scraping(fleet)
    const loads = ['critical', 'realtime'].map((stream) => new KeyedLoad({ stream, keys }))
    const [critical, realtime] = loads as [KeyedLoad, KeyedLoad]
    const accepted = () => loads.map((load) => load.as('accepted').length)
    for (const load of loads) load.start(`http://127.0.0.1:${balancer}`, 20)

    // The upgrade, one after the other.
    for (const each of fleet) {
      await each.end()
      await each.start()
      await untilHaproxySees()
    }

    const beforeKill = { atMs: performance.now(), accepted: accepted() }
    await toKill.kill()
    const afterKill = { atMs: performance.now(), accepted: accepted() }
    await untilHaproxySees(2)
    await toKill.start()
    await untilHaproxySees()

    // Kafka goes. One gateway leaves for good meanwhile, and what its folder has is sent when Kafka is back.
    await node.stop()
    await toRemove.end()
    await untilHaproxySees(2)
    const drained = drain(toRemove.setup.env)
    node.start()
    await node.waitUntilReady()
    const { code, log, stderr } = await drained
    const drainedBy = (JSON.parse(log.trim().split('\n').at(-1)!) as { account: Accounts }).account[
      'critical'
    ]!

    const remaining = fleet.filter((each) => each !== toRemove)
    await Promise.all(remaining.map(async (each) => await each.settled()))
    await Promise.all(loads.map(async (load) => await load.stop()))
    await Promise.all(remaining.map(async (each) => await each.settled()))
    await scraping.stop()
    await Promise.all(remaining.map(async (each) => await each.end()))
    expect([code, stderr]).toEqual([0, ''])

    const kill = { beganAtMs: beforeKill.atMs, goneAtMs: afterKill.atMs }
    const records = {
      critical: await readTopic(broker, `${name}-critical`),
      realtime: await readTopic(broker, `${name}-realtime`),
    }
    const between = beforeKill.accepted.map((count, nth) => afterKill.accepted[nth]! - count)
    const ofDurable = durableBars({
      fleet,
      drainedBy,
      load: critical,
      records: records.critical,
      aroundKill: between[0]!,
    })
    const ofRealtime = realtimeBars({
      fleet,
      load: realtime,
      records: records.realtime,
      aroundKill: between[1]!,
    })
    const bars = [
      exactly('sums open at a scrape', scraping.open.length, 0),
      ...loads.flatMap((load) => requestBars(load, kill)),
      ...ofDurable.bars,
      ...ofRealtime.bars,
    ]
    const failed = loads.flatMap(({ failures }) => failures)
    const figures = {
      'requests in flight at the kill that failed': failed.length,
      ...ofDurable.figures,
      ...ofRealtime.figures,
    }
    judge('a fleet of three behind HAProxy', figures, bars)
  },
)

type Accounts = Readonly<Record<string, LoggedAccount>>

const keys = 6

/** Events whose 202 was under way to the clients when the killed process was gone: a request of each connection at most. */
const underWay = keys * 3

/** How long HAProxy may take to read that the connections of a process which is gone are closed, on a busy machine. */
const balancerReadsMs = 200

/**
 * No request failed, but for those under way when the gateway was killed, and one at most of each connection that began when it was gone. A process that
 * is killed closes its connections one after the other, so until it is gone HAProxy can hand it another request of the same client.
 */
function requestBars(load: KeyedLoad, kill: { beganAtMs: number; goneAtMs: number }): Bar[] {
  const { failures, stream } = load
  const others = failures.filter(
    ({ startedMs, endedMs, status }) =>
      startedMs > kill.goneAtMs + balancerReadsMs || endedMs < kill.beganAtMs || ![0, 502].includes(status),
  )
  const behind = failures.filter(({ startedMs }) => startedMs > kill.goneAtMs)
  const connections = new Set(behind.map(({ key }) => key))
  return [
    exactly(`${stream}: requests that failed and were not in flight at the kill`, others.length, 0),
    exactly(
      `${stream}: connections with more than one that began when the gateway was gone`,
      behind.length - connections.size,
      0,
    ),
    atLeast(`${stream}: accepted`, load.as('accepted').length, 1_000),
  ]
}

/** What both deliveries are held to: what the processes that were not killed say, and what is left for the one that was. */
function accountsOf(fleet: readonly Member[], stream: string) {
  const lives = fleet.flatMap((gateway) => gateway.lives.map((life, nth) => ({ gateway, life, nth })))
  const ended = lives.filter(({ life }) => !life.wasKilled)
  const killed = lives.find(({ life }) => life.wasKilled)!
  return {
    ended: ended.map((each) => ({ ...each, account: each.life.account![stream]! })),
    killed: { ...killed, last: killed.gateway.lookAt(killed.life, stream) },
    possiblyRepeated: sum(lives.map(({ gateway, life }) => gateway.lookAt(life, stream).possiblyRepeated)),
  }
}

/**
 * The killed process took its account with it. What is left of the 202s when all other accounts are taken away are the 202s of that process:
 * no less than it said at the last look, and no more than came until it was gone.
 */
function killedBars(
  stream: string,
  options: { accepted: number; last: number; unanswered: number; aroundKill: number },
): Bar[] {
  const { accepted, last, unanswered, aroundKill } = options
  return [
    atLeast(
      `${stream}: 202s of the killed process, and what it left unanswered, by the other accounts`,
      accepted + unanswered,
      last,
    ),
    atMost(
      `${stream}: 202s of the killed process by the other accounts`,
      accepted,
      last + aroundKill + underWay,
    ),
  ]
}

function durableBars(run: {
  fleet: readonly Member[]
  drainedBy: LoggedAccount
  load: KeyedLoad
  records: readonly ReadRecord[]
  aroundKill: number
}): { bars: Bar[]; figures: Record<string, number> } {
  const { fleet, drainedBy, load, records, aroundKill } = run
  const { ended, killed, possiblyRepeated } = accountsOf(fleet, 'critical')
  const landing = landingOf(load, records)
  const told = load.as('accepted').length
  const unanswered = load.as('unanswered').length
  const ofEnded = sum(ended.map(({ account }) => account.accepted))
  const acked = sum(ended.map(({ account }) => account.acked)) + drainedBy.acked
  const backlog = fleet.at(-1)!.life.account!['critical']!.spooled!
  const handedOver = ended.map(({ gateway, life, nth, account }) => {
    const next = gateway.lives[nth + 1]
    if (next !== undefined) return Math.abs(gateway.lookAt(next, 'critical').recovered - account.spooled!)
    return Math.abs(account.spooled! - (life === fleet.at(-1)!.life ? drainedBy.recovered! : 0))
  })
  return {
    figures: {
      'critical: accepted': told,
      'critical: left on the disk of the gateway that went for good': backlog,
      'critical: lost': landing.lost.length,
      'critical: twice': landing.duplicates.length,
    },
    bars: [
      exactly('critical: lost', landing.lost.length, 0),
      exactly('critical: in the topic and refused', landing.ghosts.length, 0),
      atMost('critical: twice', landing.duplicates.length, possiblyRepeated),
      atLeast('critical: left on the disk of the gateway that went for good', backlog, 1),
      exactly(
        'critical: sums of accounts that are open',
        sum([...ended.map(({ account }) => openBy(account)), openBy(drainedBy)]),
        0,
      ),
      exactly('critical: records that a start, or chute drain, did not find on disk', sum(handedOver), 0),
      ...killedBars('critical', {
        accepted: told - ofEnded,
        last: killed.last.accepted,
        unanswered,
        aroundKill,
      }),
      // The rest was acknowledged to the process that was killed.
      atLeast(
        'critical: records in the topic − those that other accounts have acked',
        records.length - acked,
        killed.last.acked,
      ),
      exactly(
        'critical: events in the topic − 202s − those without an answer that landed',
        landing.landed - told - unansweredIn(load, records),
        0,
      ),
    ],
  }
}

function realtimeBars(run: {
  fleet: readonly Member[]
  load: KeyedLoad
  records: readonly ReadRecord[]
  aroundKill: number
}): { bars: Bar[]; figures: Record<string, number> } {
  const { fleet, load, records, aroundKill } = run
  const { ended, killed } = accountsOf(fleet, 'realtime')
  const landing = landingOf(load, records)
  const byWriter = new Map<string, number>()
  for (const { headers } of records) {
    const writer = readAuditHeader(headers['chute-audit'] as Buffer)!.instance
    byWriter.set(writer, (byWriter.get(writer) ?? 0) + 1)
  }
  const landedOf = (gateway: Member, life: Life) =>
    byWriter.get(gateway.lookAt(life, 'realtime').audit[0]!.instance) ?? 0
  const losses = ended.map(({ gateway, life, account }) => ({
    lost: account.accepted - landedOf(gateway, life),
    flagged: flaggedOf(account),
    confirmedAndLost: account.confirmed - landedOf(gateway, life),
  }))
  const landedOfKilled = landedOf(killed.gateway, killed.life)
  const told = load.as('accepted').length
  const unanswered = load.as('unanswered').length
  const ofKilled = told - sum(ended.map(({ account }) => account.accepted))
  return {
    figures: {
      'realtime: accepted': told,
      'realtime: lost': landing.lost.length,
      'realtime: lost by processes that were not killed': sum(losses.map(({ lost }) => lost)),
      'realtime: flagged by them': sum(losses.map(({ flagged }) => flagged)),
    },
    bars: [
      exactly('realtime: twice', landing.duplicates.length, 0),
      exactly('realtime: in the topic and refused', landing.ghosts.length, 0),
      exactly(
        'realtime: records of writers that no gateway knows',
        records.length - landedOfKilled - sum(ended.map(({ gateway, life }) => landedOf(gateway, life))),
        0,
      ),
      exactly(
        'realtime: sums of accounts that are open',
        sum(ended.map(({ account }) => openBy(account))),
        0,
      ),
      exactly(
        'realtime: lost and not flagged, of processes that were not killed',
        sum(losses.map(({ lost, flagged }) => Math.max(0, lost - flagged))),
        0,
      ),
      exactly(
        'realtime: confirmed and not in the topic',
        sum(losses.map(({ confirmedAndLost }) => Math.max(0, confirmedAndLost))),
        0,
      ),
      atLeast('realtime: records of the killed process in the topic', landedOfKilled, killed.last.confirmed),
      ...killedBars('realtime', { accepted: ofKilled, last: killed.last.accepted, unanswered, aroundKill }),
    ],
  }
}

/** accepted + recovered − what is on disk − Σ outcomes, of a process that has ended. Nothing may be pending in it. */
function openBy(account: LoggedAccount): number {
  const { accepted, recovered = 0, spooled = 0, buffered, inFlight } = account
  return Math.abs(accepted + recovered - spooled - sumOfOutcomes(account)) + buffered + inFlight
}

/** Events without an answer that are in the topic. */
function unansweredIn(load: KeyedLoad, records: readonly ReadRecord[]): number {
  const landed = new Set(
    records.map(({ key, value }) => `${key}:${(JSON.parse(value.toString()) as { value: number }).value}`),
  )
  return load.as('unanswered').filter((id) => landed.has(id)).length
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}

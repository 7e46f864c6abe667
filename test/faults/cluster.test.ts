import { availableParallelism } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, onTestFinished, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { atLeast, atMost, type Bar } from './harness/bar.ts'
import { countBars, flagBars, replyBars, resumeBars } from './harness/bars.ts'
import { layoutOf, moveLeaders, topicsOf, untilLayout } from './harness/cluster.ts'
import { byForm, isFull, isLong } from '../support/forms.ts'
import { limitMs } from './harness/form.ts'
import { judge } from './harness/judge.ts'
import { liveThrough } from './harness/live-through.ts'
import { ReplicaWatch } from './harness/replica-watch.ts'
import { figuresOf, silenceCountsOnMs, type FaultReport } from './harness/report.ts'
import type { Subject } from './harness/subject.ts'

let kafka: LocalKafka
beforeAll(async () => {
  kafka = await startKafka({ nodes: 3 })
})
afterAll(async () => await kafka.stop())

/** Each partition on all three nodes. */
function subject() {
  return { brokers: kafka.brokers, replication: 3 }
}

const nobody = async (): Promise<void> => {}

test.runIf(isLong)('leaders are moved cleanly', { timeout: limitMs() }, async () => {
  const report = await liveThrough({
    name: 'leaders moved cleanly, 3 nodes',
    kafka,
    inflict: async (gateways) => await moveLeaders(kafka, topicsOf(gateways)),
    lastsMs: byForm({ short: 2_000, full: 10_000 }),
    heal: nobody,
    subject: subject(),
  })
  judge(report.name, figuresOf(report), [...countBars(report), ...flagBars(report), ...replyBars(report)])
})

/** A node is started again, if it does not run, and all of it is as it was before the next fault. */
async function mend(topics: readonly string[]): Promise<void> {
  for (const node of kafka.nodes) {
    await node.kill('SIGCONT')
    if (node.pid === null) node.start()
  }
  for (const node of kafka.nodes) await node.waitUntilReady()
  await untilLayout(kafka, 1, topics, (layout) => layout.every(({ isr }) => isr.length === 3))
}

test.runIf(isLong)('a leader stands still, is replaced, and wakes up', { timeout: limitMs() }, async () => {
  const fault = new LeaderFault()
  onTestFinished(async () => await mend(fault.topics))
  const report = await liveThrough({
    name: 'leader stopped, replaced and continued, 3 nodes',
    kafka,
    async inflict(gateways) {
      const leader = await fault.leaderOf(gateways)
      await fault.watchSpared()
      await leader.kill('SIGSTOP')
    },
    lastsMs: byForm({ short: 2_000, full: 12_000 }),
    async heal() {
      await fault.untilLedByOthers()
      await fault.node.kill('SIGCONT')
    },
    subject: subject(),
  })
  judge(report.name, { ...figuresOf(report), ...(await fault.silences(report)) }, [
    ...countBars(report),
    ...replyBars(report),
    ...(await fault.silenceBars(report)),
  ])
})

test.runIf(isLong)(
  'a follower stands still, and then its leader is killed',
  { timeout: limitMs() },
  async () => {
    const fault = new LeaderFault()
    onTestFinished(async () => await mend(fault.topics))
    // Shorter than `broker.session.timeout.ms`: the follower stays in the in-sync replicas, and the high watermark where it is.
    const standsMs = 2_000
    const pending = { inFlight: 0, buffered: 0 }
    const report = await liveThrough({
      name: 'follower stopped, then its leader killed, 3 nodes',
      kafka,
      async inflict(gateways) {
        const leader = await fault.leaderOf(gateways)
        await fault.follower.kill('SIGSTOP')
        await pause(standsMs)
        const { inFlight, buffered } = gateways[0].scraper.scrapes.at(-1)!.streams[0]!
        Object.assign(pending, { inFlight, buffered })
        await leader.kill('SIGKILL')
        await fault.follower.kill('SIGCONT')
      },
      lastsMs: 0,
      heal: async () => await fault.untilLedByOthers(),
      subject: subject(),
    })
    const { flagged, lost } = report.streams[0]!
    const carried = (report.acceptedPerSecond * 10 * 20) / 1_000
    const figures = {
      ...figuresOf(report),
      ...(await fault.silences(report)),
      'waits at the kill': pending.buffered,
      'in flight at the kill': pending.inFlight,
    }
    judge(report.name, figures, [
      ...countBars(report),
      ...replyBars(report),
      // Without a pause, all that came while the follower stood still would be in flight. On a machine that does other work, too, the pause is late.
      atMost('in flight at the kill', pending.inFlight, pending.buffered * (isFull ? 0.5 : 0.8)),
      ...(isFull ? [atMost('flagged − lost', flagged - lost, carried)] : []),
    ])
  },
)

/** The short form restarts one node of the three. */
test.runIf(isLong)('a rolling restart', { timeout: limitMs(2) }, async () => {
  const restarted = kafka.nodes.slice(0, byForm({ short: 1, full: 3 }))
  const report = await liveThrough({
    name: 'rolling restart, 3 nodes',
    kafka,
    async inflict(gateways) {
      for (const node of restarted) {
        await node.stop()
        await mend(topicsOf(gateways))
      }
    },
    lastsMs: 0,
    heal: nobody,
    subject: subject(),
  })
  judge(report.name, figuresOf(report), [
    ...countBars(report),
    // Each node that stops is a fault of its own.
    ...flagBars(report, restarted.length),
    // A broker that stops and starts takes all of two processors, and then replies wait for a processor and not for Kafka.
    ...(availableParallelism() >= 4 ? replyBars(report) : []),
  ])
})

/** The last test of the file: its node is not started again. */
test('the leader of some partitions is killed, and the others go on', { timeout: limitMs() }, async () => {
  const fault = new LeaderFault()
  const report = await liveThrough({
    name: 'leader killed, 3 nodes',
    kafka,
    async inflict(gateways) {
      const leader = await fault.leaderOf(gateways)
      await fault.watchSpared()
      await leader.kill('SIGKILL')
    },
    lastsMs: 0,
    heal: async () => await fault.untilLedByOthers(),
    subject: subject(),
  })
  judge(report.name, { ...figuresOf(report), ...(await fault.silences(report)) }, [
    ...countBars(report),
    ...flagBars(report),
    ...replyBars(report),
    ...resumeBars(report),
    ...(await fault.silenceBars(report)),
  ])
})

/** Something happens to the node that leads the first partition of the first topic. */
class LeaderFault {
  topics: string[] = []
  #nodeId = 0
  /** Leaders of the partitions of the first topic that others lead, by partition. */
  #spared = new Map<number, number>()
  #watches: ReplicaWatch[] = []
  /** By partition, for how long the high watermarks of these partitions stood still while records waited for them. */
  #stoodMs: Promise<Map<number, number>> = Promise.resolve(new Map())

  get node(): LocalKafka['nodes'][number] {
    return kafka.nodes[this.#nodeId - 1]!
  }

  /** One that follows it in every partition that it leads. */
  get follower(): LocalKafka['nodes'][number] {
    return kafka.nodes[(this.#nodeId + 1) % 3]!
  }

  async leaderOf(gateways: readonly Subject[]): Promise<LocalKafka['nodes'][number]> {
    this.topics = topicsOf(gateways)
    const layout = await layoutOf(kafka, 1, [this.topics[0]!])
    this.#nodeId = layout.find(({ partition }) => partition === 0)!.leader
    for (const { partition, leader } of layout)
      if (leader !== this.#nodeId) this.#spared.set(partition, leader)
    return this.node
  }

  /** From now until silences count no more, somebody who is not the gateway looks at the partitions of the other leaders. */
  async watchSpared(): Promise<void> {
    for (const nodeId of new Set(this.#spared.values())) {
      const partitions = [...this.#spared].filter(([, leader]) => leader === nodeId).map(([each]) => each)
      this.#watches.push(await ReplicaWatch.start(kafka.brokers[nodeId - 1]!, this.topics[0]!, partitions))
    }
  }

  async untilLedByOthers(): Promise<void> {
    const witness = (this.#nodeId % 3) + 1
    await untilLayout(kafka, witness, this.topics, (layout) =>
      layout.every(({ leader }) => leader > 0 && leader !== this.#nodeId),
    )
    this.#stoodMs = this.#endWatch()
  }

  async #endWatch(): Promise<Map<number, number>> {
    await pause(silenceCountsOnMs)
    const stood = await Promise.all(this.#watches.map(async (watch) => await watch.stop()))
    return new Map(stood.flatMap((each) => [...each]))
  }

  async silences({ gapsMs }: FaultReport): Promise<Record<string, number>> {
    const longest = (isSpared: boolean): number =>
      Math.max(
        ...[...gapsMs].filter(([each]) => this.#spared.has(each) === isSpared).map(([, gapMs]) => gapMs),
      )
    const stood = [...(await this.#stoodMs)]
    return {
      'longest silence of its partitions, ms': longest(false),
      'longest silence of the others, ms': longest(true),
      ...(stood.length > 0 && {
        'high watermarks of the others stood still, ms': Math.max(...stood.map(([, stoodMs]) => stoodMs)),
        [beyondName]: Math.max(...stood.map(([partition, stoodMs]) => gapsMs.get(partition)! - stoodMs)),
      }),
    }
  }

  /**
   * The other partitions go on. The node is in their in-sync replicas until the controller fences it, so until then their high watermarks
   * stand still, and the gateway holds back what only the leader would have. It may be silent for that long, as an independent client saw it.
   */
  async silenceBars(report: FaultReport): Promise<Bar[]> {
    const { [beyondName]: beyondMs = null } = await this.silences(report)
    return [
      atLeast('partitions of other leaders', (await this.#stoodMs).size, 1),
      atMost(beyondName, beyondMs, resumeLimitMs),
    ]
  }
}

/** Of the partition for which it is longest. */
const beyondName = 'silence of the others beyond that of their high watermarks, ms'
/** The gateway asks every few milliseconds while it waits. The rest is for a machine that brokers, gateways and the load share. */
const resumeLimitMs = 500

import * as fc from 'fast-check'
import { appendFileSync, readdirSync, readlinkSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, expect, test, vi } from 'vitest'
import { seededRandom } from '../../support/fault-run.ts'
import { ModelCluster } from '../../support/model-broker.ts'
import { realDisk, type Disk } from '../../../src/spool/disk.ts'
import type { TestRecord } from '../../support/spool-fixture.ts'
import { DurableLife } from '../../support/spooled-cluster.ts'

/** What happens to a gateway between two kills. */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('request' as const), records: fc.nat(9) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(8) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('lose' as const), answers: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('partition' as const) }) },
)

const life = fc.record({ steps: fc.array(step, { maxLength: 20 }), isIdle: fc.boolean() })

const runs = Number(process.env['CHUTE_RUNS'] ?? 40)

test(
  'however often it is killed, each record is in Kafka once, and each key keeps its order',
  { timeout: 60_000 + runs * 3_000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 5 }), fc.integer(), async (lives, seed) => {
        const cluster = new ModelCluster([1, 2], seededRandom(seed))
        cluster.createTopic('events', 2)
        const options = {
          stream: { audit: true },
          producer: { batchSizeBytes: 400, lingerMs: 1 },
        }
        const committed: TestRecord[] = []
        let [next, folder] = [0, undefined as string | undefined]
        for (const { steps, isIdle } of lives) {
          const now = new DurableLife(cluster, { ...options, ...(folder !== undefined && { folder }) })
          let isDead = false
          if (isIdle) await pause(15)
          for (const each of steps) {
            if (each.kind === 'wait') await pause(each.ms)
            else if (each.kind === 'lose') cluster.responsesToLose += each.answers
            else if (each.kind === 'partition') cluster.addPartitions('events', 1)
            else {
              const records = Array.from({ length: each.records + 1 }, () => ({
                key: next % 3 === 0 ? null : `k${next % 5}`,
                value: String(next++),
              }))
              now.request(records, () => {
                if (!isDead) committed.push(...records)
              })
            }
          }
          folder = now.kill()
          isDead = true
          cluster.responsesToLose = 0
        }
        const last = new DurableLife(cluster, { ...options, ...(folder !== undefined && { folder }) })
        await last.drained()
        expect(last.producer.stats.possiblyRepeated).toBe(0)
        last.end()
        const logs = cluster.stored('events')
        const values = logs.flatMap((log) => log.map(({ value }) => value))
        expect(values.filter((value, nth) => values.indexOf(value) !== nth)).toEqual([])
        expect(committed.map(({ value }) => value).filter((value) => !values.includes(value))).toEqual([])
        for (const log of logs) {
          expect(marksOutOfOrder(log)).toEqual([])
          for (const key of new Set(log.map((record) => record.key))) {
            const ofKey = log.filter((record) => record.key === key && key !== null)
            expect(ofKey).toEqual(ofKey.toSorted((one, other) => Number(one.value) - Number(other.value)))
          }
        }
      }),
      { numRuns: runs },
    )
  },
)

afterEach(() => void vi.useRealTimers())

/** A gateway is killed with a batch of three records on its way, which Kafka gets and nobody hears of. */
async function killedInFlight(): Promise<{ cluster: ModelCluster; folder: string }> {
  const cluster = new ModelCluster([1], seededRandom(1))
  cluster.createTopic('events', 1)
  const gateway = new DurableLife(cluster, { producer: { requestTimeoutMs: 10_000 } })
  // A record gets the producer id out of the way.
  gateway.request([{ key: 'k', value: 'warm-up' }])
  await gateway.until(() => gateway.producer.stats.acked === 1)
  cluster.responsesToLose = Infinity
  gateway.request(['0', '1', '2'].map((value) => ({ key: 'k', value })))
  await gateway.until(() => cluster.stored('events')[0]!.length === 4)
  const folder = gateway.kill()
  cluster.responsesToLose = 0
  return { cluster, folder }
}

/** What Kafka has behind the warm-up. */
function valuesOf(cluster: ModelCluster): string[] {
  return cluster
    .stored('events')[0]!
    .slice(1)
    .map(({ value }) => value)
}

async function goesOn(cluster: ModelCluster, folder: string): Promise<DurableLife> {
  const gateway = new DurableLife(cluster, { folder })
  await new Promise<void>((resolve) => gateway.request([{ key: 'k', value: '3' }], resolve))
  await gateway.drained()
  gateway.end()
  return gateway
}

function journalOf(folder: string): string {
  return `${folder}/${readdirSync(folder).find((name) => name.endsWith('.sent'))}`
}

test('a batch that Kafka has, and nobody heard of, is acknowledged after a kill, and what is new follows it', async () => {
  const { cluster, folder } = await killedInFlight()
  const { producer } = await goesOn(cluster, folder)
  expect(valuesOf(cluster)).toEqual(['0', '1', '2', '3'])
  expect(producer.stats).toMatchObject({ recovered: 3, accepted: 1, acked: 4, possiblyRepeated: 0 })
})

test('of a batch that went on in parts, of which the disk took no note, the parts that are not in Kafka go after a kill', async () => {
  const cluster = new ModelCluster([1], seededRandom(1))
  cluster.createTopic('events', 1)
  /** Notes that the disk takes. */
  let room = Infinity
  const write: Disk['write'] = (fd, buffers, position, done) => {
    const isNote = readlinkSync(`/proc/self/fd/${fd}`).endsWith('.sent')
    if (isNote && room-- <= 0) setImmediate(done, Object.assign(new Error('full'), { code: 'ENOSPC' }), 0)
    else realDisk.write(fd, buffers, position, done)
  }
  const gateway = new DurableLife(cluster, { producer: { requestTimeoutMs: 10_000 }, disk: { write } })
  gateway.request([{ key: 'k', value: 'warm-up' }])
  await gateway.until(() => gateway.producer.stats.acked === 1)
  // The batch is too large. Its first half gets there, and the second one does not, for now.
  const { refusals } = cluster.topics.get('events')!.partitions[0]!
  refusals.push(10, 0, ...Array.from({ length: 10_000 }, () => 19))
  gateway.request(['0', '1', '2', '3'].map((value) => ({ key: 'k', value })))
  room = 1
  await gateway.until(() => gateway.producer.stats.acked === 3)
  await gateway.until(() => readdirSync(gateway.folder).some((name) => name.endsWith('.ack')))
  const folder = gateway.kill()
  refusals.length = 0
  const { producer } = await goesOn(cluster, folder)
  expect(valuesOf(cluster)).toEqual(expect.arrayContaining(['0', '1', '2', '3']))
  expect(producer.stats.possiblyRepeated).toBe(4)
})

test('a torn end of the journal takes nothing of what is before it along', async () => {
  const { cluster, folder } = await killedInFlight()
  appendFileSync(journalOf(folder), Buffer.from('CHB2 and half of a note'))
  await goesOn(cluster, folder)
  expect(valuesOf(cluster)).toEqual(['0', '1', '2', '3'])
})

test('where Kafka no longer goes by the identity, the records go all the same, counted and told', async () => {
  const { cluster, folder } = await killedInFlight()
  cluster.topics.get('events')!.partitions[0]!.refusals.push(45)
  const { producer, fixture } = await goesOn(cluster, folder)
  expect(valuesOf(cluster)).toEqual(['0', '1', '2', '0', '1', '2', '3'])
  expect(producer.stats.possiblyRepeated).toBe(3)
  expect(fixture.logs.lines.filter(({ message }) => message.includes('may be stored twice'))).toHaveLength(1)
})

test('a note that is older than Kafka remembers a producer is counted and told', async () => {
  const { cluster, folder } = await killedInFlight()
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 25 * 3_600_000 })
  const { producer } = await goesOn(cluster, folder)
  expect(producer.stats.possiblyRepeated).toBe(3)
})

test('a batch whose topic was named anew goes to the new topic as new records, counted and told', async () => {
  const { cluster, folder } = await killedInFlight()
  cluster.createTopic('renamed', 1)
  const gateway = new DurableLife(cluster, { folder, topic: 'renamed' })
  await gateway.drained()
  gateway.end()
  expect(cluster.stored('renamed')[0]!.map(({ value }) => value)).toEqual(['0', '1', '2'])
  expect(gateway.producer.stats.possiblyRepeated).toBe(3)
})

/** Marks of an audited partition that do not follow on the one before of the same writer. */
function marksOutOfOrder(log: readonly { readonly headers: Readonly<Record<string, string>> }[]): string[] {
  const last = new Map<string, number>()
  const wrong: string[] = []
  for (const { headers } of log) {
    const mark = Buffer.from(headers['chute-audit']!, 'latin1')
    const writer = mark.toString('hex', 1, 7)
    const sequence = mark.readUIntBE(7, 6)
    if (sequence !== (last.get(writer) ?? -1) + 1) wrong.push(`${writer} ${sequence}`)
    last.set(writer, sequence)
  }
  return wrong
}

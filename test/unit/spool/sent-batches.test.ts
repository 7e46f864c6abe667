import * as fc from 'fast-check'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { seededRandom } from '../../support/fault-run.ts'
import { ModelCluster } from '../../support/model-broker.ts'
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

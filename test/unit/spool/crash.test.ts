import { appendFileSync, readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { FakeInnerProducer } from '../../support/fake-inner-producer.ts'
import { SpoolFixture, type TestRecord } from '../../support/spool-fixture.ts'

/** What happens to a gateway between two crashes. */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('request' as const), records: fc.nat(12) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('settle' as const), batch: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('turns' as const), count: fc.nat(8) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('kafka' as const), isThere: fc.boolean() }) },
)

/** Lives between crashes, and how each ends: what is left of an unfinished write, and garbage of a torn page behind it. */
const life = fc.record({
  steps: fc.array(step, { maxLength: 25 }),
  torn: fc.nat(400),
  garbage: fc.uint8Array({ maxLength: 60 }),
})

/** A power cut: of the newest file, bytes behind what was committed may be missing, or be anything. */
function tear(folder: string, committedBytes: number, torn: number, garbage: Uint8Array): void {
  const last = readdirSync(folder)
    .filter((name) => name.endsWith('.log'))
    .toSorted()
    .at(-1)
  if (last === undefined) return
  const path = join(folder, last)
  const { size } = statSync(path)
  truncateSync(path, Math.max(Math.min(size, committedBytes), size - torn))
  appendFileSync(path, garbage)
}

test('whenever it crashes, no committed record is lost, and each key keeps its order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 4 }), async (lives) => {
      const committed: TestRecord[] = []
      const delivered: string[] = []
      let [next, folder] = [0, new SpoolFixture().folder]
      for (const { steps, torn, garbage } of lives) {
        const inner = new FakeInnerProducer({ bufferMemoryBytes: 8_000, batchRecords: 3 })
        const spool = new SpoolFixture({ folder, inner })
        let isDead = false
        for (const each of steps) {
          if (each.kind === 'kafka') inner.admission = each.isThere ? 'open' : 'not_known_yet'
          else if (each.kind === 'turns') for (let nth = 0; nth < each.count; nth++) await nextTurn()
          else if (each.kind === 'settle') {
            const batch = inner.batches[each.batch]
            if (batch !== undefined) inner.settle(batch)
          } else {
            const records = Array.from({ length: each.records }, () => ({
              key: next % 3 === 0 ? null : 'k'.repeat(next % 3),
              value: String(next++),
            }))
            spool.submit(records, (failure) => {
              if (failure === null && !isDead) committed.push(...records)
            })
          }
          expect(spool.imbalance).toBe(0)
        }
        // The crash: nothing that happens from here on counts.
        const committedBytes = spool.producer.newestSegmentBytes
        folder = spool.copy()
        delivered.push(...inner.values)
        isDead = true
        spool.producer.abort()
        tear(folder, committedBytes, torn, garbage)
      }
      const last = new SpoolFixture({ folder })
      last.inner.acksAtOnce = true
      await last.until(() => last.producer.stats.spooled === 0)
      delivered.push(...last.inner.values)
      expect([...new Set(delivered)]).toEqual(expect.arrayContaining(committed.map(({ value }) => value)))
      for (const key of ['k', 'kk']) {
        const wanted = committed.filter((record) => record.key === key).map(({ value }) => value)
        const first = [...new Set(delivered)].filter((value) => wanted.includes(value))
        expect(first).toEqual(wanted)
      }
      expect(last.producer.stats.dropped.spool_damaged).toBe(0)
    }),
    { numRuns: 60 },
  )
}, 120_000)

import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * Begins with the files that take longest, so that no worker is left alone with one of them at the end. vitest's own order
 * knows how long each file took only where the tests have run before.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = longest.findIndex((file) => moduleId.endsWith(file))
      return place === -1 ? longest.length : place
    }
    return files.toSorted((one, other) => rank(one) - rank(other))
  }
}

/**
 * What takes half a minute and more, or much of the CPU. First come those that a busy machine disturbs most, beside what mostly
 * waits; the many brokers come when these are over.
 */
const longest = [
  'faults/alerts.test.ts',
  'e2e/leaving.test.ts',
  'e2e/sessions.test.ts',
  'e2e/consume-rebalance.test.ts',
  'faults/cluster.test.ts',
  'e2e/workers.test.ts',
  'faults/connection.test.ts',
  'faults/spool-disk.test.ts',
  'faults/chaos.test.ts',
  'faults/critical-broker.test.ts',
  'faults/one-of-three.test.ts',
  'faults/spool-crash.test.ts',
  'faults/exactly-once-kill.test.ts',
  'e2e/kafka-contract-brokers.test.ts',
  'e2e/acked-path.test.ts',
  'e2e/audit-command.test.ts',
  'faults/kill.test.ts',
  'integration/promises.test.ts',
  'integration/dedupe-stores.test.ts',
  'unit/spool/notes.test.ts',
  'unit/spool/names.test.ts',
  'producer/delivery-under-faults.test.ts',
  'at-most-once/sender.test.ts',
  'unit/spool/faulty-disk.test.ts',
]

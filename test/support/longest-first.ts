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

/** Minutes with most of the time spent waiting. */
const longest = [
  'faults/cluster.test.ts',
  'faults/alerts.test.ts',
  'faults/chaos.test.ts',
  'faults/critical-broker.test.ts',
  'faults/one-of-three.test.ts',
  'e2e/workers.test.ts',
  'e2e/leaving.test.ts',
  'e2e/kafka-contract-brokers.test.ts',
  'faults/connection.test.ts',
  'faults/spool-disk.test.ts',
  'e2e/consume-rebalance.test.ts',
  'e2e/rights.test.ts',
]

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
  'faults/fleet.test.ts',
  'e2e/sessions.test.ts',
  'e2e/consume-rebalance.test.ts',
  'e2e/workers.test.ts',
  'faults/cluster.test.ts',
  'faults/spool-disk.test.ts',
  'faults/connection.test.ts',
  'faults/chaos.test.ts',
  'e2e/reload.test.ts',
  'e2e/tls.test.ts',
  'e2e/rights.test.ts',
  'faults/critical-broker.test.ts',
  'e2e/consume-failures.test.ts',
  'e2e/browser-client.test.ts',
  'faults/spool-crash.test.ts',
  'e2e/kafka-contract-brokers.test.ts',
  'e2e/audit-command.test.ts',
  'faults/one-of-three.test.ts',
  'faults/kill.test.ts',
  'e2e/consume-command.test.ts',
  'e2e/examples.test.ts',
  'faults/exactly-once-kill.test.ts',
  'faults/poison.test.ts',
  'faults/shutdown.test.ts',
  'faults/overload.test.ts',
  'faults/stall.test.ts',
  'e2e/acked-path.test.ts',
  'e2e/security.test.ts',
  'e2e/shared-limits.test.ts',
  'faults/spool-outage.test.ts',
  'faults/start.test.ts',
  'integration/dedupe-stores.test.ts',
  'integration/promises.test.ts',
  'unit/spool/notes.test.ts',
  'integration/door.test.ts',
  'integration/connections.test.ts',
  'integration/connections-over-tls.test.ts',
  'integration/command-line.test.ts',
  'integration/docs-page.test.ts',
  'unit/spool/names.test.ts',
  'producer/delivery-under-faults.test.ts',
  'at-most-once/sender.test.ts',
  'unit/spool/faulty-disk.test.ts',
  'producer/unwritable-partitions.test.ts',
]

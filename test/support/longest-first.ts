import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * Files of one project come one after the other, since a process of vitest is used again for the same project alone. Within a project,
 * the files that take longest come first, so that no process is left alone with one of them at the end. vitest's own order
 * knows how long each file took only where the tests have run before.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ project, moduleId }: TestSpecification): number => {
      const place = longest.findIndex((file) => moduleId.endsWith(file))
      return projects.indexOf(project.name) * (longest.length + 1) + (place === -1 ? longest.length : place)
    }
    return files.toSorted((one, other) => rank(one) - rank(other))
  }
}

/** `vitest.config.ts` says which of them run at the same time. */
const projects = ['integration', 'unit', 'faults', 'e2e', 'image']

/** What takes longest in `npm test` or in CI. First come those that need a process for long, whatever the machine does. */
const longest = [
  // It has mocks, which no module of its process may have been read without.
  'integration/promises.test.ts',
  // It gives the file `connections.test.ts` other connections, and so has to be the first that reads it.
  'integration/connections-over-tls.test.ts',
  'integration/connections.test.ts',
  'integration/dedupe-stores.test.ts',
  'integration/command-line.test.ts',
  'integration/door.test.ts',
  'integration/docs-page.test.ts',
  'integration/large-bodies.test.ts',
  'integration/tls.test.ts',
  'producer/delivery-under-faults.test.ts',
  'unit/spool/notes.test.ts',
  'unit/spool/names.test.ts',
  'at-most-once/sender.test.ts',
  'unit/spool/faulty-disk.test.ts',
  'producer/unwritable-partitions.test.ts',
  'unit/bench/micro-bench.test.ts',
  'unit/dev/release.test.ts',
  'unit/events/scan-telemetry.test.ts',
  'unit/metrics/deploy.test.ts',
  'faults/alerts.test.ts',
  'faults/spool-disk.test.ts',
  'faults/cluster.test.ts',
  'faults/fleet.test.ts',
  'faults/spool-crash.test.ts',
  'faults/one-of-three.test.ts',
  'faults/critical-broker.test.ts',
  'faults/connection.test.ts',
  'faults/exactly-once-kill.test.ts',
  'faults/chaos.test.ts',
  'faults/workers-kill.test.ts',
  'faults/kill.test.ts',
  'faults/shutdown.test.ts',
  'faults/overload.test.ts',
  'faults/poison.test.ts',
  'faults/stall.test.ts',
  'e2e/leaving.test.ts',
  'e2e/workers.test.ts',
  'e2e/sessions.test.ts',
  'e2e/consume-rebalance.test.ts',
  'e2e/reload.test.ts',
  'e2e/rights.test.ts',
  'e2e/browser-client.test.ts',
  'e2e/consume-command.test.ts',
  'e2e/tls.test.ts',
  'e2e/doctor.test.ts',
  'e2e/durable-workers.test.ts',
  'e2e/audit-command.test.ts',
  'e2e/consume-failures.test.ts',
  'e2e/browser-matrix.test.ts',
  // Each of the files with a broker of its own and a login that ends runs beside others.
  'e2e/strimzi.test.ts',
  'e2e/examples.test.ts',
  'e2e/chart.test.ts',
  'e2e/shared-limits.test.ts',
  'e2e/oauthbearer.test.ts',
  'e2e/drain.test.ts',
  'e2e/tracing.test.ts',
  'e2e/shipped-package.test.ts',
  'e2e/msk-iam.test.ts',
  'e2e/check-connect.test.ts',
  'e2e/consume-library.test.ts',
  'e2e/kafka-contract-brokers.test.ts',
  'e2e/security.test.ts',
  'e2e/acked-path.test.ts',
  'e2e/live-page.test.ts',
  'e2e/records.test.ts',
  'e2e/keys.test.ts',
  'e2e/main-job.test.ts',
]

import type { TestProject } from 'vitest/node'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** `host:port` of the broker that the whole run shares. */
    kafkaBroker: string
    /** Kafka's jars, for its own tools. */
    kafkaClasspath: string
    /** The log segments of the shared broker. */
    kafkaDataDir: string
  }
}

/**
 * Starts the one real broker that all projects with real brokers share, and stops it after the last of them. Each test has topics of its
 * own. A test that stops, kills or configures a broker starts one of its own.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  // The projects have set-ups of their own, in one process.
  const run = globalThis as { [shared]?: SharedBroker }
  const broker = (run[shared] ??= {
    kafka: startKafka({ onProgress: (text) => process.stderr.write(`${text}\n`) }),
    projects: 0,
  })
  broker.projects++
  const kafka = await broker.kafka
  project.provide('kafkaBroker', kafka.brokers[0]!)
  project.provide('kafkaClasspath', kafka.classpath)
  project.provide('kafkaDataDir', kafka.nodes[0]!.dataDir)
  return async () => {
    if (--broker.projects > 0) return
    delete run[shared]
    await kafka.stop()
  }
}

const shared = Symbol.for('chute.broker')

interface SharedBroker {
  readonly kafka: Promise<LocalKafka>
  /** Those that have not ended. */
  projects: number
}

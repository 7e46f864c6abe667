import type { TestProject } from 'vitest/node'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'

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

/** Starts the one real broker that all end-to-end tests share, and stops it after the last. Each test has topics of its own. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const kafka = await startKafka({ onProgress: (text) => process.stderr.write(`${text}\n`) })
  project.provide('kafkaBroker', kafka.brokers[0]!)
  project.provide('kafkaClasspath', kafka.classpath)
  project.provide('kafkaDataDir', kafka.nodes[0]!.dataDir)
  return async () => await kafka.stop()
}

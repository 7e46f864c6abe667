import type { LocalKafka } from '../../../src/local-kafka/local-kafka.ts'

/** Ends brokers whose data nobody wants any more: at once, and not in the order that would keep it. */
export async function endBrokers(kafka: LocalKafka): Promise<void> {
  await Promise.all(kafka.nodes.map(async (node) => await node.kill('SIGKILL')))
  await kafka.stop()
}

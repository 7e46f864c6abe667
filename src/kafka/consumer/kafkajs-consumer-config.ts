import type { ConsumerConfig as KafkajsConfig } from 'kafkajs'
import type { ConsumerConfig, KafkaConfig } from '../../config/config.ts'

/**
 * A consumer's settings as kafkajs names them.
 * @param mayRestart is asked when kafkajs has given up on an error that may pass, and would begin again.
 */
export function kafkajsConsumerConfig(
  config: ConsumerConfig,
  kafka: KafkaConfig,
  mayRestart: () => Promise<boolean>,
): KafkajsConfig {
  return {
    groupId: config.groupId,
    sessionTimeout: config.sessionTimeoutMs,
    rebalanceTimeout: config.maxPollIntervalMs,
    heartbeatInterval: config.heartbeatIntervalMs,
    minBytes: config.fetchMinBytes,
    maxBytes: config.fetchMaxBytes,
    maxWaitTimeInMs: config.fetchMaxWaitMs,
    maxBytesPerPartition: config.maxPartitionFetchBytes,
    readUncommitted: config.isolationLevel === 'read_uncommitted',
    metadataMaxAge: kafka.metadataMaxAgeMs,
    allowAutoTopicCreation: false,
    retry: { retries: 5, restartOnFailure: mayRestart },
  }
}

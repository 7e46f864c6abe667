import type { Config } from '../config/config.ts'

/**
 * The configuration of one worker. `buffer.memory` is a promise for the whole gateway, so each worker has its part of it.
 * @param options.createTopics false where they were all seen before: one that is missing now was deleted by somebody.
 */
export function shareOf(config: Config, options: { createTopics: boolean }): Config {
  const { topics } = config.kafka
  return {
    ...config,
    kafka: { ...config.kafka, topics: { ...topics, create: topics.create && options.createTopics } },
    streams: config.streams.map((stream) => ({
      ...stream,
      producer: {
        ...stream.producer,
        bufferMemoryBytes: Math.floor(stream.producer.bufferMemoryBytes / config.workers),
      },
    })),
  }
}

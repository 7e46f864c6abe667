import type { ConfigProblem } from './config-error.ts'
import type { Delivery, SpoolConfig } from './config.ts'
import type { StreamUnderTest } from './stream-contradictions.ts'
import type { StreamValues } from './stream-schema.ts'

/** Whether a stream is durable, and how: with a data folder every at-least-once stream is that does not say otherwise. */
export function resolveSpool(
  values: StreamValues,
  context: { delivery: Delivery; hasDataDir: boolean },
): SpoolConfig | null {
  const isDurable = values.durable ?? context.delivery === 'at-least-once'
  if (!isDurable || !context.hasDataDir) return null
  return { fsync: values.fsync ?? true, maxBytes: values['spool.max.bytes'] ?? defaultMaxBytes }
}

/** Finds durability that is asked for and cannot be had, and settings that nothing goes by. */
export function refuseSpoolContradictions(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { path, delivery, hasDataDir, producer, spool, written } = stream
  if (written.durable === true && delivery === 'at-most-once') {
    problems.push({
      path: `${path}.durable`,
      problem:
        'is on for an at-most-once stream: after a crash nobody knows what was sent already, and to send it again is to send it twice',
      remedy: 'Leave it out, or set delivery: at-least-once.',
    })
  } else if (written.durable === true && !hasDataDir) {
    problems.push({
      path: `${path}.durable`,
      problem: 'is on, and there is no folder to keep events in',
      remedy: 'Set CHUTE_DATA_DIR to a folder on a disk that stays, or leave it out.',
    })
  }
  for (const key of ['fsync', 'spool.max.bytes'] as const) {
    if (written[key] === undefined || spool !== null) continue
    const why =
      delivery === 'at-most-once' ? 'at-most-once' : hasDataDir ? 'durable: off' : 'no CHUTE_DATA_DIR'
    problems.push({
      path: `${path}.${key}`,
      problem: `is set for a stream that keeps nothing on disk (${why})`,
      remedy: 'Leave it out, or make the stream durable: delivery: at-least-once, and CHUTE_DATA_DIR.',
    })
  }
  if (spool !== null && spool.maxBytes < producer.bufferMemoryBytes) {
    problems.push({
      path:
        written['spool.max.bytes'] === undefined
          ? `${path}.producer.buffer.memory`
          : `${path}.spool.max.bytes`,
      problem: `makes spool.max.bytes (${spool.maxBytes}) smaller than buffer.memory (${producer.bufferMemoryBytes}): the disk would be full before memory is`,
      remedy: `Raise spool.max.bytes to ${producer.bufferMemoryBytes} at least, or lower buffer.memory.`,
    })
  }
}

/** 4 GiB: an outage of twelve hours at 350 events of 250 bytes a second. */
const defaultMaxBytes = 4 * 1024 ** 3

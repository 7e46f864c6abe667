import type { ConfigProblem } from './config-error.ts'
import type { StreamUnderTest } from './stream-contradictions.ts'

/**
 * `delivery: exactly-once` is at-least-once with everything that keeps a client's retry, a lost answer and a crash of the
 * gateway from making two records of one event: de-duplication, idempotent writes, and a 202 that is on disk. Whatever
 * takes one of them away is refused.
 */
export function refuseLessThanExactlyOnce(stream: StreamUnderTest, problems: ConfigProblem[]): void {
  const { path, written, producer, hasDataDir, dedupe, spool, workers } = stream
  const refuse = (key: string, problem: string, remedy: string): void => {
    problems.push({ path: key === '' ? path : `${path}.${key}`, problem, remedy })
  }
  if (!hasDataDir) {
    const problem = 'is exactly-once, and there is no folder that survives a crash of the gateway'
    refuse('delivery', problem, 'Set CHUTE_DATA_DIR, or delivery: at-least-once.')
  } else if (spool === null) {
    refuse('durable', 'is off, and exactly-once needs a 202 that survives', 'Leave it out.')
  } else if (!spool.fsync) {
    refuse('fsync', 'is off, and exactly-once needs a 202 that survives a power cut', 'Leave it out.')
  }
  if (dedupe === null) {
    const [key, why] =
      written.dedupe === false
        ? ['dedupe', 'is off']
        : ['delivery', `is exactly-once with WORKERS ${workers}`]
    refuse(
      key,
      `${why}, and a client that sends a request again would make a second record`,
      'Leave dedupe out, and WORKERS at 1.',
    )
  }
  for (const key of ['onBufferFull', 'beaconOnBufferFull'] as const) {
    if (written[key] !== 'drop') continue
    refuse(key, 'answers 202 to what it drops, which is not once', 'Set reject or block.')
  }
  if (!producer.enableIdempotence || producer.acks !== -1) {
    const problem = 'is at odds with exactly-once, which needs acks all and idempotent writes'
    refuse(
      written.preset === undefined ? 'producer' : 'preset',
      problem,
      'Leave acks and enable.idempotence out.',
    )
  }
}

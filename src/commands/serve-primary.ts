import type { Config } from '../config/config.ts'
import { WorkerGroup } from '../workers/worker-group.ts'
import { createLogger } from './process-log.ts'
import { logEnd, logStart } from './serve-log.ts'
import { drainDelayMs, StopSignals, type HangUps } from './stop-signals.ts'

/**
 * `chute serve` with `WORKERS` above 1, in the process that was started: the gateway's log, its signals and its exit code.
 * The workers do the work.
 * @returns the exit code, as with one process.
 */
export async function serveAsPrimary(config: Config, hangUps: HangUps): Promise<number> {
  const logger = createLogger(config)
  hangUps.logTo(logger)
  const group = new WorkerGroup(config, logger)
  const signals = new StopSignals()
  let signal: NodeJS.Signals | null = null
  const first = signals.next().then((name) => (signal = name))
  try {
    const listening = await group.start()
    logStart(config, { ...listening, workers: group.workers }, logger)
  } catch (error) {
    await group.abort()
    // Ctrl-C goes to the workers too, and one that has only just been started does not know yet that it is not meant.
    if (signal !== null) return logEnd({ stats: group.stats, lost: 0, interrupted: false }, logger)
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
  const delayMs = drainDelayMs(await first, config)
  logger.info({ signal, drainDelayMs: delayMs, shutdownTimeoutMs: config.shutdownTimeoutMs }, 'draining')
  const delay = delayMs === 0 ? null : signals.pauseUnlessNext(delayMs)
  const drained = group.drain(delay)
  await delay
  const interrupted = signals.next().then(() => 'interrupted' as const)
  const end = await Promise.race([drained, interrupted])
  if (end === 'interrupted') await group.abort()
  const { lost } = await drained
  return logEnd({ stats: group.stats, lost, interrupted: end === 'interrupted' }, logger)
}

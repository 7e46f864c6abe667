import { setTimeout as pause } from 'node:timers/promises'
import type { Gateway, GatewayGroup } from '../app.ts'
import type { Config } from '../config/config.ts'
import type { Logger } from '../logger.ts'
import { DataFolderError } from '../spool/data-folder.ts'

/**
 * Builds a gateway. If a worker of a primary that was killed still has one of the folders that the gateway needs, waits until that worker has
 * ended, for as long as its shutdown may take.
 * @param group null: the gateway has one process.
 * @throws DataFolderError if the data folder cannot be used, or another gateway has it.
 */
export async function buildWhenFree(
  config: Config,
  logger: Logger,
  group: GatewayGroup | null = null,
): Promise<Gateway> {
  // Loaded here, since the primary needs no gateway.
  const { buildGateway } = await import('../app.ts')
  const deadlineMs = performance.now() + config.shutdownTimeoutMs + overtimeMs
  for (let isTold = false; ; isTold = true) {
    try {
      return buildGateway(config, logger, group)
    } catch (error) {
      const isPassing = error instanceof DataFolderError && error.isWorkerInUse
      if (!isPassing || performance.now() > deadlineMs) throw error
      if (!isTold)
        logger.warn(
          { cause: error.message },
          'a worker of an earlier start still has its folder: waiting for its end',
        )
    }
    await pause(lookAgainMs)
  }
}

const lookAgainMs = 50
/** A worker whose primary is gone may take this much longer than its shutdown: for the last scrapes, and for the disk. */
const overtimeMs = 5_000

import { parentPort, workerData } from 'node:worker_threads'
import type { Config } from '../config/config.ts'
import { ConfigRereader } from './reread-config.ts'

/** What the thread of {@link ConfigRereader} starts with. */
export interface ThreadStart {
  /** It is in force. */
  readonly config: Config
  readonly env: NodeJS.ProcessEnv
}

// The thread: reads the files each time that it is told to.
const { config, env } = workerData as ThreadStart
const rereader = new ConfigRereader(config, env)
parentPort!.on('message', (isTaken: boolean) => {
  parentPort!.postMessage(rereader.read(isTaken), [])
})

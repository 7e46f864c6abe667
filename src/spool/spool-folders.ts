import { closeSync } from 'node:fs'
import type { Logger } from '../logger.ts'
import { DataFolder, DataFolderError, toDataFolderError, type StreamFolder } from './data-folder.ts'
import {
  folderOfWorker,
  foldersLeft,
  hasWorkerFolders,
  holdsRecords,
  refuseIfInUse,
  takeLockUnlessInUse,
  type WorkerPlace,
} from './worker-folders.ts'

/**
 * The data folder of a process whose durable streams can come and go, and the folders of workers that are gone, which this process empties.
 * They are taken with the first durable stream, or if they hold something, and kept until the process ends.
 */
export class SpoolFolders {
  /** The data folder of this process; null: there is none, and no stream is durable. */
  readonly path: string | null
  readonly #logger: Logger
  readonly #dataDir: string | null
  readonly #worker: WorkerPlace | null
  #folder: DataFolder | null = null
  #left: readonly DataFolder[] = []

  /**
   * @param place.dataDir `CHUTE_DATA_DIR`; null: there is none.
   * @param place.worker null: the gateway has one process.
   * @param streams the durable streams of the start. If there are any, the folders are taken now.
   * @throws DataFolderError as `DataFolder`, also if there is no durable stream and a folder holds records: nobody would send them.
   */
  constructor(
    place: { readonly dataDir: string | null; readonly worker: WorkerPlace | null },
    streams: { readonly names: readonly string[]; readonly haveHeaders: boolean },
    logger: Logger,
  ) {
    const { dataDir, worker } = place
    this.#dataDir = dataDir
    this.#worker = worker
    this.path = dataDir === null || worker === null ? dataDir : folderOfWorker(dataDir, worker.number)
    this.#logger = logger
    if (streams.names.length > 0 || this.#isAbandoned) this.#open(streams.names, streams.haveHeaders)
  }

  /** Opens the folder of a durable stream, and finds the log in it. @throws DataFolderError */
  stream(name: string): StreamFolder {
    return (this.#folder ?? this.#open([name], false)).stream(name)
  }

  /** As {@link stream}, of workers that are gone and left something of the stream. */
  streamsLeft(name: string): StreamFolder[] {
    return this.#left.filter(({ path }) => holdsRecords(path, name)).map((folder) => folder.stream(name))
  }

  /** The folders hold something that nobody would send. Another gateway that has the folder would send it. */
  get #isAbandoned(): boolean {
    if (this.#dataDir === null || this.path === null) return false
    try {
      if (!holdsRecords(this.path)) return foldersLeft(this.#dataDir, this.#worker).length > 0
    } catch (error) {
      throw toDataFolderError(error, this.path)
    }
    const lockFd = takeLockUnlessInUse(this.path)
    if (lockFd !== null) closeSync(lockFd)
    // A worker of an earlier primary leaves its folder soon, so the start waits for it.
    return lockFd !== null || this.#worker !== null
  }

  #open(names: readonly string[], hasHeaders: boolean): DataFolder {
    if (this.#dataDir === null || this.path === null) throw new DataFolderError('There is no CHUTE_DATA_DIR.')
    // While the primary of a gateway lives, nobody waits for the end of its workers.
    if (this.#worker === null && hasWorkerFolders(this.#dataDir)) refuseIfInUse(this.#dataDir, 'gateway')
    const left = foldersLeft(this.#dataDir, this.#worker)
    const opened: DataFolder[] = []
    try {
      const options = { hasHeaders, ...(this.#worker === null && { workersLeft: left.length > 0 }) }
      const own = new DataFolder(this.path, names, this.#logger, options)
      opened.push(own)
      for (const path of left) opened.push(new DataFolder(path, names, this.#logger))
      for (const path of left) {
        this.#logger.info(
          { path },
          'the folder of a worker that is gone holds records or keys, and is emptied',
        )
      }
      this.#left = opened.slice(1)
      return (this.#folder = own)
    } catch (error) {
      for (const folder of opened) folder.close()
      throw error
    }
  }

  /** See `DataFolder.keepHeaders`. @throws DataFolderError */
  keepHeaders(): void {
    this.#folder?.keepHeaders()
  }

  /** See `DataFolder.closeStream`. */
  closeStream(name: string): void {
    for (const folder of this.#all) folder.closeStream(name)
  }

  /** Lets another process have the folders. */
  close(): void {
    for (const folder of this.#all) folder.close()
  }

  get #all(): readonly DataFolder[] {
    return this.#folder === null ? [] : [this.#folder, ...this.#left]
  }
}

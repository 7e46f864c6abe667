import type { Logger } from '../logger.ts'
import { DataFolder, DataFolderError, type StreamFolder } from './data-folder.ts'

/**
 * The data folder of a gateway whose durable streams can come and go. It is taken with the first durable stream, and kept until
 * the gateway ends.
 */
export class SpoolFolders {
  readonly #path: string | null
  readonly #logger: Logger
  #folder: DataFolder | null = null

  /**
   * @param path `CHUTE_DATA_DIR`; null: there is none, and no stream is durable.
   * @param streams the durable streams of the start. If there are any, the folder is taken now.
   * @throws DataFolderError as `DataFolder`.
   */
  constructor(
    path: string | null,
    streams: { readonly names: readonly string[]; readonly haveHeaders: boolean },
    logger: Logger,
  ) {
    this.#path = path
    this.#logger = logger
    if (path !== null && streams.names.length > 0)
      this.#folder = new DataFolder(path, streams.names, logger, streams.haveHeaders)
  }

  /** Opens the folder of a durable stream, and finds the log in it. @throws DataFolderError */
  stream(name: string): StreamFolder {
    if (this.#path === null) throw new DataFolderError('There is no CHUTE_DATA_DIR.')
    this.#folder ??= new DataFolder(this.#path, [name], this.#logger)
    return this.#folder.stream(name)
  }

  /** See `DataFolder.keepHeaders`. @throws DataFolderError */
  keepHeaders(): void {
    this.#folder?.keepHeaders()
  }

  /** See `DataFolder.closeStream`. */
  closeStream(name: string): void {
    this.#folder?.closeStream(name)
  }

  /** Lets another process have the folder. */
  close(): void {
    this.#folder?.close()
  }
}

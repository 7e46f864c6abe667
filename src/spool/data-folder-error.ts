/** A data folder that the gateway cannot start with: what is wrong, and what would be right. */
export class DataFolderError extends Error {
  override readonly name = 'DataFolderError'

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
  }
}

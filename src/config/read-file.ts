/** Reads a text file. Throws what `fs` throws. */
export type ReadFile = (path: string) => string

/** Why a file could not be read, in words. */
export function describeReadError(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException
  switch (code) {
    case 'ENOENT':
      return 'there is no such file'
    case 'EACCES':
      return 'this process may not read it'
    case 'EISDIR':
      return 'it is a folder'
    default:
      return error instanceof Error ? error.message : String(error)
  }
}

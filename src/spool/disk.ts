import fs from 'node:fs'

/** What the log asks of the disk on its way to a 202, so that a test can make it fail at any step. */
export interface Disk {
  /** Opens a new file for writing, or empties the one that is there. */
  create(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void
  write(
    fd: number,
    buffers: readonly Buffer[],
    position: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void
  /** Waits until the bytes of a file, or the names of a folder, are on the disk and not only with the kernel. */
  sync(fd: number, done: (error: NodeJS.ErrnoException | null) => void): void
  truncate(fd: number, sizeBytes: number, done: (error: NodeJS.ErrnoException | null) => void): void
}

/** The real one. */
export const realDisk: Disk = {
  create: (path, done) => fs.open(path, 'w+', 0o600, done),
  write: (fd, buffers, position, done) => fs.writev(fd, buffers, position, done),
  sync: (fd, done) => fs.fdatasync(fd, done),
  truncate: (fd, sizeBytes, done) => fs.ftruncate(fd, sizeBytes, done),
}

/** Writes all of the buffers: a disk that is getting full takes a part first, and says why at the next attempt. */
export function writeAll(
  disk: Disk,
  fd: number,
  buffers: readonly Buffer[],
  position: number,
  done: (error: NodeJS.ErrnoException | null) => void,
): void {
  disk.write(fd, buffers, position, (error, written) => {
    if (error !== null) return done(error)
    const rest = behind(buffers, written)
    if (rest.length === 0) return done(null)
    if (written === 0) return done(Object.assign(new Error('the disk took nothing'), { code: 'ENOSPC' }))
    writeAll(disk, fd, rest, position + written, done)
  })
}

function behind(buffers: readonly Buffer[], written: number): Buffer[] {
  const rest: Buffer[] = []
  let skip = written
  for (const buffer of buffers) {
    if (skip < buffer.length) rest.push(buffer.subarray(skip))
    skip = Math.max(0, skip - buffer.length)
  }
  return rest
}

import fs from 'node:fs'

/** Is called when a call to the disk has ended. */
export type DiskDone = (error: NodeJS.ErrnoException | null) => void

/**
 * Everything that the spool asks of the disk. It is a port, so that a test can make the disk fail, hang or forget at any step.
 * DESIGN.md has the crash model: what each call promises, and what a power cut may undo. Arguments are in the order of POSIX.
 *
 * A call with a callback never blocks the gateway, and may never end. A call whose name ends in `Now` waits for the disk: it is
 * made at start, before anything listens, and never later.
 */
export interface Disk {
  /** Creates a file for reading and writing. Fails with EEXIST if the name is taken. */
  create(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void
  /** Opens an existing file for reading and writing. */
  open(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void
  /** Reads from a position of the file on, up to the buffer's length. Fewer bytes are no error. */
  read(
    fd: number,
    buffer: Buffer,
    position: number,
    done: (error: NodeJS.ErrnoException | null, read: number) => void,
  ): void
  /** Writes buffers one after the other. Fewer bytes than there are are no error: see {@link writeAll}. */
  write(
    fd: number,
    buffers: readonly Buffer[],
    position: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void
  /** Waits until the bytes and the size of a file, or the names of a folder, are on the disk and not only with the kernel. */
  sync(fd: number, done: DiskDone): void
  truncate(fd: number, sizeBytes: number, done: DiskDone): void
  close(fd: number, done: DiskDone): void
  rename(from: string, to: string, done: DiskDone): void
  /** Removes a file. That the file is not there is no error. */
  remove(path: string, done: DiskDone): void

  /** The names in a folder, and whether each is a file. */
  listNow(folder: string): FolderEntry[]
  /** Opens a file for reading (`r`) or for reading and writing (`r+`), or a folder for {@link sync} (`r`). */
  openNow(path: string, mode: 'r' | 'r+'): number
  statNow(fd: number): { readonly sizeBytes: number; readonly modifiedMs: number }
  readNow(fd: number, buffer: Buffer, position: number): number
  /** Writes to a position of the file. @returns how many bytes were written, which may be fewer than there are. */
  writeNow(fd: number, buffer: Buffer, position: number): number
  /** As {@link sync}. */
  syncNow(fd: number): void
  closeNow(fd: number): void
}

/** See {@link Disk.listNow}. */
export interface FolderEntry {
  readonly name: string
  readonly isFile: boolean
}

/** The disk of the machine. */
export const realDisk: Disk = {
  create: (path, done) => fs.open(path, 'wx+', 0o600, done),
  open: (path, done) => fs.open(path, 'r+', done),
  read: (fd, buffer, position, done) =>
    fs.read(fd, buffer, 0, buffer.length, position, (error, read) => done(error, read)),
  write: (fd, buffers, position, done) => fs.writev(fd, buffers, position, done),
  sync: (fd, done) => fs.fdatasync(fd, done),
  truncate: (fd, sizeBytes, done) => fs.ftruncate(fd, sizeBytes, done),
  close: (fd, done) => fs.close(fd, (error) => done(error ?? null)),
  rename: (from, to, done) => fs.rename(from, to, done),
  remove: (path, done) => fs.unlink(path, (error) => done(error?.code === 'ENOENT' ? null : error)),

  listNow: (folder) =>
    fs.readdirSync(folder).map((name) => {
      const stat = fs.statSync(`${folder}/${name}`, { throwIfNoEntry: false })
      return { name, isFile: stat?.isFile() ?? false }
    }),
  openNow: (path, mode) => fs.openSync(path, mode),
  statNow(fd) {
    const { size, mtimeMs } = fs.fstatSync(fd)
    return { sizeBytes: size, modifiedMs: mtimeMs }
  },
  readNow: (fd, buffer, position) => fs.readSync(fd, buffer, 0, buffer.length, position),
  writeNow: (fd, buffer, position) => fs.writeSync(fd, buffer, 0, buffer.length, position),
  syncNow: (fd) => fs.fdatasyncSync(fd),
  closeNow: (fd) => fs.closeSync(fd),
}

/** Writes all of the buffers. A disk that gets full takes a part of them first, and tells the error at the next write. */
export function writeAll(disk: Disk, { fd, buffers, position }: Write, done: DiskDone): void {
  disk.write(fd, buffers, position, (error, written) => {
    if (error !== null) return done(error)
    const rest = behind(buffers, written)
    if (rest.length === 0) return done(null)
    if (written === 0) return done(Object.assign(new Error('the disk took nothing'), { code: 'ENOSPC' }))
    writeAll(disk, { fd, buffers: rest, position: position + written }, done)
  })
}

/** What is written, and where. */
interface Write {
  readonly fd: number
  readonly buffers: readonly Buffer[]
  readonly position: number
}

/** Closes a file without waiting for the end of the call: what had to be on disk was synced before. */
export function letGo(disk: Disk, fd: number): void {
  disk.close(fd, ignored)
}

/** For calls whose end nobody needs to know. */
export function ignored(): void {}

/** The bytes of the buffers that are behind the first `written` ones. */
function behind(buffers: readonly Buffer[], written: number): Buffer[] {
  const rest: Buffer[] = []
  let skip = written
  for (const buffer of buffers) {
    if (skip < buffer.length) rest.push(buffer.subarray(skip))
    skip = Math.max(0, skip - buffer.length)
  }
  return rest
}

import { basename } from 'node:path'
import type { Disk, DiskDone } from '../../src/spool/disk.ts'

/**
 * The disk of one machine, in memory, under a virtual clock. It keeps bytes and names apart, and it keeps synced changes apart from the others.
 * A power cut may take any of the changes that are not synced, in any order, as POSIX allows. The disk outlives the processes that use it. A file
 * is identified by its name and the name of its folder, so folders have no folders in them.
 *
 * `faulty-disk.ts` is the other disk of the tests: one folder and one process, with a fault in any single call. This disk has the folders of
 * whole gateways, and several processes in turn.
 */
export class ModelDisk {
  /** Every call fails with this code, a write after a part of it; null: none does. */
  failure: 'EIO' | 'ENOSPC' | null = null
  readonly #folders = new Map<string, Folder>()
  readonly #random: () => number
  /** Calls that wait for the disk to move again. */
  #held: (() => void)[] = []
  #isHung = false

  constructor(random: () => number) {
    this.#random = random
  }

  /** From now on no call ends, until it is false again. */
  set isHung(isHung: boolean) {
    this.#isHung = isHung
    if (!isHung) for (const each of this.#held.splice(0)) each()
  }

  /** What a process has of it. */
  open(): ProcessDisk {
    return new ProcessDisk(this, this.#random)
  }

  /** The power goes: each thing that was not synced is there or is not. */
  cutPower(): void {
    for (const folder of this.#folders.values()) folder.cutPower(this.#random)
  }

  /** @internal Does something some time from now, or fails. */
  run(work: () => void): void {
    const due = (): void => {
      if (this.#isHung) this.#held.push(due)
      else work()
    }
    setTimeout(due, 0.2 + this.#random() * 0.6)
  }

  /** @internal */
  folder(path: string): Folder {
    const name = basename(path)
    const found = this.#folders.get(name) ?? new Folder()
    this.#folders.set(name, found)
    return found
  }
}

/** The view of one process on the disk. Its file descriptors end with the process. Calls that are under way then may still have their effect. */
export class ProcessDisk implements Disk {
  /** The process is gone. */
  isOver = false
  readonly #disk: ModelDisk
  readonly #random: () => number
  readonly #open = new Map<number, File | Folder>()
  #ownFds = new Set<number>()

  constructor(disk: ModelDisk, random: () => number) {
    this.#disk = disk
    this.#random = random
  }

  /** Whose a file descriptor is. */
  has(fd: number): boolean {
    return this.#ownFds.has(fd)
  }

  /** @inheritdoc */
  create(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void {
    this.#call(
      (error) => done(error, -1),
      () => {
        const folder = this.#folderOf(path)
        if (folder.names.has(basename(path))) throw failed('EEXIST')
        const file = new File()
        folder.set(basename(path), file)
        return () => done(null, this.#newFd(file))
      },
    )
  }

  /** @inheritdoc */
  open(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void {
    this.#call(
      (error) => done(error, -1),
      () => {
        const file = this.#folderOf(path).names.get(basename(path))
        if (file === undefined) throw failed('ENOENT')
        return () => done(null, this.#newFd(file))
      },
    )
  }

  /** @inheritdoc */
  read(
    fd: number,
    buffer: Buffer,
    position: number,
    done: (error: NodeJS.ErrnoException | null, read: number) => void,
  ): void {
    this.#call(
      (error) => done(error, 0),
      () => {
        const read = this.#file(fd).read(buffer, position)
        return () => done(null, read)
      },
    )
  }

  /** @inheritdoc A disk that fails takes a part first. */
  write(
    fd: number,
    buffers: readonly Buffer[],
    position: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void {
    const bytes = Buffer.concat(buffers)
    const fail = (error: NodeJS.ErrnoException): void => done(error, 0)
    this.#call(
      (error) => {
        if (!this.isOver && this.#open.has(fd) && this.#random() < 0.5)
          this.#file(fd).write(bytes.subarray(0, bytes.length * this.#random()), position)
        fail(error)
      },
      () => {
        const takes = this.#random() < 0.2 ? Math.ceil(bytes.length * this.#random()) : bytes.length
        this.#file(fd).write(bytes.subarray(0, takes), position)
        return () => done(null, takes)
      },
    )
  }

  /** @inheritdoc After a sync that fails, the kernel never writes some of the changes. */
  sync(fd: number, done: DiskDone): void {
    this.#call(
      (error) => {
        const target = this.#open.get(fd)
        if (target instanceof File) target.forgetDirty(this.#random)
        done(error)
      },
      () => {
        this.#target(fd).sync()
        return () => done(null)
      },
    )
  }

  /** @inheritdoc */
  truncate(fd: number, sizeBytes: number, done: DiskDone): void {
    this.#call(done, () => {
      this.#file(fd).truncate(sizeBytes)
      return () => done(null)
    })
  }

  /** @inheritdoc */
  close(fd: number, done: DiskDone): void {
    this.#call(done, () => {
      this.#target(fd)
      this.#open.delete(fd)
      return () => done(null)
    })
  }

  /** @inheritdoc */
  rename(from: string, to: string, done: DiskDone): void {
    this.#call(done, () => {
      const [source, target] = [this.#folderOf(from), this.#folderOf(to)]
      const file = source.names.get(basename(from))
      if (file === undefined) throw failed('ENOENT')
      if (source !== target) throw failed('EXDEV')
      source.rename(basename(from), basename(to))
      return () => done(null)
    })
  }

  /** @inheritdoc */
  remove(path: string, done: DiskDone): void {
    this.#call(done, () => {
      this.#folderOf(path).set(basename(path), null)
      return () => done(null)
    })
  }

  /** @inheritdoc */
  listNow(folder: string): { name: string; isFile: boolean }[] {
    return [...this.#disk.folder(folder).names.keys()].map((name) => ({ name, isFile: true }))
  }

  /** @inheritdoc */
  openNow(path: string): number {
    const file = this.#folderOf(path).names.get(basename(path))
    // A folder is opened by its own path.
    return this.#newFd(file ?? this.#disk.folder(path))
  }

  /** @inheritdoc */
  statNow(fd: number): { readonly sizeBytes: number; readonly modifiedMs: number } {
    const { sizeBytes, modifiedMs } = this.#file(fd)
    return { sizeBytes, modifiedMs }
  }

  /** @inheritdoc */
  readNow(fd: number, buffer: Buffer, position: number): number {
    return this.#file(fd).read(buffer, position)
  }

  /** @inheritdoc */
  writeNow(fd: number, buffer: Buffer, position: number): number {
    this.#file(fd).write(buffer, position)
    return buffer.length
  }

  /** @inheritdoc */
  syncNow(fd: number): void {
    this.#target(fd).sync()
  }

  /** @inheritdoc */
  closeNow(fd: number): void {
    this.#open.delete(fd)
  }

  /** A call. It has its effect when it ends. If the process ends before, it has its effect then or never. */
  #call(fail: (error: NodeJS.ErrnoException) => void, act: () => () => void): void {
    if (this.isOver) return
    this.#disk.run(() => {
      if (this.isOver && this.#random() < 0.5) return
      let done: () => void
      try {
        if (this.#disk.failure !== null) throw failed(this.#disk.failure)
        done = act()
      } catch (error) {
        done = () => fail(error as NodeJS.ErrnoException)
      }
      if (!this.isOver) done()
    })
  }

  #folderOf(path: string): Folder {
    return this.#disk.folder(path.slice(0, path.lastIndexOf('/')))
  }

  #newFd(target: File | Folder): number {
    const fd = nextFd++
    this.#ownFds.add(fd)
    this.#open.set(fd, target)
    return fd
  }

  #target(fd: number): File | Folder {
    const found = this.#open.get(fd)
    if (found === undefined) throw failed('EBADF')
    return found
  }

  #file(fd: number): File {
    const found = this.#target(fd)
    if (!(found instanceof File)) throw failed('EISDIR')
    return found
  }
}

/** Bytes: as the kernel has them, and as the disk does. */
class File {
  #bytes = Buffer.alloc(0)
  /** The bytes that the disk has since the last sync, and the bytes that it may have. */
  #synced = Buffer.alloc(0)
  modifiedMs = Date.now()

  get sizeBytes(): number {
    return this.#bytes.length
  }

  read(buffer: Buffer, position: number): number {
    return this.#bytes.copy(buffer, 0, position, position + buffer.length)
  }

  write(bytes: Buffer, position: number): void {
    const grown = Buffer.alloc(Math.max(this.#bytes.length, position + bytes.length))
    this.#bytes.copy(grown)
    bytes.copy(grown, position)
    this.#bytes = grown
    this.modifiedMs = Date.now()
  }

  truncate(sizeBytes: number): void {
    const cut = Buffer.alloc(sizeBytes)
    this.#bytes.copy(cut, 0, 0, sizeBytes)
    this.#bytes = cut
  }

  sync(): void {
    this.#synced = Buffer.from(this.#bytes)
  }

  /** After a sync that failed, the kernel takes the bytes that it could not write for written. */
  forgetDirty(random: () => number): void {
    this.#synced = this.#mixed(random)
  }

  cutPower(random: () => number): void {
    this.#bytes = this.#mixed(random)
    this.#synced = Buffer.from(this.#bytes)
  }

  /** Each block is as it was at the last sync or as it is now; so is the size. */
  #mixed(random: () => number): Buffer<ArrayBuffer> {
    const size = random() < 0.5 ? this.#bytes.length : this.#synced.length
    const mixed = Buffer.alloc(size)
    for (let at = 0; at < size; at += blockBytes) {
      const source = random() < 0.5 ? this.#bytes : this.#synced
      if (at < source.length) source.copy(mixed, at, at, Math.min(at + blockBytes, source.length))
    }
    return mixed
  }
}

/** Names: as the kernel has them, and as the disk does. */
class Folder {
  names = new Map<string, File>()
  #synced = new Map<string, File>()
  /** Since the last sync, in order: each happens as a whole or not at all. */
  #changes: ((names: Map<string, File>) => void)[] = []

  set(name: string, file: File | null): void {
    this.#change((names) => {
      if (file === null) names.delete(name)
      else names.set(name, file)
    })
  }

  rename(from: string, to: string): void {
    const file = this.names.get(from)!
    this.#change((names) => {
      if (names.get(from) === file) names.delete(from)
      names.set(to, file)
    })
  }

  sync(): void {
    this.#synced = new Map(this.names)
    this.#changes = []
  }

  cutPower(random: () => number): void {
    for (const change of this.#changes) if (random() < 0.5) change(this.#synced)
    this.names = new Map(this.#synced)
    this.#changes = []
    for (const file of this.names.values()) file.cutPower(random)
  }

  #change(change: (names: Map<string, File>) => void): void {
    change(this.names)
    this.#changes.push(change)
  }
}

function failed(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`the disk says ${code}`), { code })
}

let nextFd = 1_000
/** What a disk writes as a whole. */
const blockBytes = 512

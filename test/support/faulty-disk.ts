import { basename } from 'node:path'
import type { Disk, DiskDone, FolderEntry } from '../../src/spool/disk.ts'

/** A number from 0 to below 1, and the next one at each call. */
export type Random = () => number

/** How often calls go wrong, each from 0 to 1. */
export interface Faults {
  /** A call tells of an error. It may have had its effect, or a part of it, all the same. */
  readonly fail: number
  /** A write takes a part, which is no error. */
  readonly short: number
  /** A call never ends. */
  readonly hang: number
}

export const noFaults: Faults = { fail: 0, short: 0, hang: 0 }

/**
 * A disk in memory, by the crash model of DESIGN.md. It keeps names and bytes apart, and each of them twice: as the kernel has them, and as they
 * are on the disk. Calls that are under way end in any order. A sync brings the effects of all calls that had ended before it to the disk. A sync
 * that fails leaves some of these effects only with the kernel, for good, as clean pages. Of all other effects, a power cut keeps any sectors, and
 * any changes of names. `model-disk.ts` is the other disk of the tests, for whole gateways.
 */
export class FaultyDisk implements Disk {
  readonly #random: Random
  readonly #names: Map<string, Inode>
  readonly #durableNames: Map<string, Inode>
  #nameChanges: NameChange[]
  readonly #open = new Map<number, Inode | 'folder'>()
  #nextFd = 100
  #isDead = false
  readonly #underWay = new Set<() => void>()
  faults = noFaults
  /** Calls that told of an error or never ended. */
  injected = 0
  /** Names that were given to new files. */
  readonly created: string[] = []

  constructor(
    random: Random,
    from: { names: Map<string, Inode>; durable: Map<string, Inode>; changes: NameChange[] } | null = null,
  ) {
    this.#random = random
    this.#names = from?.names ?? new Map()
    this.#durableNames = from?.durable ?? new Map()
    this.#nameChanges = from?.changes ?? []
  }

  /** The process is killed. Any of the calls that are under way take effect. The kernel keeps everything that it has. */
  kill(): FaultyDisk {
    this.#die()
    return new FaultyDisk(this.#random, {
      names: this.#names,
      durable: this.#durableNames,
      changes: this.#nameChanges,
    })
  }

  /** As after syncs that failed and wrote nothing: the kernel takes all bytes that are not on the disk for clean. */
  takeForClean(): void {
    for (const inode of this.#names.values()) inode.changes = []
  }

  /** The power is cut. What is on the disk stays, and any part of what was on its way to the disk. */
  cutPower(): FaultyDisk {
    this.#die()
    const names = new Map(this.#durableNames)
    for (const change of this.#nameChanges) if (this.#random() < 0.5) applyChange(names, change)
    const copies = new Map<Inode, Inode>()
    for (const [name, inode] of names) {
      const copy = copies.get(inode) ?? inode.afterPowerCut(this.#random)
      copies.set(inode, copy)
      names.set(name, copy)
    }
    return new FaultyDisk(this.#random, { names, durable: new Map(names), changes: [] })
  }

  /** The names that the kernel has, in order. */
  get names(): string[] {
    return [...this.#names.keys()].toSorted()
  }

  create(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void {
    const name = basename(path)
    this.#call(
      () => {
        if (this.#names.has(name)) throw failure('EEXIST')
        const inode = new Inode()
        this.#changeName({ name, inode })
        this.created.push(name)
        return this.#opened(inode)
      },
      (error, fd) => done(error, fd ?? -1),
    )
  }

  open(path: string, done: (error: NodeJS.ErrnoException | null, fd: number) => void): void {
    this.#call(
      () => this.#opened(this.#named(path)),
      (error, fd) => done(error, fd ?? -1),
    )
  }

  read(
    fd: number,
    buffer: Buffer,
    position: number,
    done: (error: NodeJS.ErrnoException | null, read: number) => void,
  ): void {
    this.#call(
      () => this.#file(fd).bytes.copy(buffer, 0, position),
      (error, read) => done(error, read ?? 0),
    )
  }

  write(
    fd: number,
    buffers: readonly Buffer[],
    position: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void {
    const all = Buffer.concat(buffers)
    const isShort = this.#random() < this.faults.short
    const part = Math.floor(this.#random() * all.length)
    this.#call(
      () => {
        const bytes = isShort ? all.subarray(0, part) : all
        this.#file(fd).change({ position, bytes })
        return bytes.length
      },
      (error, written) => done(error, written ?? 0),
      // An error in the middle of it.
      () => this.#file(fd).change({ position, bytes: all.subarray(0, part) }),
    )
  }

  sync(fd: number, done: DiskDone): void {
    const what = this.#what(fd)
    const [names, bytes] = what === 'folder' ? [this.#nameChanges.slice(), []] : [[], what.changes.slice()]
    this.#call(
      () => {
        if (what === 'folder') this.#keepNames(names)
        else what.keep(bytes)
      },
      done,
      () => what !== 'folder' && what.keepSome(bytes, this.#random),
    )
  }

  truncate(fd: number, sizeBytes: number, done: DiskDone): void {
    this.#call(() => this.#file(fd).change({ sizeBytes }), done)
  }

  close(fd: number, done: DiskDone): void {
    this.#call(() => this.#open.delete(fd), done)
  }

  rename(from: string, to: string, done: DiskDone): void {
    this.#call(
      () => this.#changeName({ name: basename(to), inode: this.#named(from), from: basename(from) }),
      done,
    )
  }

  remove(path: string, done: DiskDone): void {
    this.#call(() => {
      if (this.#names.has(basename(path))) this.#changeName({ name: basename(path), inode: null })
    }, done)
  }

  listNow(): FolderEntry[] {
    return this.names.map((name) => ({ name, isFile: true }))
  }

  openNow(path: string): number {
    return this.#opened(path === faultyFolder ? 'folder' : this.#named(path))
  }

  statNow(fd: number): { sizeBytes: number; modifiedMs: number } {
    return { sizeBytes: this.#file(fd).bytes.length, modifiedMs: Infinity }
  }

  readNow(fd: number, buffer: Buffer, position: number): number {
    return this.#file(fd).bytes.copy(buffer, 0, position)
  }

  writeNow(fd: number, buffer: Buffer, position: number): number {
    this.#file(fd).change({ position, bytes: Buffer.from(buffer) })
    return buffer.length
  }

  syncNow(fd: number): void {
    const what = this.#what(fd)
    if (what === 'folder') this.#keepNames(this.#nameChanges.slice())
    else what.keep(what.changes.slice())
  }

  closeNow(fd: number): void {
    this.#open.delete(fd)
  }

  /** @param halfWay what a call may have done that tells of an error. */
  #call<Result>(
    effect: () => Result,
    done: (error: NodeJS.ErrnoException | null, result?: Result) => void,
    halfWay?: () => unknown,
  ): void {
    if (this.#isDead) return
    const dice = this.#random()
    const { fail, hang } = this.faults
    const isFailing = dice < fail
    const isHanging = !isFailing && dice < fail + hang
    if (isFailing || isHanging) this.injected++
    let turns = Math.floor(this.#random() * 4)
    const take = (): void => {
      if (!this.#underWay.has(take)) return
      if (turns-- > 0) return void setImmediate(take)
      this.#underWay.delete(take)
      let result: Result | undefined
      let error: NodeJS.ErrnoException | null = null
      try {
        if (!isFailing && !isHanging) result = effect()
        else {
          const how = this.#random()
          if (how < 0.3) effect()
          else if (how < 0.7) halfWay?.()
          error = failure('EIO')
        }
      } catch (thrown) {
        error = thrown as NodeJS.ErrnoException
      }
      if (!this.#isDead && !isHanging) done(error, result)
    }
    this.#underWay.add(take)
    setImmediate(take)
  }

  #die(): void {
    this.#isDead = true
    const underWay = Array.from(this.#underWay)
    this.#underWay.clear()
    for (const take of underWay) {
      if (this.#random() < 0.5) continue
      this.#underWay.add(take)
      // The process is dead: the call takes effect, and its callback is not called.
      for (let turn = 0; this.#underWay.has(take) && turn < 10; turn++) take()
      this.#underWay.delete(take)
    }
  }

  #changeName(change: NameChange): void {
    applyChange(this.#names, change)
    this.#nameChanges.push(change)
  }

  #keepNames(changes: readonly NameChange[]): void {
    for (const change of this.#nameChanges)
      if (changes.includes(change)) applyChange(this.#durableNames, change)
    this.#nameChanges = this.#nameChanges.filter((change) => !changes.includes(change))
  }

  #named(path: string): Inode {
    const inode = this.#names.get(basename(path))
    if (inode === undefined) throw failure('ENOENT')
    return inode
  }

  #opened(what: Inode | 'folder'): number {
    this.#open.set(this.#nextFd, what)
    return this.#nextFd++
  }

  #what(fd: number): Inode | 'folder' {
    const what = this.#open.get(fd)
    if (what === undefined) throw failure('EBADF')
    return what
  }

  #file(fd: number): Inode {
    const what = this.#what(fd)
    if (what === 'folder') throw failure('EISDIR')
    return what
  }
}

/** The only folder of the disk. */
export const faultyFolder = '/spool'

/** The bytes of a file, as the kernel has them, and as they are on the disk. */
class Inode {
  bytes: Buffer = Buffer.alloc(0)
  durable: Buffer = Buffer.alloc(0)
  /** What is not on the disk yet, oldest first. */
  changes: ByteChange[] = []

  change(change: ByteChange): void {
    this.bytes = applied(this.bytes, change)
    this.changes.push(change)
  }

  keep(changes: readonly ByteChange[]): void {
    for (const change of this.changes)
      if (changes.includes(change)) this.durable = applied(this.durable, change)
    this.changes = this.changes.filter((change) => !changes.includes(change))
  }

  /** After a failed sync, some is on the disk, some still on its way, and some is taken for clean and never gets there. */
  keepSome(changes: readonly ByteChange[], random: Random): void {
    for (const change of changes) {
      const how = random()
      if (how < 0.4) this.keep([change])
      else if (how < 0.7 && !('sizeBytes' in change))
        this.changes = this.changes.filter((each) => each !== change)
    }
  }

  afterPowerCut(random: Random): Inode {
    let bytes = this.durable
    for (const change of this.changes) {
      if ('sizeBytes' in change) {
        if (random() < 0.5) bytes = applied(bytes, change)
        continue
      }
      // A cut in the middle of the run of sectors is as likely as any sector for itself.
      const [end, chance] = random() < 0.5 ? [random() * change.bytes.length, 1] : [change.bytes.length, 0.5]
      for (let from = 0; from < end; from += sectorBytes) {
        if (random() > chance) continue
        const sector = change.bytes.subarray(from, from + sectorBytes)
        bytes = applied(bytes, { position: change.position + from, bytes: sector })
      }
    }
    const inode = new Inode()
    inode.bytes = inode.durable = bytes
    return inode
  }
}

type ByteChange = { readonly position: number; readonly bytes: Buffer } | { readonly sizeBytes: number }

/** A name is given to a file, taken from one (null), or goes over from another name. */
interface NameChange {
  readonly name: string
  readonly inode: Inode | null
  readonly from?: string
}

function applied(bytes: Buffer, change: ByteChange): Buffer {
  const size =
    'sizeBytes' in change ? change.sizeBytes : Math.max(bytes.length, change.position + change.bytes.length)
  const result = Buffer.alloc(size)
  bytes.copy(result)
  if (!('sizeBytes' in change)) change.bytes.copy(result, change.position)
  return result
}

function applyChange(names: Map<string, Inode>, { name, inode, from }: NameChange): void {
  if (from !== undefined) names.delete(from)
  if (inode === null) names.delete(name)
  else names.set(name, inode)
}

function failure(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code })
}

/** Small, so that most writes have several. */
const sectorBytes = 64

/** As good as any, and the same for a seed (mulberry32). */
export function randomOf(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import { totalmem } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Config } from '../config/config.ts'
import { ephemeralFolder } from '../spool/ephemeral-folder.ts'
import { reasonOfFolder } from '../spool/data-folder.ts'
import { topicsOf } from '../kafka/producers.ts'
import { type Diagnosis, failure, fine, sizeOf, warning } from './diagnosis.ts'

/** Looks at this machine, as far as a gateway depends on it: descriptors, memory and the data folder. The files that it makes are gone again. */
export function lookAtMachine(config: Config): Diagnosis[] {
  return [judgeDescriptors(config, readDescriptorLimit()), ...lookAtMemory(config), ...lookAtFolder(config)]
}

/**
 * Whether a process may open as many files and connections as it needs: a connection a client, a stream and a broker (docs/deploy.md).
 * @param limit `ulimit -n`; null: there is none.
 */
export function judgeDescriptors(config: Config, limit: number | null): Diagnosis {
  const name = 'descriptors'
  const { connections } = config.http.bounds
  const [workers, brokers] = [config.workers, config.kafka.brokers.length]
  const topics = config.streams.flatMap(topicsOf).length
  const durable = config.streams.filter(({ spool }) => spool !== null).length
  const own = ownDescriptors + topics * brokers + 3 * durable
  const perProcess = Math.ceil(connections / workers)
  if (limit === null) return fine(name, 'a process may open any number of files and connections')
  const said = `a process may open ${limit} files and connections. It needs ${own}, and one more for each client's connection`
  if (limit >= own + perProcess)
    return fine(
      name,
      `${said}: MAX_CONNECTIONS is ${connections}${workers > 1 ? ` for ${workers} workers` : ''}`,
    )
  const least = own + Math.min(perProcess, fewClients)
  const left = Math.max(1, limit - own) * workers
  const remedy = `Raise the limit to ${own + perProcess} or more (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of a container)${limit < least ? '.' : `, or set MAX_CONNECTIONS to ${left} or less.`}`
  const detail = `${said}, and MAX_CONNECTIONS lets in ${connections}`
  return limit < least ? failure(name, detail, remedy) : warning(name, detail, remedy)
}

/** `ulimit -n`. Node has raised the soft limit to the hard one at its start. */
function readDescriptorLimit(): number | null {
  // The names of connected hosts are not needed, and would be asked for.
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean }
  report.excludeNetwork = true
  const { userLimits } = report.getReport() as {
    userLimits?: { open_files?: { soft: number | 'unlimited' } }
  }
  const soft = userLimits?.open_files?.soft
  return typeof soft === 'number' ? soft : null
}

function lookAtMemory(config: Config): Diagnosis[] {
  const limitBytes = process.constrainedMemory()
  if (limitBytes === 0 || limitBytes === undefined || limitBytes > totalmem()) return []
  return [judgeMemory(config, limitBytes)]
}

/** Whether the memory that the container gives is enough while Kafka is away and all buffers are full. */
export function judgeMemory({ streams, workers }: Config, limitBytes: number): Diagnosis {
  const buffersBytes = streams.reduce((sum, { producer }) => sum + producer.bufferMemoryBytes, 0)
  const processes = workers > 1 ? workers + 1 : 1
  const neededBytes = processes * baseMemoryBytes + buffersBytes
  const detail = `${sizeOf(limitBytes)} for this container. A gateway needs up to ${sizeOf(neededBytes)} while Kafka is away: ${sizeOf(buffersBytes)} of buffer.memory, and ${sizeOf(baseMemoryBytes)} a process`
  return neededBytes <= limitBytes
    ? fine('memory', detail)
    : warning('memory', detail, 'Raise the limit of the container, or lower buffer.memory of the streams.')
}

/** Tries the data folder: whether this user may write there, what file system it is on, and how much room is left. */
function lookAtFolder(config: Config): Diagnosis[] {
  const { dataDir, streams } = config
  const durable = streams.filter(({ spool }) => spool !== null)
  if (dataDir === null) {
    const critical = streams.filter(({ delivery }) => delivery === 'at-least-once').length
    return critical === 0
      ? []
      : [fine('data folder', 'CHUTE_DATA_DIR is not set, so no 202 survives the gateway')]
  }
  const name = `data folder ${dataDir}`
  const found = nearest(resolve(dataDir))
  const isThere = found === resolve(dataDir)
  let syncMs: number
  try {
    syncMs = tryFolder(found, isThere)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const { what, remedy } = reasonOfFolder(code) ?? { what: message, remedy: null }
    return [
      failure(
        name,
        isThere ? `${what} (${code})` : `it is not there, and ${found}: ${what} (${code})`,
        remedy,
      ),
    ]
  }
  const { blocks, bavail, bsize, files, ffree } = fs.statfsSync(found)
  // As `/proc` is. Others tell 0 of one of them where there is no limit.
  if (blocks === 0 && files === 0)
    return [
      failure(
        name,
        `the file system of ${found} has no room for files`,
        'Name a folder on a disk as CHUTE_DATA_DIR.',
      ),
    ]
  const maxBytes = durable.reduce((sum, { spool }) => sum + (spool?.maxBytes ?? 0), 0)
  const fleeting = config.dataDirEphemeral ? null : ephemeralFolder(dataDir)
  return [
    judgeRoom(name, {
      freeBytes: bavail * bsize,
      usedBytes: isThere ? sizeOfTree(found) : 0,
      maxBytes,
      freeFiles: files === 0 ? Infinity : ffree,
      syncMs,
      isThere,
    }),
    ...(fleeting !== null && durable.length > 0
      ? [
          warning(
            name,
            `it is on ${fleeting.fileSystem} and goes with ${fleeting.goesWith}, so no 202 says durable`,
            'Mount a volume there, or set CHUTE_DATA_DIR_EPHEMERAL=true to have it called durable all the same.',
          ),
        ]
      : []),
  ]
}

/** Judges a data folder that can be written to. `usedBytes` is what the spools take now, and `maxBytes` what they may take. */
export function judgeRoom(
  name: string,
  room: {
    readonly freeBytes: number
    readonly usedBytes: number
    readonly maxBytes: number
    readonly freeFiles: number
    readonly syncMs: number
    readonly isThere: boolean
  },
): Diagnosis {
  const { freeBytes, usedBytes, maxBytes, freeFiles, syncMs, isThere } = room
  if (freeFiles < leastFiles)
    return failure(name, 'the file system takes no more files', 'Delete files there.')
  if (freeBytes < Math.min(leastBytes, Math.max(0, maxBytes - usedBytes)))
    return failure(name, `the disk is full: ${sizeOf(freeBytes)} are free`, 'Make room on it.')
  const spools = `${sizeOf(freeBytes)} are free, and the spools take ${sizeOf(usedBytes)} of up to ${sizeOf(maxBytes)}`
  if (freeBytes + usedBytes < maxBytes)
    return warning(
      name,
      `${spools}: the disk is full before they are`,
      'Lower spool.max.bytes of the streams, or give the folder a larger disk.',
    )
  if (syncMs > slowSyncMs)
    return warning(
      name,
      `a write took ${Math.round(syncMs)} ms to be on the disk, and each durable 202 waits for one`,
      'See what else uses the disk, or give the folder a faster one.',
    )
  return fine(
    name,
    isThere ? `this user may write there. ${spools}` : `it is not there, and can be made. ${spools}`,
  )
}

/** Writes a file and syncs it, as a spool does. @returns how long that took, in milliseconds. */
function tryFolder(folder: string, isThere: boolean): number {
  if (!fs.statSync(folder).isDirectory())
    throw Object.assign(new Error('not a directory'), { code: 'ENOTDIR' })
  // Nothing is written outside of the data folder.
  fs.accessSync(folder, fs.constants.W_OK | fs.constants.X_OK)
  if (!isThere) return 0
  // The number of a process is no name: it is the same in each container.
  const path = join(folder, `doctor-${randomUUID()}.tmp`)
  const fd = fs.openSync(path, 'wx', 0o600)
  try {
    const startedAtMs = performance.now()
    fs.writeSync(fd, Buffer.alloc(4_096))
    fs.fdatasyncSync(fd)
    return performance.now() - startedAtMs
  } finally {
    fs.closeSync(fd)
    fs.rmSync(path)
  }
}

/** A path, or the nearest folder above it that there is. */
function nearest(path: string): string {
  for (let at = path; ; at = dirname(at)) if (fs.existsSync(at) || at === dirname(at)) return at
}

/** Bytes of all files in a folder and below. What a gateway removes meanwhile counts as nothing. */
export function sizeOfTree(folder: string): number {
  let sum = 0
  for (const entry of unlessGone(() => fs.readdirSync(folder, { withFileTypes: true })) ?? []) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) sum += sizeOfTree(path)
    else if (entry.isFile()) sum += unlessGone(() => fs.statSync(path).size) ?? 0
  }
  return sum
}

function unlessGone<Found>(look: () => Found): Found | null {
  try {
    return look()
  } catch {
    return null
  }
}

/** Descriptors of a process without a stream and without a client: test/e2e/descriptors.test.ts finds fewer. */
const ownDescriptors = 40
/** With room for fewer clients than this, a gateway is of little use. */
const fewClients = 1_000
/** The memory of a process without its buffers (docs/deploy.md). */
const baseMemoryBytes = 180 << 20
const leastBytes = 16 << 20
const leastFiles = 100
const slowSyncMs = 250

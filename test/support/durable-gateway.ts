import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, openSync, closeSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { realDisk } from '../../src/spool/disk.ts'
import { EntryReader } from '../../src/spool/frame.ts'
import { findSegments } from '../../src/spool/find-segments.ts'
import { findJournal, resolveSent } from '../../src/spool/find-sent.ts'
import { scanFrames } from '../../src/spool/frame.ts'
import { SpoolLog } from '../../src/spool/spool-log.ts'
import { parseExposition } from './parse-exposition.ts'
import { LogKeeper } from './producer-fixture.ts'
import { chuteArguments, chuteEnvironment, serveGateway, type ServedGateway } from './served-gateway.ts'

/** A data folder, and gateways that are started on it one after the other: a durable stream and an at-most-once one. */
export class DurableSetup {
  readonly folder: string
  readonly dataDir: string
  readonly env: NodeJS.ProcessEnv
  readonly critical: string
  readonly realtime: string

  constructor(options: {
    broker: string
    name: string
    dataDir?: string
    /** Of the durable stream, beside its topic. */
    stream?: Readonly<Record<string, unknown>>
    /** Of the at-most-once stream, beside its topic. */
    realtimeStream?: Readonly<Record<string, unknown>>
    env?: NodeJS.ProcessEnv
  }) {
    this.folder = mkdtempSync(join(tmpdir(), 'chute-durable-'))
    onTestFinished(() => rmSync(this.folder, { recursive: true, force: true }))
    this.dataDir = options.dataDir ?? join(this.folder, 'data')
    mkdirSync(this.dataDir, { recursive: true })
    this.critical = `${options.name}-critical`
    this.realtime = `${options.name}-realtime`
    const file = join(this.folder, 'chute.json')
    const streams = {
      critical: { topic: this.critical, delivery: 'at-least-once', ...options.stream },
      realtime: { topic: this.realtime, delivery: 'at-most-once', ...options.realtimeStream },
    }
    writeFileSync(file, JSON.stringify({ streams }))
    this.env = {
      KAFKA_BROKERS: options.broker,
      KAFKA_TOPIC_PARTITIONS: '3',
      CHUTE_CONFIG: file,
      CHUTE_DATA_DIR: this.dataDir,
      // The system's temporary folder, and a test's small disk, may be in memory.
      CHUTE_DATA_DIR_EPHEMERAL: 'true',
      ...options.env,
    }
  }

  async start(env: NodeJS.ProcessEnv = {}): Promise<ServedGateway> {
    const gateway = await serveGateway({ ...this.env, ...env })
    onTestFinished(() => gateway.signal('SIGKILL'))
    return gateway
  }

  /** Starts one that is not to come up. */
  async refused(env: NodeJS.ProcessEnv = {}): Promise<{ code: number | null; stderr: string }> {
    const child = spawn(process.execPath, [...chuteArguments, 'serve'], {
      env: chuteEnvironment({ PORT: '0', ...this.env, ...env }),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    await once(child, 'close')
    return { code: child.exitCode, stderr }
  }
}

/** Runs `chute drain`, and waits for its end. */
export async function drain(
  env: NodeJS.ProcessEnv,
  ...options: string[]
): Promise<{ code: number | null; log: string; stderr: string }> {
  const child = spawn(process.execPath, [...chuteArguments, 'drain', ...options], {
    env: chuteEnvironment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let [log, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (log += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  await once(child, 'close')
  return { code: child.exitCode, log, stderr }
}

/** A scrape, as sums by name over the series of the durable stream; `name{value}` for one label's value. */
export async function scrape({ url }: ServedGateway, stream = 'critical'): Promise<Map<string, number>> {
  const families = parseExposition(await (await fetch(`${url}/metrics`)).text(), 'prometheus')
  const sums = new Map<string, number>()
  const add = (name: string, value: number): void => void sums.set(name, (sums.get(name) ?? 0) + value)
  for (const { samples } of families.values()) {
    for (const { name, labels, value } of samples) {
      if (labels['stream'] !== stream) continue
      add(name, value)
      for (const [label, of] of Object.entries(labels)) {
        if (label !== 'stream' && label !== 'topic' && of !== '') add(`${name}{${of}}`, value)
      }
    }
  }
  return sums
}

/** accepted + recovered - pending - outcomes at a scrape: 0 unless the account is wrong. */
export function imbalanceOf(sums: ReadonlyMap<string, number>): number {
  const [accepted, recovered, pending, outcomes] = [
    'chute_records_accepted_total',
    'chute_records_recovered_total',
    'chute_records_pending',
    'chute_records_total',
  ].map((name) => sums.get(name) ?? Number.NaN)
  return accepted! + recovered! - pending! - outcomes!
}

/** Waits until Kafka has all that is on disk. The account has to close at each look. */
export async function untilDrained(gateway: ServedGateway): Promise<ReadonlyMap<string, number>> {
  for (;;) {
    const sums = await scrape(gateway)
    const imbalance = imbalanceOf(sums)
    if (imbalance !== 0) throw new Error(`the account is off by ${imbalance}`)
    if (sums.get('chute_spool_records') === 0) return sums
    await pause(50)
  }
}

/**
 * The records in a data folder that Kafka is not known to have, as `key:n`. No process may use the folder. Kafka is known to have a record
 * if an ack file says so. A copy of a folder can have a part of a batch in an ack file: then the start counts the rest of the batch as done,
 * too, and the journal of sent batches tells which records these are.
 */
export function pendingIn(dataDir: string): string[] {
  const folder = join(dataDir, 'spool', 'critical')
  const pending: string[] = []
  const logger = new LogKeeper()
  const segments = findSegments(folder, 'critical', logger)
  const log = new SpoolLog(
    {
      stream: 'critical',
      folder,
      folderFd: -1,
      fsync: false,
      segmentBytes: Infinity,
      disk: realDisk,
      logger,
      mayRemove: () => false,
      onRemoved() {},
    },
    segments,
  )
  const { batches } = findJournal(folder, realDisk, logger)
  const done = new Set(resolveSent(batches, log, realDisk).doneSeqs)
  for (const segment of segments) {
    const fd = openSync(segment.path, 'r')
    const range = { sizeBytes: segment.sizeBytes, seq: segment.baseSeq }
    for (const { header, bytes, offset } of scanFrames(realDisk, fd, range)) {
      const entries = new EntryReader(bytes, offset, header.frameBytes)
      for (let seq = header.firstSeq; entries.next(); seq++) {
        if (segment.wasDone(seq) || done.has(seq)) continue
        const { start, end } = entries.record
        const value = JSON.parse(bytes.toString('utf8', start, end)) as {
          value: number
        }
        pending.push(`${entries.key()}:${value.value}`)
      }
    }
    closeSync(fd)
  }
  return pending
}

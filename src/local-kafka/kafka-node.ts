import { type ChildProcess, spawn, type SpawnOptions, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Kafka, logLevel } from 'kafkajs'
import { LocalKafkaError } from './kafka-jars.ts'
import type { PreparedKafka } from './prepared-kafka.ts'

/** What makes up one node: an id, its ports and its folder. */
export interface KafkaNodeOptions {
  readonly id: number
  readonly port: number
  readonly controllerPort: number
  /** The port that Kafka tells its clients, such as that of a proxy in a test. */
  readonly advertisedPort: number
  /** `id@host:port` of every controller. */
  readonly quorumVoters: string
  readonly clusterId: string
  readonly nodeCount: number
  readonly folder: string
  readonly classpath: string
  /** Prepared files that save time at the start; null: the node starts without them. */
  readonly prepared: PreparedKafka | null
  /** Arguments of the JVM besides those that every node gets. */
  readonly jvmFlags: readonly string[]
  /** Settings of server.properties besides those that Chute needs. */
  readonly properties: Readonly<Record<string, string>>
}

/** One Kafka process, broker and controller in one. It can be killed, stopped, continued and started again on its data. */
export class KafkaNode {
  readonly id: number
  readonly port: number
  /** The folder of its log segments. It has a folder for each partition. */
  readonly dataDir: string
  readonly #options: KafkaNodeOptions
  #process: ChildProcess | null = null

  constructor(options: KafkaNodeOptions) {
    this.id = options.id
    this.port = options.port
    this.#options = options
    this.dataDir = join(options.folder, 'data')
  }

  /** The process id; null while the process does not run. */
  get pid(): number | null {
    return this.#process?.pid ?? null
  }

  /** Starts the process. The broker is ready some seconds later: see {@link waitUntilReady}. */
  start(): void {
    const { folder, classpath } = this.#options
    const properties = join(folder, 'server.properties')
    if (!existsSync(this.dataDir)) this.#format(properties)
    const log = openSync(join(folder, 'kafka.log'), 'a')
    const args = [...this.#jvmFlags, logInfo, '-cp', classpath, 'kafka.Kafka', properties]
    const child = spawnWatched('java', args, { cwd: folder, stdio: ['ignore', log, log] })
    this.#process = child
    child.once('exit', () => {
      if (this.#process === child) this.#process = null
    })
  }

  /**
   * Waits until the broker answers a request. Only an answer proves that the broker is up.
   * @throws LocalKafkaError if the process ends, or after two minutes.
   */
  async waitUntilReady(): Promise<void> {
    const deadlineMs = performance.now() + 120_000
    while (performance.now() < deadlineMs) {
      if (this.#process === null) break
      if (await this.#answers()) return
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    const log = this.log.split('\n').slice(-15).join('\n')
    throw new LocalKafkaError('not_ready', `Kafka node ${this.id} did not come up\n${log}`)
  }

  /** What Kafka logged. */
  get log(): string {
    const file = join(this.#options.folder, 'kafka.log')
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  /** Sends a signal. For SIGKILL and SIGTERM, waits until the process is gone. */
  async kill(signal: 'SIGKILL' | 'SIGTERM' | 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    const child = this.#process
    if (child === null) return
    const gone = once(child, 'exit')
    child.kill(signal)
    if (signal === 'SIGKILL' || signal === 'SIGTERM') await gone
  }

  /** Ends the process with SIGTERM, and after 10 s with SIGKILL. */
  async stop(): Promise<void> {
    const child = this.#process
    if (child === null) return
    child.kill('SIGCONT')
    const impatient = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await this.kill('SIGTERM')
    clearTimeout(impatient)
  }

  get #jvmFlags(): string[] {
    const { prepared, jvmFlags } = this.#options
    return [...usualJvmFlags, ...(prepared?.jvmFlags ?? []), ...jvmFlags]
  }

  async #answers(): Promise<boolean> {
    // With `listeners` of its own a node may want credentials of clients. Then only the ports are tried.
    const { controllerPort, port, properties } = this.#options
    const isPlain = properties['listeners'] === undefined
    if (!isPlain) return await canConnect(port, controllerPort)
    const admin = new Kafka({
      brokers: [`127.0.0.1:${port}`],
      connectionTimeout: 1_000,
      requestTimeout: 1_000,
      retry: { retries: 0 },
      logLevel: logLevel.NOTHING,
    }).admin()
    try {
      await admin.connect()
      const { brokers, controller } = await admin.describeCluster()
      return controller !== null && brokers.some((broker) => broker.nodeId === this.id)
    } catch {
      return false
    } finally {
      await admin.disconnect()
    }
  }

  #format(properties: string): void {
    const { id, classpath, clusterId, prepared } = this.#options
    writeFileSync(properties, this.#serverProperties())
    const scram = this.#options.properties['chute.scram'] ?? ''
    // Users of SCRAM are records of the first checkpoint, and only Kafka's own tool writes them.
    if (prepared !== null && scram === '') return prepared.format(this.dataDir, clusterId, id)
    const args = ['-cp', classpath, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties]
    for (const user of scram.split(';').filter(Boolean)) args.push('--add-scram', user)
    const { status, stderr, stdout } = spawnSync('java', [...usualJvmFlags, ...args], { encoding: 'utf8' })
    if (status === 0) return
    rmSync(this.dataDir, { recursive: true, force: true })
    throw new LocalKafkaError('not_ready', `Kafka's storage could not be formatted: ${stdout}${stderr}`)
  }

  #serverProperties(): string {
    const { id, port, controllerPort, advertisedPort, quorumVoters, nodeCount, properties } = this.#options
    const replication = String(Math.min(nodeCount, 3))
    const all: Record<string, string> = {
      'process.roles': 'broker,controller',
      'node.id': String(id),
      'controller.quorum.voters': quorumVoters,
      listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
      'advertised.listeners': `PLAINTEXT://127.0.0.1:${advertisedPort}`,
      'controller.listener.names': 'CONTROLLER',
      'log.dirs': this.dataDir,
      'auto.create.topics.enable': 'false',
      'num.partitions': '3',
      'default.replication.factor': replication,
      'offsets.topic.num.partitions': '1',
      'offsets.topic.replication.factor': replication,
      'transaction.state.log.num.partitions': '1',
      'transaction.state.log.replication.factor': replication,
      'transaction.state.log.min.isr': '1',
      'group.initial.rebalance.delay.ms': '0',
      // Tests kill members of groups, and Kafka's default of 6 s is long.
      'group.min.session.timeout.ms': '1000',
      // A node that was killed can come back only when its old session is over, and Kafka's default is 9 s.
      'broker.session.timeout.ms': '3000',
      'broker.heartbeat.interval.ms': '500',
      'share.coordinator.state.topic.replication.factor': replication,
      'share.coordinator.state.topic.min.isr': '1',
      ...properties,
    }
    delete all['chute.scram']
    return Object.entries(all)
      .map(([name, value]) => `${name}=${value}\n`)
      .join('')
  }
}

async function canConnect(...ports: number[]): Promise<boolean> {
  const { connect } = await import('node:net')
  for (const port of ports) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
    } catch {
      return false
    } finally {
      socket.destroy()
    }
  }
  return true
}

/** Without this flag log4j writes only errors. */
const logInfo = '-Dorg.apache.logging.log4j.level=INFO'

/** The fastest start, in little memory. */
const usualJvmFlags = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', '-Xmx512m']

/**
 * Starts a process that only its owner ends: Ctrl-C in a terminal does not reach the process. The process never outlives its owner, even if
 * the owner is killed: the input of a shell ends together with the owner, and then the shell kills the process.
 */
export function spawnWatched(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, { ...options, detached: true })
  if (child.pid === undefined) return child
  const script = 'read -r _; kill -KILL "$1"'
  const watcher = spawn('sh', ['-c', script, 'sh', String(child.pid)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  // Without sh on this machine, the process is not watched.
  watcher.on('error', () => {})
  watcher.unref()
  const input = watcher.stdin as Socket | null
  input?.unref()
  child.once('exit', () => {
    watcher.kill('SIGKILL')
    input?.destroy()
  })
  return child
}

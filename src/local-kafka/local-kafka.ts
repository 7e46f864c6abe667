import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { anyPort, choosePorts } from './free-ports.ts'
import { kafkaJars, kafkaVersion, LocalKafkaError } from './kafka-jars.ts'
import { KafkaNode, type KafkaNodeOptions } from './kafka-node.ts'
import { kafkaId, prepareKafka } from './prepared-kafka.ts'

/**
 * A real Apache Kafka on this machine, for the demo, for the tests, and for everybody who tries Chute out. Read this file of the folder
 * first. It is one node or a small cluster on 127.0.0.1. Each node is a process with ports and a folder of its own. `stop` ends the
 * processes and removes the folders.
 *
 * The folder knows nothing of the rest of Chute.
 */
export interface LocalKafka {
  /** `host:port` of each node, for clients. */
  readonly brokers: readonly string[]
  readonly nodes: readonly KafkaNode[]
  /** Kafka's jars, for its own tools. */
  readonly classpath: string
  /** Ends all nodes at once and removes their data. */
  stop(): Promise<void>
}

/** See {@link startKafka}. */
export interface StartKafkaOptions {
  /** Version of Apache Kafka. Left out: `CHUTE_TEST_KAFKA_VERSION`, or else {@link kafkaVersion}. */
  readonly version?: string
  /** Number of nodes. Left out: 1. */
  readonly nodes?: number
  /** Port of the first node. The other nodes get the ports behind it. Left out: free ports. */
  readonly port?: number
  /** The ports that Kafka tells its clients, by node. Left out: the nodes' own ports. */
  readonly advertisedPorts?: readonly number[]
  /** Settings of server.properties; `{node}` stands for a node's id. */
  readonly properties?: Readonly<Record<string, string>>
  /** Further flags of each node's JVM. */
  readonly jvmFlags?: readonly string[]
  readonly onProgress?: (text: string) => void
  readonly env?: NodeJS.ProcessEnv
}

/**
 * Starts Kafka, and returns when every node answers.
 * @throws LocalKafkaError, whose message says what to do.
 */
export async function startKafka(options: StartKafkaOptions = {}): Promise<LocalKafka> {
  const { onProgress = () => {}, env = process.env, jvmFlags = [] } = options
  const version = options.version ?? env['CHUTE_TEST_KAFKA_VERSION'] ?? kafkaVersion
  const { classpath, preparedFolder } = await kafkaJars(version, env, onProgress)
  // Other versions are started so seldom that the preparation would cost more than it saves.
  if (version !== kafkaVersion) return await startNodes(options, { classpath, prepared: null, jvmFlags })
  const prepared = await prepareKafka(preparedFolder, async (flags) => {
    onProgress('preparing quick starts of Kafka (once)')
    const kafka = await startNodes({}, { classpath, prepared: null, jvmFlags: flags })
    const [node] = kafka.nodes as [KafkaNode]
    return {
      dataDir: node.dataDir,
      async end() {
        await node.kill('SIGTERM')
        await kafka.stop()
      },
    }
  })
  return await startNodes(options, { classpath, prepared, jvmFlags })
}

async function startNodes(
  options: StartKafkaOptions,
  how: Pick<KafkaNodeOptions, 'classpath' | 'prepared' | 'jvmFlags'>,
): Promise<LocalKafka> {
  const { nodes: nodeCount = 1, port: first, onProgress = () => {} } = options
  const wanted = Array.from({ length: nodeCount }, (_, nth) => (first === undefined ? anyPort : first + nth))
  const chosen = await choosePorts(
    [...wanted, ...wanted.map(() => anyPort)],
    (port) => new LocalKafkaError('port_taken', `port ${port} is taken`),
  )
  const [ports, controllerPorts] = [chosen.slice(0, nodeCount), chosen.slice(nodeCount)]
  const folder = await mkdtemp(join(tmpdir(), 'chute-kafka-'))
  const clusterId = kafkaId()
  const quorumVoters = controllerPorts.map((port, index) => `${index + 1}@127.0.0.1:${port}`).join(',')
  const nodes: KafkaNode[] = []
  const stop = async (): Promise<void> => {
    // The data is removed, so no node needs an orderly shutdown.
    await Promise.all(nodes.map(async (node) => await node.kill('SIGKILL')))
    await rm(folder, { recursive: true, force: true })
  }
  try {
    onProgress(nodeCount === 1 ? 'starting the broker' : `starting ${nodeCount} brokers`)
    for (const [index, port] of ports.entries()) {
      const nodeFolder = join(folder, `node-${index + 1}`)
      await mkdir(nodeFolder)
      const properties = Object.entries(options.properties ?? {}).map(([name, value]) => [
        name,
        value
          .replaceAll('{node}', String(index + 1))
          .replaceAll('{port}', String(port))
          .replaceAll('{controllerPort}', String(controllerPorts[index])),
      ])
      const node = new KafkaNode({
        id: index + 1,
        port,
        controllerPort: controllerPorts[index]!,
        advertisedPort: options.advertisedPorts?.[index] ?? port,
        quorumVoters,
        clusterId,
        nodeCount,
        folder: nodeFolder,
        classpath: how.classpath,
        prepared: how.prepared,
        jvmFlags: how.jvmFlags,
        properties: Object.fromEntries(properties) as Record<string, string>,
      })
      nodes.push(node)
      node.start()
    }
    for (const node of nodes) await node.waitUntilReady()
  } catch (error) {
    await stop()
    throw error
  }
  return { brokers: ports.map((port) => `127.0.0.1:${port}`), nodes, classpath: how.classpath, stop }
}

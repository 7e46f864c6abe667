import { randomBytes } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/**
 * Files that every node needs. They are made once and kept beside Kafka's jars. With them a node starts in half of the CPU time. Without them
 * the JVM reads and checks Kafka's classes at each start, and another JVM formats each folder.
 */
export interface PreparedKafka {
  /** Arguments of the JVM that name its archive of Kafka's classes. Empty if this JVM wrote no archive. */
  readonly jvmFlags: readonly string[]
  /** Makes the folder of a node, as `StorageTool format` does. */
  format(dataDir: string, clusterId: string, nodeId: number): void
}

/** The node from which {@link prepareKafka} gets the files. */
interface FirstNode {
  readonly dataDir: string
  /** Ends the process politely, and waits for its end. */
  end(): Promise<void>
}

/**
 * Reads the prepared files. If there are none yet, it makes them with one node that starts and ends.
 * @param folder the folder of the files. It exists only when all files are complete.
 * @param startNode starts a node with these arguments of the JVM, and returns when the node answers.
 */
export async function prepareKafka(
  folder: string,
  startNode: (jvmFlags: readonly string[]) => Promise<FirstNode>,
): Promise<PreparedKafka> {
  if (!existsSync(folder)) await prepare(folder, startNode)
  const archive = join(folder, archiveName)
  return {
    jvmFlags: existsSync(archive) ? [`-XX:SharedArchiveFile=${archive}`] : [],
    format(dataDir, clusterId, nodeId) {
      mkdirSync(dataDir)
      copyFileSync(join(folder, checkpointName), join(dataDir, checkpointName))
      writeFileSync(join(dataDir, 'meta.properties'), metaProperties(clusterId, nodeId))
    },
  }
}

async function prepare(
  folder: string,
  startNode: (jvmFlags: readonly string[]) => Promise<FirstNode>,
): Promise<void> {
  await mkdir(dirname(folder), { recursive: true })
  const draft = await mkdtemp(join(dirname(folder), 'prepare-'))
  try {
    const archive = join(draft, archiveName)
    const node = await startNode([`-XX:ArchiveClassesAtExit=${archive}`])
    await copyFile(join(node.dataDir, checkpointName), join(draft, checkpointName))
    // The JVM writes the archive when it ends in order. That takes seconds.
    await node.end()
    await rename(draft, folder).catch((error: unknown) => {
      // Another process has just made the folder.
      if (!existsSync(folder)) throw error
    })
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

/** The file with the ids of the cluster, of the node and of the folder. See Kafka's `MetaProperties`, version 1. */
function metaProperties(clusterId: string, nodeId: number): string {
  return `version=1\ncluster.id=${clusterId}\nnode.id=${nodeId}\ndirectory.id=${kafkaId()}\n`
}

/** A UUID as Kafka writes it. It never begins with a dash, which Kafka's tools would take for an option. */
export function kafkaId(): string {
  return `A${randomBytes(16).toString('base64url').slice(1)}`
}

const archiveName = 'classes.jsa'
/** The first records of a cluster: its metadata version. They are the same for every cluster of a version of Kafka. */
const checkpointName = 'bootstrap.checkpoint'

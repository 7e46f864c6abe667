import { randomBytes } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/**
 * What each node needs again, made once and kept beside Kafka's jars. A node starts with half of the CPU time that way:
 * without the archive the JVM reads and checks Kafka's classes at each start, and a JVM of its own formats each folder.
 */
export interface PreparedKafka {
  /** Arguments of the JVM: its own archive of Kafka's classes. None where this JVM wrote no archive. */
  readonly jvmFlags: readonly string[]
  /** Makes a folder into that of a node, as `StorageTool format` does. */
  format(dataDir: string, clusterId: string, nodeId: number): void
}

/** The node that {@link prepareKafka} learns from. */
interface FirstNode {
  readonly dataDir: string
  /** Ends the process politely, and waits for its end. */
  end(): Promise<void>
}

/**
 * Reads what was prepared, or else prepares it with one node that starts and ends.
 * @param folder is there once everything in it is complete.
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
    // The JVM writes the archive when it ends by itself, and takes seconds for that.
    await node.end()
    await rename(draft, folder).catch((error: unknown) => {
      // Somebody else was faster.
      if (!existsSync(folder)) throw error
    })
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

/** A folder's own id, beside the ids of the cluster and of the node. See Kafka's `MetaProperties`, version 1. */
function metaProperties(clusterId: string, nodeId: number): string {
  return `version=1\ncluster.id=${clusterId}\nnode.id=${nodeId}\ndirectory.id=${kafkaId()}\n`
}

/** An id as Kafka writes its UUIDs. Its first bits are never those of a dash, which Kafka's tools take for an option. */
export function kafkaId(): string {
  return `A${randomBytes(16).toString('base64url').slice(1)}`
}

const archiveName = 'classes.jsa'
/** The records of a cluster that has no others: its metadata version. The same for every cluster of a version of Kafka. */
const checkpointName = 'bootstrap.checkpoint'

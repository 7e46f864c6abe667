import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { prepareKafka } from '../../../src/local-kafka/prepared-kafka.ts'

let cache: string
let started: string[][]
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'chute-prepared-'))
  onTestFinished(() => rmSync(cache, { recursive: true }))
  started = []
})

/** Starts no node. What a node leaves is there: its checkpoint, and at its end the archive, where the JVM writes one. */
function startNode(writesArchive = true) {
  return async (jvmFlags: readonly string[]) => {
    started.push([...jvmFlags])
    const dataDir = mkdtempSync(join(cache, 'data-'))
    writeFileSync(join(dataDir, 'bootstrap.checkpoint'), 'checkpoint')
    const archive = jvmFlags[0]!.replace('-XX:ArchiveClassesAtExit=', '')
    return {
      dataDir,
      end: async () => {
        if (writesArchive) writeFileSync(archive, 'classes')
      },
    }
  }
}

test('one node is started for the preparation, and none the next time', async () => {
  const folder = join(cache, 'kafka-java')
  const first = await prepareKafka(folder, startNode())
  const second = await prepareKafka(folder, startNode())
  expect(started).toHaveLength(1)
  const archive = join(folder, 'classes.jsa')
  expect(readFileSync(archive, 'utf8')).toBe('classes')
  for (const { jvmFlags } of [first, second]) expect(jvmFlags).toEqual([`-XX:SharedArchiveFile=${archive}`])
})

test('a JVM that writes no archive is asked once, and nodes start without it', async () => {
  const folder = join(cache, 'kafka-java')
  await prepareKafka(folder, startNode(false))
  expect((await prepareKafka(folder, startNode(false))).jvmFlags).toEqual([])
  expect(started).toHaveLength(1)
})

test('a preparation that fails leaves nothing behind', async () => {
  const folder = join(cache, 'kafka-java')
  const failing = prepareKafka(folder, async () => {
    throw new Error('no memory')
  })
  await expect(failing).rejects.toThrow('no memory')
  expect(readdirSync(cache)).toEqual([])
})

test('two preparations side by side both end with what one of them made', async () => {
  const folder = join(cache, 'kafka-java')
  const both = await Promise.all([prepareKafka(folder, startNode()), prepareKafka(folder, startNode())])
  expect(both[0].jvmFlags).toEqual(both[1].jvmFlags)
  expect(readdirSync(cache).filter((name) => name.startsWith('prepare-'))).toEqual([])
})

test('a folder is formatted with the ids of the cluster and of the node, and an id of its own', async () => {
  const prepared = await prepareKafka(join(cache, 'kafka-java'), startNode())
  const ids = [1, 2].map((nodeId) => {
    const dataDir = join(cache, `node-${nodeId}`)
    prepared.format(dataDir, 'cluster', nodeId)
    expect(readFileSync(join(dataDir, 'bootstrap.checkpoint'), 'utf8')).toBe('checkpoint')
    const lines = readFileSync(join(dataDir, 'meta.properties'), 'utf8').split('\n')
    expect(lines).toEqual(expect.arrayContaining(['version=1', 'cluster.id=cluster', `node.id=${nodeId}`]))
    return lines.find((line) => line.startsWith('directory.id='))
  })
  expect(ids[0]).toMatch(/^directory\.id=[\w-]{22}$/)
  expect(ids[0]).not.toBe(ids[1])
})

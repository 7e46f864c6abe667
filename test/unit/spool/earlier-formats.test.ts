import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import { SpoolFolders } from '../../../src/spool/spool-folders.ts'
import { ModelCluster } from '../../support/model-broker.ts'
import { LogKeeper } from '../../support/producer-fixture.ts'
import { seededRandom } from '../../support/fault-run.ts'
import { temporaryFolder } from '../../support/spool-fixture.ts'
import { DurableLife } from '../../support/spooled-cluster.ts'

/* Data folders as gateways of earlier versions left them when they were killed. `dev/spool-fixture.ts` writes them. */

const fixtures = fileURLToPath(new URL('../../fixtures/spool', import.meta.url))

/** What a fixture says of itself, in `holds.json`. */
interface Holds {
  readonly writtenAtMs: number
  readonly hasHeaders: boolean
  readonly hasKeys: boolean
  /** The `value` of each event that Kafka is known to have. */
  readonly sent: readonly number[]
  /** The `value` of each event that Kafka is not known to have. */
  readonly pending: readonly number[]
}

afterEach(() => void vi.useRealTimers())

test.each(readdirSync(fixtures))(
  'a folder that was written as %s is read, and what it holds is sent once',
  async (name) => {
    const holds = JSON.parse(readFileSync(join(fixtures, name, 'holds.json'), 'utf8')) as Holds
    const dataDir = temporaryFolder()
    cpSync(join(fixtures, name, 'data'), dataDir, { recursive: true })
    // The keys in the folder have time left.
    vi.useFakeTimers({ toFake: ['Date'], now: holds.writtenAtMs + 60_000 })
    const streams = { names: ['critical'], haveHeaders: holds.hasHeaders }
    const folders = new SpoolFolders({ dataDir, worker: null }, streams, new LogKeeper())
    onTestFinished(() => folders.close())

    const cluster = new ModelCluster([1], seededRandom(1))
    cluster.createTopic('critical', 3)
    const keys = new Set<string>()
    for (const { path } of [folders.stream('critical'), ...folders.streamsLeft('critical')]) {
      const life = new DurableLife(cluster, { folder: path, topic: 'critical' })
      onTestFinished(() => life.end())
      life.producer.readNotes(86_400_000, (key) => keys.add(key))
      await life.drained()
      expect(life.producer.stats.dropped).toMatchObject({ spool_damaged: 0 })
    }
    const records = cluster.stored('critical').flat()
    const events = records.map(({ value }) => JSON.parse(value) as { value: number; source: string })
    expect(events.map(({ value }) => value).toSorted((one, other) => one - other)).toEqual(holds.pending)
    for (const [nth, { value, source }] of events.entries()) {
      const { key, headers } = records[nth]!
      expect(key).toBe(source)
      expect(headers).toEqual(holds.hasHeaders ? { request: `request-${value}` } : {})
    }
    // The key of each request and the id of its event, also of those that Kafka has.
    expect(keys.size).toBe(holds.hasKeys ? 2 * (holds.sent.length + holds.pending.length) : 0)
  },
)

import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, expect, test, vi } from 'vitest'
import type { Logger } from '../../src/logger.ts'
import type { Disk } from '../../src/spool/disk.ts'
import { findSegments } from '../../src/spool/find-segments.ts'
import { seededRandom } from '../support/fault-run.ts'
import { isLong } from '../support/forms.ts'
import { HeapClock } from '../support/heap-clock.ts'
import { diskOf, lives } from '../support/model-house.ts'
import { endings, runPromises, troubleKinds, type PromiseRun, type Trouble } from '../support/promise-run.ts'

// What reaches outside: the model's instead.
vi.mock('@redis/client', () => ({
  createClient: ({ url }: { url: string }) => lives.get(new URL(url).hostname)!.connectRedis(),
}))
vi.mock('../../src/kafka/network/kafkajs-transport.ts', () => ({
  KafkajsTransport: function lifeOf({ clientId }: { clientId: string }) {
    return lives.get(clientId)!
  },
}))
vi.mock('../../src/spool/disk.ts', async (original) => {
  const { realDisk, ...others } = await original<{ realDisk: Disk }>()
  const route =
    (name: keyof Disk) =>
    (target: string | number, ...rest: unknown[]): unknown => {
      const disk = diskOf(target)
      return (disk[name] as (...args: unknown[]) => unknown).call(disk, target, ...rest)
    }
  const calls = Object.keys(realDisk) as (keyof Disk)[]
  return { ...others, realDisk: Object.fromEntries(calls.map((name) => [name, route(name)])) }
})
vi.mock('../../src/spool/data-folder.ts', () => ({
  DataFolder: class {
    readonly #path: string
    readonly #logger: Logger
    constructor(path: string, _streams: readonly string[], logger: Logger) {
      this.#path = path
      this.#logger = logger
    }
    stream(name: string) {
      const path = join(this.#path, name)
      return { path, fd: diskOf(path).openNow(path), segments: findSegments(path, name, this.#logger) }
    }
    close() {}
  },
}))

// What nobody asks for here, and costs each start of a gateway.
vi.mock('../../src/routes/admin/api-docs.ts', () => ({ registerApiDocs: () => {} }))
vi.mock('../../src/routes/admin/live-page.ts', () => ({ registerLivePage: () => {} }))
vi.mock('../../src/routes/ingest/beacon.ts', () => ({ registerBeacon: () => {} }))
vi.mock('../../src/routes/admin/operations.ts', () => ({
  registerHealth: () => {},
  registerMetrics: () => {},
}))

// The files behind this one in its process have the real ones. This file comes first in a process (`longest-first.ts`).
afterAll(() => {
  for (const mocked of [
    '@redis/client',
    '../../src/kafka/network/kafkajs-transport.ts',
    '../../src/spool/disk.ts',
    '../../src/spool/data-folder.ts',
    '../../src/routes/admin/api-docs.ts',
    '../../src/routes/admin/live-page.ts',
    '../../src/routes/ingest/beacon.ts',
    '../../src/routes/admin/operations.ts',
  ])
    vi.doUnmock(mocked)
  vi.resetModules()
})

const trouble: fc.Arbitrary<Trouble> = fc.record({
  kind: fc.constantFrom(...troubleKinds),
  calmMs: fc.nat(50),
  lastsMs: fc.nat(80),
  a: fc.nat(100),
})

const threeLives = fc.array(
  fc.record({ lastsMs: fc.integer({ min: 40, max: 130 }), end: fc.constantFrom(...endings) }),
  { minLength: 3, maxLength: 3 },
)

const run: fc.Arbitrary<PromiseRun> = fc.record({
  seed: fc.integer(),
  nodes: fc.constantFrom(1, 3),
  gateways: fc.oneof(
    { weight: 2, arbitrary: fc.tuple(threeLives) },
    { weight: 1, arbitrary: fc.tuple(threeLives, threeLives) },
  ),
  // Two at a time.
  tracks: fc.tuple(fc.array(trouble, { maxLength: 4 }), fc.array(trouble, { maxLength: 4 })),
})

/** A thousand in CI; where people wait for it, fewer. */
const runs = Number(process.env['PROMISE_RUNS'] ?? (isLong ? 1_000 : 20))

test(
  `faults of disk, Redis, brokers and clock, two at a time, gateways with three lives, ${runs} times: no promise is broken`,
  { timeout: 60_000 + runs * 2_000 },
  async () => {
    const property = fc.asyncProperty(run, async (each) => {
      const clock = new HeapClock().install()
      const random = vi.spyOn(Math, 'random').mockImplementation(seededRandom(each.seed))
      try {
        expect(await runPromises(each, clock)).toEqual([])
      } finally {
        random.mockRestore()
        clock.uninstall()
        lives.clear()
      }
    })
    await fc.assert(property, {
      numRuns: runs,
      endOnFailure: process.env['PROMISE_SHRINK'] === undefined,
    })
  },
)

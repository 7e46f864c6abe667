import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LocalKafka } from '../src/local-kafka/local-kafka.ts'
import { ndjsonOf100, singleEvent } from './events.ts'
import { load } from './load.ts'
import { startChute } from './server-process.ts'

/** Where the time of a request goes: shares of what is no idling, 0 to 1, by who wrote the code that ran. */
export interface ProfileRow {
  readonly request: string
  readonly shares: Readonly<Record<ProfilePart, number>>
}

/** The parts of a profile, in the order of the table. */
export const profileParts = [
  'writing to sockets',
  'node:http and streams',
  'Fastify and its router',
  'events',
  'routes and metrics',
  'producer',
  'garbage collector',
  'other native code',
] as const

/** See {@link profileParts}. */
export type ProfilePart = (typeof profileParts)[number]

/** Runs a gateway under Node's own CPU profiler (`--cpu-prof`), once for each kind of request. */
export async function benchProfile(
  kafka: LocalKafka,
  options: { seconds: number },
): Promise<{ rows: ProfileRow[] }> {
  const rows: ProfileRow[] = []
  for (const [request, body] of [
    ['single event', singleEvent],
    ['NDJSON of 100', ndjsonOf100],
  ] as const) {
    const folder = mkdtempSync(join(tmpdir(), 'chute-bench-'))
    try {
      const flags = ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', folder]
      const chute = await startChute(kafka.brokers[0]!, {}, { flags })
      await load(`${chute.url}/v1/streams/metrics-realtime`, body, options.seconds)
      await chute.stop()
      rows.push({ request, shares: sharesOf(readProfile(folder)) })
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  return { rows }
}

/** The parts of Chrome's profile format that are used here. */
interface CpuProfile {
  readonly nodes: readonly ProfileNode[]
  readonly samples: readonly number[]
  readonly timeDeltas: readonly number[]
}

interface ProfileNode {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string }
  readonly children?: readonly number[]
}

/** The process has helper threads with profiles of their own: the longest is the main thread's. */
function readProfile(folder: string): CpuProfile {
  const profiles = readdirSync(folder).map(
    (file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile,
  )
  const [longest] = profiles.toSorted((a, b) => b.nodes.length - a.nodes.length)
  if (longest === undefined) throw new Error('Node wrote no profile')
  return longest
}

function sharesOf({ nodes, samples, timeDeltas }: CpuProfile): ProfileRow['shares'] {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const starting = idsOfStart(nodes, byId)
  const micros = Object.fromEntries(profileParts.map((part) => [part, 0])) as Record<ProfilePart, number>
  let total = 0
  samples.forEach((id, index) => {
    const part = starting.has(id) ? null : partOf(byId.get(id)!)
    if (part === null) return
    micros[part] += timeDeltas[index]!
    total += timeDeltas[index]!
  })
  const shares = profileParts.map((part) => [part, micros[part] / total])
  return Object.fromEntries(shares) as ProfileRow['shares']
}

/** What loads modules, and what they do while they are loaded, is not the work of a request. */
function idsOfStart(nodes: readonly ProfileNode[], byId: ReadonlyMap<number, ProfileNode>): Set<number> {
  const ids = new Set<number>()
  const mark = (node: ProfileNode): void => {
    ids.add(node.id)
    for (const child of node.children ?? []) mark(byId.get(child)!)
  }
  for (const node of nodes) if (node.callFrame.url.startsWith('node:internal/modules')) mark(node)
  return ids
}

function partOf({ callFrame: { functionName, url } }: ProfileNode): ProfilePart | null {
  if (functionName === '(idle)') return null
  if (functionName === '(garbage collector)') return 'garbage collector'
  if (url.startsWith('node:')) return 'node:http and streams'
  if (url.includes('/node_modules/fastify/') || url.includes('/node_modules/find-my-way/'))
    return 'Fastify and its router'
  if (url.includes('/events/')) return 'events'
  if (url.includes('/routes/') || url.includes('/metrics/')) return 'routes and metrics'
  if (url.includes('/kafka/') || url.includes('/node_modules/kafkajs/')) return 'producer'
  return functionName.startsWith('write') ? 'writing to sockets' : 'other native code'
}

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Who wrote the code that ran, in the order of the table. */
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

/** A function in a flame graph: its time, what it called included, as a share of all, 0 to 1. */
export interface Flame {
  readonly name: string
  readonly part: ProfilePart
  readonly share: number
  readonly children: readonly Flame[]
}

/** What a profile says: shares of what is no idling and no loading of modules. */
export interface ProfileSummary {
  readonly shares: Readonly<Record<ProfilePart, number>>
  readonly flames: readonly Flame[]
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

/** Reads what `node --cpu-prof` left in a folder. Helper threads have profiles of their own: the longest is the main thread's. */
export function summaryOfProfiles(folder: string): ProfileSummary {
  const profiles = readdirSync(folder).map(
    (file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile,
  )
  const [longest] = profiles.toSorted((a, b) => b.nodes.length - a.nodes.length)
  if (longest === undefined) throw new Error('Node wrote no profile')
  return summarize(longest)
}

function summarize({ nodes, samples, timeDeltas }: CpuProfile): ProfileSummary {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const starting = idsOfStart(nodes, byId)
  const micros = new Map<number, number>()
  const perPart = Object.fromEntries(profileParts.map((part) => [part, 0])) as Record<ProfilePart, number>
  let total = 0
  samples.forEach((id, index) => {
    const node = byId.get(id)!
    if (node.callFrame.functionName === '(idle)' || starting.has(id)) return
    const took = timeDeltas[index]!
    micros.set(id, (micros.get(id) ?? 0) + took)
    perPart[partOf(node)] += took
    total += took
  })
  const flameOf = (node: ProfileNode): Flame => {
    const children = (node.children ?? []).map((id) => flameOf(byId.get(id)!))
    const own = (micros.get(node.id) ?? 0) / total
    return {
      name: nameOf(node),
      part: partOf(node),
      share: children.reduce((sum, { share }) => sum + share, own),
      children: children
        .filter(({ share }) => share >= smallestFlame)
        .toSorted((one, other) => other.share - one.share),
    }
  }
  const shares = profileParts.map((part) => [part, perPart[part] / total])
  return {
    shares: Object.fromEntries(shares) as ProfileSummary['shares'],
    flames: flameOf(nodes[0]!).children,
  }
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

function nameOf({ callFrame: { functionName, url } }: ProfileNode): string {
  const file = url.split('/').at(-1)!
  const name = functionName === '' ? '(anonymous)' : functionName
  return file === '' ? name : `${name} ${file}`
}

function partOf({ callFrame: { functionName, url } }: ProfileNode): ProfilePart {
  if (functionName === '(garbage collector)') return 'garbage collector'
  if (url.startsWith('node:')) return 'node:http and streams'
  if (url.includes('/node_modules/fastify/') || url.includes('/node_modules/find-my-way/'))
    return 'Fastify and its router'
  if (url.includes('/events/')) return 'events'
  if (url.includes('/routes/') || url.includes('/metrics/')) return 'routes and metrics'
  if (url.includes('/kafka/') || url.includes('/node_modules/kafkajs/')) return 'producer'
  return functionName.startsWith('write') ? 'writing to sockets' : 'other native code'
}

/** What is less is too narrow to be seen. */
const smallestFlame = 0.005

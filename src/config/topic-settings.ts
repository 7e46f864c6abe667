import { z } from 'zod'
import { isMap } from './read-fields.ts'
import { flawOfPointer } from './record-settings.ts'
import { quote, reference, refuseIf, type Flaw } from './setting.ts'

/** The names of topics, and the choice of a topic by an event's content. */

/** The reason why Kafka does not take a text as the name of a topic (`Topic.validate`); null if Kafka takes it. */
export function flawOfTopic(name: string): Flaw | null {
  if (/^[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== '.' && name !== '..') return null
  return {
    problem: `is ${quote(name)}, which Kafka does not take as the name of a topic`,
    remedy: 'Give 1 to 249 letters, digits, dots, dashes and underscores, and not only . or ..',
  }
}

/** The name of a topic. */
export function topic() {
  const meta = { give: 'the name of a topic, in quotes if it looks like a number', takes: "a topic's name" }
  return z.string().check(refuseIf(flawOfTopic)).register(reference, meta)
}

const example = '{ by: /type, map: { click: web-clicks, view: web-views }, else: web-other }'

/** `topics:` of a stream. */
export const topicsByContent = z
  .record(z.string(), z.unknown())
  .check(refuseIf(flawOfTopics))
  .pipe(
    z.object({
      by: z.templateLiteral(['/', z.string()]),
      map: z.record(z.string(), z.string()),
      else: z.string(),
    }),
  )
  .register(reference, {
    give: `a map: ${example}`,
    takes: '`by`, a JSON pointer; `map`, the topic of each value; `else`, the topic of all other events',
  })

function flawOfTopics(topics: Readonly<Record<string, unknown>>): Flaw | null {
  const { by, map, else: other, ...unknown } = topics
  const [unknownKey] = Object.keys(unknown)
  if (unknownKey !== undefined) return { problem: `has ${quote(unknownKey)}`, remedy: `Give ${example}.` }
  if (typeof by !== 'string' || !by.startsWith('/'))
    return { problem: `has by, which is ${quote(by)}`, remedy: 'Give a JSON pointer into the event: /type.' }
  const pointer = flawOfPointer(by)
  if (pointer !== null) return { problem: `has by, which ${pointer.problem}`, remedy: pointer.remedy }
  if (!isMap(map) || Object.keys(map).length === 0)
    return { problem: `has map, which is ${quote(map)}`, remedy: `Give the topic of each value: ${example}.` }
  return flawOfMap(map, other)
}

function flawOfMap(map: Readonly<Record<string, unknown>>, other: unknown): Flaw | null {
  const entries = [
    ...Object.entries(map).map(([value, to]) => [`map.${value}`, to] as const),
    ['else', other] as const,
  ]
  for (const [place, to] of entries) {
    const flaw =
      typeof to === 'string'
        ? flawOfTopic(to)
        : {
            problem: `is ${quote(to)}`,
            remedy: 'Give the name of a topic, in quotes if it looks like a number.',
          }
    if (flaw !== null)
      return { problem: `has ${place.slice(0, 80)}, which ${flaw.problem}`, remedy: flaw.remedy }
  }
  const count = new Set(entries.map(([, to]) => to)).size
  if (count <= maxTopics && entries.length <= maxValues + 1) return null
  return {
    problem: `names ${count} topics for ${entries.length - 1} values`,
    remedy: `Give ${maxTopics} topics and ${maxValues} values at most: each topic has connections to its brokers.`,
  }
}

/** Each topic has batches of its own. */
const maxTopics = 16
const maxValues = 256

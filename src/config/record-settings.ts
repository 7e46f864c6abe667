import type { RecordHeaderSource, RecordKeySource } from './config.ts'
import { isMap } from './read-fields.ts'
import { quote, Refusal, setting } from './setting.ts'

/** What goes into a record besides the event: see docs/records.md. */

/** `key:` of a stream. */
export function recordKey() {
  return setting<RecordKeySource>((value) => {
    if (value === 'source' || value === 'none') return value
    if (typeof value === 'string' && value.startsWith('/'))
      return flawOfPointer(value) ?? (value as `/${string}`)
    const header = typeof value === 'string' ? headerOf(value) : null
    if (header !== null) return header
    return new Refusal(
      `is ${quote(value)}`,
      'Give source, none, a JSON pointer into the event such as /user/id, or a header of the request such as header:x-device.',
    )
  })
}

/** `headers:` of a stream. */
export function recordHeaders() {
  return setting<Readonly<Record<string, RecordHeaderSource>>>((value) => {
    if (!isMap(value))
      return new Refusal(`is ${quote(value)}`, `Give a map: { tenant: key:name }. ${sources}`)
    const entries = Object.entries(value)
    if (entries.length > maxHeaders)
      return new Refusal(
        `has ${entries.length} headers`,
        `Give ${maxHeaders} at most: each record carries all of them.`,
      )
    const headers: Record<string, RecordHeaderSource> = {}
    for (const [name, source] of entries) {
      if (!/^[\x21-\x7e]{1,64}$/.test(name) || /^(?:chute-audit$|__chute\.)/.test(name))
        return new Refusal(
          `has ${quote(name)}, which cannot be the name of a header`,
          'Give 1 to 64 visible ASCII characters. chute-audit and __chute.… are names of Chute.',
        )
      const read = headerSource(source)
      if (read instanceof Refusal) return new Refusal(`has ${name}, which ${read.problem}`, read.remedy)
      headers[name] = read
    }
    return headers
  })
}

function headerSource(value: unknown): RecordHeaderSource | Refusal {
  const word = words.find((each) => each === value)
  if (word !== undefined) return word
  const header = typeof value === 'string' ? headerOf(value) : null
  return header ?? new Refusal(`is ${quote(value)}`, sources)
}

const words = ['key:name', 'client:address', 'client:address/24', 'time'] as const
const sources =
  'Give header:NAME (a header of the request), key:name (the name of its key), client:address/24 (the network of the client), client:address (the whole address) or time (when it was received, in ms).'
/** Every record of a request carries its headers. */
const maxHeaders = 16

/** A source `header:NAME`, with the name in lower case; null for another text. */
function headerOf(text: string): `header:${string}` | Refusal | null {
  if (!text.startsWith('header:')) return null
  const name = text.slice('header:'.length).trim().toLowerCase()
  // A token (RFC 9110, section 5.6.2).
  if (!/^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(name))
    return new Refusal(
      `is ${quote(text)}, which names no header`,
      'Give the name of a header: header:x-device.',
    )
  if (!secretHeaders.has(name)) return `header:${name}`
  return new Refusal(
    `is ${quote(text)}, a header that lets a client in: whoever reads the topic could use it`,
    'Give another header.',
  )
}

/** Headers by which a client shows who it is. They are never written to Kafka. */
const secretHeaders: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'proxy-authorization',
  'set-cookie',
  'x-chute-key',
])

/** Each step makes another pass over the value that it leads into. */
const maxSteps = 16

/** The reason why a text is no JSON pointer that Chute follows (RFC 6901); null if it is one. */
function flawOfPointer(pointer: string): Refusal | null {
  const steps = pointer.split('/').length - 1
  if (!/~(?![01])/.test(pointer) && steps <= maxSteps && pointer.length <= 255) return null
  return new Refusal(
    `is ${quote(pointer)}, which is no JSON pointer that can be followed`,
    `Give up to ${maxSteps} steps and 255 characters: /user/id. In a name, ~ is written ~0, and / is written ~1 (RFC 6901).`,
  )
}

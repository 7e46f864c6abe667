import type { RecordKeySource } from './config.ts'
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

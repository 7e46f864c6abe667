import { z } from 'zod'
import { plainHeaderSources, plainKeySources } from './record-sources.ts'
import { asCode, flawOf, quote, reference, refuseIf, wordsWithMeanings, type Flaw } from './setting.ts'

/** What goes into a record besides the event: see docs/records.md. */

/** A source `header:NAME`. The name is kept in lower case. */
const header = z
  .templateLiteral(['header:', z.string()])
  .transform((text) => `header:${nameOf(text)}` as const)

/** `key:` of a stream. */
export const recordKey = z
  .string()
  .check(refuseIf((text) => (text.startsWith('/') ? flawOfPointer(text) : flawOfHeader(text))))
  .pipe(z.union([z.enum(plainKeySources), z.templateLiteral(['/', z.string()]), header]))
  .register(reference, {
    give: `${plainKeySources.join(', ')}, a JSON pointer into the event such as /user/id, or a header of the request such as header:x-device`,
    takes: `${asCode(plainKeySources)}, a JSON pointer such as \`/user/id\`, or \`header:NAME\``,
  })

const plainHeaders = Object.keys(plainHeaderSources) as (keyof typeof plainHeaderSources)[]
const sourceWords = ['header:NAME', ...plainHeaders]
const sources = wordsWithMeanings({ 'header:NAME': 'a header of the request', ...plainHeaderSources })

const headerSource = z
  .string()
  .check(refuseIf(flawOfHeader))
  .pipe(z.union([z.enum(plainHeaders), header]))
  .register(reference, { give: sources })

/** Every record of a request carries its headers. */
const maxHeaders = 16

/** `headers:` of a stream. */
export const recordHeaders = z
  .record(z.string(), z.unknown())
  .check(refuseIf(flawOfHeaders))
  .pipe(z.record(z.string(), headerSource))
  .register(reference, {
    give: `a map: { tenant: key:name }. Give ${sources}`,
    takes: `a map of up to ${maxHeaders} names, each with ${asCode(sourceWords.slice(0, -1))} or ${asCode(sourceWords.slice(-1))}`,
  })

function flawOfHeaders(map: Readonly<Record<string, unknown>>): Flaw | null {
  const entries = Object.entries(map)
  if (entries.length > maxHeaders) {
    return {
      problem: `has ${entries.length} headers`,
      remedy: `Give ${maxHeaders} at most: each record carries all of them.`,
    }
  }
  for (const [name, source] of entries) {
    if (!/^[\x21-\x7e]{1,64}$/.test(name) || /^(?:chute-audit$|__chute\.)/.test(name)) {
      return {
        problem: `has ${quote(name)}, which cannot be the name of a header`,
        remedy: 'Give 1 to 64 visible ASCII characters. chute-audit and __chute.… are names of Chute.',
      }
    }
    const issue = headerSource.safeParse(source).error?.issues[0]
    if (issue === undefined) continue
    const { problem, remedy } = flawOf(source, headerSource, issue)
    return { problem: `has ${name}, which ${problem}`, remedy }
  }
  return null
}

/** The reason why a source `header:NAME` cannot be used; null if it can, and for all other sources. */
function flawOfHeader(text: string): Flaw | null {
  if (!text.startsWith('header:')) return null
  const name = nameOf(text)
  // A token (RFC 9110, section 5.6.2).
  if (!/^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(name)) {
    return {
      problem: `is ${quote(text)}, which names no header`,
      remedy: 'Give the name of a header: header:x-device.',
    }
  }
  if (!secretHeaders.has(name)) return null
  return {
    problem: `is ${quote(text)}, a header that lets a client in: whoever reads the topic could use it`,
    remedy: 'Give another header.',
  }
}

function nameOf(text: string): string {
  return text.slice('header:'.length).trim().toLowerCase()
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
export function flawOfPointer(pointer: string): Flaw | null {
  const steps = pointer.split('/').length - 1
  if (!/~(?![01])/.test(pointer) && steps <= maxSteps && pointer.length <= 255) return null
  return {
    problem: `is ${quote(pointer)}, which is no JSON pointer that can be followed`,
    remedy: `Give up to ${maxSteps} steps and 255 characters: /user/id. In a name, ~ is written ~0, and / is written ~1 (RFC 6901).`,
  }
}

import type { ErrorCode } from '../errors.ts'

/** Why a value that is valid JSON must not be passed on: see {@link findFlaw}. */
export type JsonFlaw = 'too_deep' | 'proto_key' | 'constructor_prototype'

/**
 * Looks for content that could harm a consumer of the event: nesting deeper than `depth` levels, an own key `__proto__`, and `constructor` with
 * a `prototype` in it. The bytes are passed on as they came. A consumer that merges such an object into another one would pollute its
 * prototypes. Keys with escapes are found, too, since this looks at the parsed value.
 *
 * Recursion is bounded by `depth`.
 * @param depth the most levels that objects and arrays may nest. `{}` has one level.
 */
export function findFlaw(value: unknown, depth: number): JsonFlaw | null {
  return typeof value === 'object' && value !== null ? findFlawIn(value, depth) : null
}

function findFlawIn(value: object, depth: number): JsonFlaw | null {
  if (depth === 0) return 'too_deep'
  if (Array.isArray(value)) {
    const items: readonly unknown[] = value
    for (const item of items) {
      if (typeof item !== 'object' || item === null) continue
      const flaw = findFlawIn(item, depth - 1)
      if (flaw !== null) return flaw
    }
    return null
  }
  const members = value as Readonly<Record<string, unknown>>
  // JSON.parse makes plain objects, which inherit nothing enumerable. So `for in` sees only own keys, and it is the fastest way.
  for (const key in members) {
    if (key === '__proto__') return 'proto_key'
    const member = members[key]
    if (typeof member !== 'object' || member === null) continue
    if (key === 'constructor' && Object.hasOwn(member, 'prototype')) return 'constructor_prototype'
    const flaw = findFlawIn(member, depth - 1)
    if (flaw !== null) return flaw
  }
  return null
}

/** The code of an event that has a {@link JsonFlaw}. */
export const codeOfFlaw: Readonly<Record<JsonFlaw, ErrorCode>> = {
  too_deep: 'too_deep',
  proto_key: 'invalid_event',
  constructor_prototype: 'invalid_event',
}

/** A {@link JsonFlaw} in words, for the `detail` of an error. */
export function describeFlaw(flaw: JsonFlaw, depth: number): string {
  switch (flaw) {
    case 'too_deep':
      return `nests deeper than ${depth} levels`
    case 'proto_key':
      return 'has a key "__proto__", which is refused for the safety of consumers'
    case 'constructor_prototype':
      return 'has a "prototype" inside a "constructor", which is refused for the safety of consumers'
  }
}

/**
 * Writes a path as a JSON pointer (RFC 6901, section 3): `['labels', 'a/b']` is `/labels/a~1b`. The empty pointer is the whole value. The
 * pointer ends before a very long step, and then points to the value that has that step.
 */
export function toJsonPointer(path: readonly PropertyKey[]): string {
  let pointer = ''
  for (const step of path) {
    const text = String(step)
    if (pointer.length + text.length > maxPointerLength) break
    pointer += `/${text.replaceAll('~', '~0').replaceAll('/', '~1')}`
  }
  return pointer
}

/** A pointer that is not too long. A long pointer is cut, and then points to a value around its target. */
export function shortPointer(pointer: string): string {
  if (pointer.length <= maxPointerLength) return pointer
  return pointer.slice(0, pointer.lastIndexOf('/', maxPointerLength))
}

/** A key can have as many characters as an event, and a pointer to it goes into replies, log lines and headers. */
const maxPointerLength = 1_024

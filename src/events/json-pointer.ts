/**
 * Writes a path as a JSON pointer (RFC 6901, section 3): `['labels', 'a/b']` is `/labels/a~1b`, the whole is the empty
 * string. It ends before a very long step, and points to the value that holds it.
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

/** A pointer that is not long: of a long one, what points to the value that holds a part of it. */
export function shortPointer(pointer: string): string {
  if (pointer.length <= maxPointerLength) return pointer
  return pointer.slice(0, pointer.lastIndexOf('/', maxPointerLength))
}

/** A key can have as many characters as an event, and a pointer to it is told, logged, and put into a header. */
const maxPointerLength = 1_024

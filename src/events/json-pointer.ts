/**
 * Writes a path as a JSON pointer (RFC 6901, section 3): `['labels', 'a/b']` is `/labels/a~1b`, the whole is the empty
 * string.
 */
export function toJsonPointer(path: readonly PropertyKey[]): string {
  return path.map((step) => `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}

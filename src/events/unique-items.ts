import type { Ajv, SchemaValidateFunction } from 'ajv'

/**
 * Gives a compiler a `uniqueItems` (JSON Schema Validation 2020-12, section 6.4.3) that looks at each item once. Ajv's own compares
 * each item with each other one, unless the schema names a scalar type of the items: for the 16,000 items of 32 KB that is a second.
 * @param onAsked is called whenever a schema is compiled that asks for unique items.
 */
export function useUniqueItems(compiler: Ajv, onAsked: () => void = () => {}): void {
  compiler.removeKeyword('uniqueItems')
  const judge: SchemaValidateFunction = (items: readonly unknown[]) => {
    const pair = findSame(items)
    if (pair === null) return true
    const [one, other] = pair
    const message = `must NOT have duplicate items (items ## ${one} and ${other} are identical)`
    judge.errors = [{ keyword: 'uniqueItems', message, params: { i: other, j: one } }]
    return false
  }
  const compile = (isAsked: boolean): SchemaValidateFunction => {
    if (!isAsked) return () => true
    onAsked()
    return judge
  }
  compiler.addKeyword({ keyword: 'uniqueItems', type: 'array', schemaType: 'boolean', compile })
}

/** Places of two items that are the same, or null. */
function findSame(items: readonly unknown[]): [number, number] | null {
  const met = new Set<unknown>()
  for (let place = 0; place < items.length; place++) {
    const identity = identityOf(items[place])
    met.add(identity)
    if (met.size === place + 1) continue
    return [items.findIndex((item) => identityOf(item) === identity), place]
  }
  return null
}

/** What two values have in common that are the same, and no others. */
function identityOf(value: unknown): unknown {
  // A mark tells the text of an object from a text.
  if (typeof value === 'object' && value !== null) return `{${canonical(value)}`
  return typeof value === 'string' ? `"${value}` : value
}

/** JSON with the members of each object in one order, and one zero. */
function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  const members = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1))
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(',')}}`
}

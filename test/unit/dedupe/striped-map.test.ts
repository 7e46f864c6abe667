import { describe, expect, it } from 'vitest'
import { array, assert, constantFrom, nat, oneof, option, property, record, string } from 'fast-check'
import { StripedMap } from '../../../src/dedupe/striped-map.ts'

describe('StripedMap', () => {
  it('holds what a Map holds, whatever is set and deleted', () => {
    const keys = oneof(string({ maxLength: 3 }), constantFrom('', 'e1:a', 'e1:b', 'é', '😀'))
    const changes = array(record({ key: keys, value: option(nat(), { nil: null }) }), { maxLength: 200 })
    assert(
      property(changes, (some) => {
        const map = new Map<string, number>()
        const striped = new StripedMap<number>()
        for (const { key, value } of some) {
          if (value === null) expect(striped.delete(key)).toBe(map.delete(key))
          else {
            map.set(key, value)
            striped.set(key, value)
          }
          expect(striped.size).toBe(map.size)
        }
        for (const { key } of some) expect(striped.get(key)).toBe(map.get(key))
      }),
    )
  })
})

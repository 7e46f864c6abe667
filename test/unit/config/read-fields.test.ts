import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { environmentShape } from '../../../src/config/environment-schema.ts'
import { nearestKey, nearestName } from '../../../src/config/read-fields.ts'
import { producerShape } from '../../../src/config/producer-schema.ts'

const keys = Object.keys(producerShape)

test.each([
  ['lingerMs', 'linger.ms'],
  ['LINGER_MS', 'linger.ms'],
  ['ack', 'acks'],
  ['compression', 'compression.type'],
  ['linger', 'linger.ms'],
  ['bufer.memory', 'buffer.memory'],
])('%s is taken for %s', (unknown, meant) => {
  expect(nearestKey(unknown, keys)).toBe(meant)
})

test.each(['x', 'client.rack', 'transactional.id'])('%s is taken for nothing', (unknown) => {
  expect(nearestKey(unknown, keys)).toBeNull()
})

test('a name that lacks one letter is found, or another as near', () => {
  const names = Object.keys(environmentShape)
  const name = fc.constantFrom(...names.filter((each) => each.length > 8))
  fc.assert(
    fc.property(name, fc.nat(), (whole, at) => {
      const index = at % whole.length
      expect(names).toContain(nearestName(whole.slice(0, index) + whole.slice(index + 1), names))
    }),
  )
})

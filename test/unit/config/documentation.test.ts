import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { consumerShape } from '../../../src/config/consumer-settings.ts'
import { environmentShape } from '../../../src/config/environment-schema.ts'
import { producerShape } from '../../../src/config/producer-schema.ts'
import { streamShape } from '../../../src/config/stream-schema.ts'

const tableRows = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => line.split(' | ')[0] ?? '')

const shapes = [environmentShape, streamShape, producerShape, consumerShape]

test.each(shapes.flatMap((shape) => Object.keys(shape)))('docs/configuration.md has a row for %s', (name) => {
  expect(tableRows.filter((row) => row.includes(`\`${name}\``))).not.toEqual([])
})

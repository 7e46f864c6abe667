import { expect, test } from 'vitest'
import { readPreferences } from '../../../../src/routes/ingest/prefer.ts'

test.each([
  [undefined, { strict: false, minimal: false, waitSeconds: null, applied: null }],
  ['handling=strict', { strict: true, applied: 'handling=strict' }],
  ['handling=lenient', { strict: false, applied: 'handling=lenient' }],
  ['return=minimal', { minimal: true, applied: 'return=minimal' }],
  ['return=representation', { minimal: false, applied: null }],
  ['wait=5', { waitSeconds: 5, applied: 'wait=5' }],
  ['wait=0', { waitSeconds: 0, applied: 'wait=0' }],
  ['wait=3600', { waitSeconds: 30, applied: 'wait=30' }],
  ['Handling="STRICT" ; x=1 , Return = minimal,wait=2', { strict: true, minimal: true, waitSeconds: 2 }],
  [['handling=strict', 'return=minimal'], { strict: true, minimal: true }],
  ['wait=1, wait=9', { waitSeconds: 1 }],
  ['wait=-1', { waitSeconds: null }],
  ['wait=1.5', { waitSeconds: null }],
  ['wait', { waitSeconds: null }],
  ['wait=1e3', { waitSeconds: null }],
  [',,=,;=', { applied: null }],
  ['__proto__=strict', { strict: false, applied: null }],
])('the header %j is read as %j', (header, preferences) => {
  expect(readPreferences(header)).toMatchObject(preferences)
})

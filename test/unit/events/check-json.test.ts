import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { describeBadJson, JsonCheck } from '../../../src/events/check-json.ts'
import { findFlaw } from '../../../src/events/json-flaw.ts'
import { casesOf } from '../../support/forms.ts'

const check = new JsonCheck()

/** Texts that are JSON, and texts that are nearly so: one character changed, left out or put in. */
const jsonText = fc
  .tuple(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(0, 1, 2))
  .map(([value, indent]) => JSON.stringify(value, null, indent))
const nearlyJson = fc
  .tuple(jsonText, fc.nat(), fc.constantFrom('', ...'{}[]",:\\0-.eE+tfn \n\u0000é'.split('')), fc.boolean())
  .map(([text, place, piece, isReplaced]) => {
    const at = place % (text.length + 1)
    return text.slice(0, at) + piece + text.slice(isReplaced ? at + 1 : at)
  })

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** As the routes read a body: without the white space around it, and whole. */
function reads(text: string): boolean {
  const body = Buffer.from(text.replaceAll(/^[ \t\r\n]+|[ \t\r\n]+$/g, ''))
  return check.read(body, 0, body.length) && check.at === body.length
}

describe('a check of bytes', () => {
  test('takes what JSON.parse takes, and nothing else', () => {
    fc.assert(
      fc.property(fc.oneof(jsonText, nearlyJson, fc.string()), (text) => {
        expect(reads(text)).toBe(isJson(text))
      }),
      { numRuns: casesOf(5_000) },
    )
  })

  test.each([
    '1e5',
    '-0',
    '0.5E-3',
    '01',
    '1.',
    '.5',
    '-',
    '+1',
    '1e',
    'NaN',
    'truex',
    '"\\u12g4"',
    '"\t"',
    '',
  ])('judges %j as JSON.parse does', (text) => expect(reads(text)).toBe(isJson(text)))

  test('counts the levels and finds the forbidden keys that findFlaw finds', () => {
    const key = fc.constantFrom('a', '__proto__', 'constructor', 'prototype')
    const { value } = fc.letrec<{ value: string }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 5, depthIdentifier: 'nesting' },
        fc.constant('1'),
        fc
          .uniqueArray(fc.tuple(key, tie('value')), { selector: ([name]) => name, maxLength: 3 })
          .map((members) => `{${members.map(([name, text]) => `${escapedOr(name)}:${text}`).join(',')}}`),
        fc.array(tie('value'), { maxLength: 3 }).map((items) => `[${items.join(', ')}]`),
      ),
    }))
    fc.assert(
      fc.property(value, fc.integer({ min: 1, max: 6 }), (text, depth) => {
        expect(reads(text)).toBe(true)
        const isFlawed = check.flaw !== null || check.levels > depth
        expect(isFlawed).toBe(findFlaw(JSON.parse(text), depth) !== null)
      }),
      { numRuns: casesOf(3_000) },
    )
  })

  test('reads in slices what it reads in one go', () => {
    fc.assert(
      fc.property(fc.oneof(jsonText, nearlyJson), fc.integer({ min: 1, max: 9 }), (text, sliceBytes) => {
        const body = Buffer.from(text)
        const isWhole = check.read(body, 0, body.length)
        const { at, levels, nodes, scalars, flaw } = check
        const sliced = new JsonCheck()
        sliced.begin(0)
        let result = sliced.readOn(body, body.length, sliceBytes)
        while (result === 'paused') result = sliced.readOn(body, body.length, sliced.at + sliceBytes)
        expect({ result, at: sliced.at }).toEqual({ result: isWhole ? 'whole' : 'broken', at })
        const { levels: l, nodes: n, scalars: s, flaw: f } = sliced
        if (isWhole) expect([l, n, s, f]).toEqual([levels, nodes, scalars, flaw])
      }),
      { numRuns: casesOf(3_000) },
    )
  })

  test.each([
    ['key', `{"${'é'.repeat(500)}":1}`],
    ['text', `["${String.raw`\u0041`.repeat(200)}"]`],
    ['number', `[-${'1'.repeat(500)}.${'2'.repeat(500)}e-${'3'.repeat(500)}]`],
    ['piece of white space', '{ "a" : [ 1 , { } , [ ] ] , "b" : "c" }'.replaceAll(' ', ' \n\r\t'.repeat(50))],
  ])('pauses in the midst of a long %s', (_, text) => {
    const body = Buffer.from(text)
    const sliced = new JsonCheck()
    sliced.begin(0)
    let longest = 0
    for (let before = 0; sliced.readOn(body, body.length, before + 20) === 'paused'; before = sliced.at)
      longest = Math.max(longest, sliced.at - before)
    expect(sliced.at).toBe(body.length)
    // An escape has six bytes, and is read whole.
    expect(longest).toBeLessThan(20 + 6)
  })

  test.each([
    '{ "a" : [ 1 , { } , [ ] , "t" , -1.5e3 ] , "b" : { "c" : null } }',
    '[ [ ] , { } , true',
    '{ "a" x',
    '{ "a" :',
    '{ "a" : 1 ; }',
    '{ x',
    '[ x',
    '[ 1 , ]',
    '[',
  ])('reads %j in slices of any size, with white space between all of its parts', (text) => {
    for (const blanks of ['', ' ', '\n\t', '   \r\n  ']) {
      const body = Buffer.from(text.replaceAll(' ', blanks))
      const result = check.read(body, 0, body.length) ? 'whole' : 'broken'
      const { at, levels, nodes, scalars } = check
      for (let sliceBytes = 1; sliceBytes <= body.length + 1; sliceBytes++) {
        const sliced = new JsonCheck()
        sliced.begin(0)
        let found = sliced.readOn(body, body.length, sliceBytes)
        while (found === 'paused') found = sliced.readOn(body, body.length, sliced.at + sliceBytes)
        expect({ found, at: sliced.at }).toEqual({ found: result, at })
        if (result === 'whole')
          expect([sliced.levels, sliced.nodes, sliced.scalars]).toEqual([levels, nodes, scalars])
      }
    }
  })

  test('ends where the value ends, and not beyond the given end', () => {
    const body = Buffer.from('{"a":1} [2')
    expect(check.read(body, 0, body.length)).toBe(true)
    expect(check.at).toBe(7)
    expect(check.read(Buffer.from('{\n}'), 0, 1)).toBe(false)
    expect(check.at).toBe(1)
  })

  test.each([
    ['{"a":nan}', '"nan" at byte 5 is not JSON; JSON has no NaN and no Infinity'],
    ['{"a":1,}', '"}" at byte 7 is not JSON'],
    ['{"a":1', 'ends at byte 6, in the midst of a value'],
    ["{'a':1}", '"\'" at byte 1 is not JSON'],
    ['{"a":é}', '"é" at byte 5 is not JSON'],
  ])('says where %s stops to be JSON', (text, words) => {
    const body = Buffer.from(text)
    expect(check.read(body, 0, body.length)).toBe(false)
    expect(describeBadJson(body, check.at, body.length, 0)).toBe(words)
  })
})

/** Half of the keys with an escape in them. */
function escapedOr(name: string): string {
  return name.length % 2 === 0
    ? JSON.stringify(name)
    : `"\\u00${name.charCodeAt(0).toString(16)}${name.slice(1)}"`
}

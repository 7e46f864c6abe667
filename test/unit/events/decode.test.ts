import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BodyKind } from '../../../src/events/content-type.ts'
import { decodeEvents, type EventSink } from '../../../src/events/decode.ts'
import { EventBatch } from '../../../src/events/event-batch.ts'
import { compileEventSchema } from '../../../src/events/event-schema.ts'
import { GatewayError } from '../../../src/errors.ts'

/** What a body decodes to: for each event its bytes as text, its value, or the detail of its error. */
interface Decoded {
  readonly texts: string[]
  readonly values: unknown[]
  readonly errors: string[]
}

function decode(body: Buffer | string, kind: Exclude<BodyKind, 'unsupported'>): Decoded {
  const bytes = Buffer.from(body)
  const decoded: Decoded = { texts: [], values: [], errors: [] }
  const sink: EventSink = {
    scan: () => -1,
    scanned: () => {},
    restart: () => {},
    event(value, start, end) {
      decoded.values.push(value)
      decoded.texts.push(bytes.toString('utf8', start, end))
    },
    largeEvent(_check, start, end) {
      const text = bytes.toString('utf8', start, end)
      decoded.values.push(JSON.parse(text))
      decoded.texts.push(text)
      return undefined
    },
    invalidJson: (_start, _end, tell) => decoded.errors.push(tell()),
  }
  decodeEvents(bytes, kind, sink)
  return decoded
}

function codeOf(body: Buffer | string, kind: Exclude<BodyKind, 'unsupported'>): string {
  return errorOf(body, kind)?.code ?? 'none'
}

function errorOf(body: Buffer | string, kind: Exclude<BodyKind, 'unsupported'>): GatewayError | null {
  try {
    decode(body, kind)
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
  return null
}

/** JSON texts of a value as clients write them: with and without spaces, escapes, and big numbers. */
const jsonText = fc
  .tuple(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(0, 1, 2), fc.boolean())
  .map(([value, indent, escaped]) => {
    const text = JSON.stringify(value, null, indent)
    return escaped
      ? text.replaceAll(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
      : text
  })
const whitespace = fc.string({ unit: fc.constantFrom(' ', '\n', '\t', '\r'), maxLength: 3 })
const isBatch = (text: string): boolean => text.startsWith('[')

describe('a single event', () => {
  test('is passed on byte for byte, without the whitespace around it', () => {
    fc.assert(
      fc.property(
        jsonText.filter((text) => !isBatch(text)),
        whitespace,
        whitespace,
        (text, before, after) => {
          const { texts, values } = decode(before + text + after, 'json')
          expect(texts).toEqual([text])
          expect(values).toEqual([JSON.parse(text)])
        },
      ),
    )
  })

  test('keeps integers that a double cannot hold, repeated keys and escapes', () => {
    const text = String.raw`{"n":12345678901234567890,"n":1.0e2,"s":"\u0041\/","é":"ü"}`
    expect(decode(text, 'json').texts).toEqual([text])
  })

  test('may follow a byte order mark', () => {
    expect(decode('\u{feff}{"a":1}', 'json').texts).toEqual(['{"a":1}'])
  })

  test('of which a key is repeated is judged by the last one', () => {
    expect(decode('{"a":1,"a":2}', 'json').values).toEqual([{ a: 2 }])
  })
})

describe('an array', () => {
  test('gives each element byte for byte, in order', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(whitespace, jsonText, whitespace), { minLength: 1 }),
        whitespace,
        (elements, around) => {
          const texts = elements.map(([, text]) => text)
          const body = `${around}[${elements.map((parts) => parts.join('')).join(',')}]${around}`
          const decoded = decode(body, 'json')
          expect(decoded.texts).toEqual(texts)
          expect(decoded.values).toEqual(texts.map((text) => JSON.parse(text) as unknown))
        },
      ),
    )
  })

  test('is not misled by brackets, quotes and commas in strings', () => {
    const texts = [String.raw`"]},\"[{\\"`, '{"a":"],["}', String.raw`"\\"`, '[1,[2]]', '""']
    expect(decode(`[${texts.join(' , ')}]`, 'json').texts).toEqual(texts)
  })

  test('without elements is an empty body', () => {
    expect(codeOf(' [ ] ', 'json')).toBe('empty_body')
  })

  test('that nests a million levels deep does not end the process', () => {
    const levels = 1_000_000
    expect(decode('['.repeat(levels) + ']'.repeat(levels), 'json').texts).toHaveLength(1)
    expect(codeOf('['.repeat(levels), 'json')).toBe('malformed_json')
  })
})

describe('a body that is not JSON', () => {
  const good = '{"name":"a","value":1}'
  // Below and above the size from which on an array is parsed element by element.
  test.each([1, 3_000])('is refused with the event and the byte, behind %d good ones', (count) => {
    const text = `[${`${good},`.repeat(count)}{"name":"t","value":nan}]`
    const byte = text.indexOf('nan')
    const error = errorOf(text, 'json')
    expect(error).toMatchObject({ code: 'malformed_json', extensions: { index: count, byte } })
    expect(error?.message).toContain(`event ${count}: "nan" at byte ${byte} is not JSON`)
    expect(error?.message).toContain('application/x-ndjson')
  })

  test.each([
    '[1,2',
    '[1,]',
    '[1 2]',
    '[1]]',
    '[,1]',
    '[',
    '[1,2}',
    '[1,2'.padEnd(40_000),
    `[${'1,'.repeat(20_000)}]`,
  ])('is refused wherever it ends: %.20s', (text) => expect(codeOf(text, 'json')).toBe('malformed_json'))

  test('is refused with the byte where it is one event', () => {
    expect(errorOf('{"a":1,}', 'json')).toMatchObject({ extensions: { byte: 7 } })
    expect(errorOf(`{"a":"${'x'.repeat(40_000)}",}`, 'json')).toMatchObject({ extensions: { byte: 40_008 } })
  })
})

describe('NDJSON', () => {
  const line = jsonText.map((text) => text.replaceAll('\n', ' '))
  const separator = fc.constantFrom('\n', '\r\n', '\n\n', '\n \t\r\n')

  test('gives each line byte for byte, without line ends and whitespace around it', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(line, separator), { minLength: 1 }), (lines) => {
        const texts = lines.map(([text]) => text)
        const decoded = decode(lines.map((parts) => parts.join('')).join(''), 'ndjson')
        expect(decoded.texts).toEqual(texts)
        expect(decoded.values).toEqual(texts.map((text) => JSON.parse(text) as unknown))
        expect(decoded.errors).toEqual([])
      }),
    )
  })

  test('says of a bad line where it stops to be JSON', () => {
    expect(decode('{"a":1}\n{"a":NaN}\n{"b"\n', 'ndjson').errors).toEqual([
      '"NaN" at byte 5 is not JSON; JSON has no NaN and no Infinity',
      'ends at byte 4, in the midst of a value',
    ])
  })

  test('makes a bad line the error of that line alone', () => {
    const { texts, errors } = decode('{"a":1}\n{"a":\n{"b":2}', 'ndjson')
    expect(texts).toEqual(['{"a":1}', '{"b":2}'])
    expect(errors).toHaveLength(1)
  })

  test('does not make one event of a value that goes over two lines', () => {
    expect(decode('{"a":1,\n"b":2}', 'ndjson').errors).toHaveLength(2)
  })

  test('takes no space but that of JSON: a no-break space is an error', () => {
    expect(decode('\u00a0{"a":1}', 'ndjson').errors).toHaveLength(1)
  })
})

describe('text whose type says nothing', () => {
  test.each(['text', 'form'] as const)('is NDJSON as %s if its first line is an object', (kind) => {
    const { texts, errors } = decode('{"a":1}\r\n{"b":2}\nx\n', kind)
    expect(texts).toEqual(['{"a":1}', '{"b":2}'])
    expect(errors).toHaveLength(1)
  })

  test('is JSON if it can be, over however many lines', () => {
    expect(decode('{\n"a":1\n}', 'text').texts).toEqual(['{\n"a":1\n}'])
  })

  test('with a syntax error is malformed, and not a list of bad lines', () => {
    expect(codeOf('{\n"a":1,\n}', 'text')).toBe('malformed_json')
    expect(codeOf('[\n1,\n', 'text')).toBe('malformed_json')
  })

  test('is not NDJSON as application/json, and the detail says what to send', () => {
    expect(() => decode('{"a":1}\n{"b":2}', 'json')).toThrow(/application\/x-ndjson/)
  })
})

describe('bytes that are no text', () => {
  test.each([
    ['a lone continuation byte', [0x22, 0x80, 0x22]],
    ['an overlong slash', [0x22, 0xc0, 0xaf, 0x22]],
    ['a surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['UTF-16', [0xff, 0xfe, 0x7b, 0x00]],
    ['a character cut off', [0x22, 0xe2, 0x82]],
  ])('are refused: %s', (_name, bytes) => {
    expect(codeOf(Buffer.from(bytes), 'json')).toBe('invalid_utf8')
    expect(codeOf(Buffer.from(bytes), 'ndjson')).toBe('invalid_utf8')
  })

  test.each(['', ' \r\n\t', '\u{feff}'])('are an empty body where there is nothing: %j', (body) => {
    expect(codeOf(body, 'json')).toBe('empty_body')
    expect(codeOf(body, 'ndjson')).toBe('empty_body')
  })

  test('never lead to anything but events or a coded error', () => {
    const kinds = fc.constantFrom('json', 'ndjson', 'text', 'form')
    fc.assert(
      fc.property(fc.uint8Array(), kinds, (bytes, kind) => {
        expect(codeOf(Buffer.from(bytes), kind as 'json')).toMatch(
          /^(none|empty_body|invalid_utf8|malformed_json)$/,
        )
      }),
    )
  })
})

describe('a body of a megabyte', () => {
  const bodyBytes = 1 << 20
  const sliceBytes = 8_192
  const schema = compileEventSchema('telemetry')
  const limits = { eventBytes: bodyBytes, eventsPerRequest: 10_000, depth: 32 }
  const filledWith = (text: string): string => text.repeat(bodyBytes / text.length)

  test.each<[string, string, 'json' | 'ndjson']>([
    ['brackets that open', filledWith('['), 'json'],
    [
      'brackets that open and close',
      filledWith('[').slice(bodyBytes / 2) + filledWith(']').slice(bodyBytes / 2),
      'json',
    ],
    ['empty objects', `{"name":"a","value":1,"x":[${filledWith('{},').slice(0, -1)}]}`, 'json'],
    ['members', `{"name":"a","value":1,"x":{${filledWith('"k":1,').slice(0, -1)}}}`, 'json'],
    ['members without a comma behind the last', `{${filledWith('"k":1,').slice(0, -1)}`, 'json'],
    ['one line', `{"name":"a","value":1,"x":[${filledWith('{},').slice(0, -1)}]}\n{"name":"a"}`, 'ndjson'],
    ['an element', `[{"name":"a","value":1},{"x":[${filledWith('{},').slice(0, -1)}]}]`, 'json'],
  ])('of %s is read in slices', (_name, text, kind) => {
    const body = Buffer.from(text)
    const batch = new EventBatch(body, { schema, limits, maxRecordBytes: bodyBytes * 2 })
    let slices = 1
    try {
      for (let left = decodeEvents(body, kind, batch, sliceBytes); left !== undefined; left = left()) slices++
    } catch (error) {
      expect(error).toMatchObject({ code: 'malformed_json' })
    }
    expect(slices).toBeGreaterThan(bodyBytes / sliceBytes / 2)
  })

  const blanks = ' \n'.repeat(bodyBytes / 2)
  const good = '{"name":"a","value":1}'
  test.each<[string, string, 'json' | 'ndjson']>([
    ['before an event', `${blanks}${good}`, 'json'],
    ['behind an event', `${good}${blanks}`, 'json'],
    ['and of nothing else', blanks, 'ndjson'],
    ['between two lines that are not JSON', `x${blanks}y`, 'ndjson'],
    ['between two lines', `${good}${blanks}${good}`, 'ndjson'],
    ['before the end of a good line', `${good}${filledWith(' ')}\n${good}`, 'ndjson'],
    ['before the end of a bad line', `x${filledWith(' ')}\n${good}`, 'ndjson'],
    ['in a line', `{"name":"a",${filledWith('\t')}"value":1}\n${good}`, 'ndjson'],
    ['in an event', `{"name":"a",${blanks}"value":1}`, 'json'],
    ['in an object', `{${blanks}}`, 'json'],
    ['behind the bracket of an array', `[${blanks}${good}]`, 'json'],
    ['before the bracket of an array', `[${good},"x"${blanks}]`, 'json'],
    ['before a comma', `[${good}${blanks},${good}]`, 'json'],
    ['behind a comma', `["x",${blanks}${good}]`, 'json'],
    ['in an array that is not JSON', `[${good},${blanks}`, 'json'],
  ])('of white space %s is gone over in slices, with the result of one go', (_name, text, kind) => {
    const body = Buffer.from(text)
    const read = (bytes: number): { slices: number; result: unknown } => {
      const batch = new EventBatch(body, { schema, limits, maxRecordBytes: bodyBytes * 2 })
      let slices = 1
      try {
        for (let left = decodeEvents(body, kind, batch, bytes); left !== undefined; left = left()) slices++
      } catch (error) {
        return { slices, result: error }
      }
      const places = Array.from({ length: batch.good }, (_, nth) => [
        batch.ranges.start(nth),
        batch.ranges.end(nth),
      ])
      return { slices, result: { places, received: batch.received, errors: batch.errors } }
    }
    const { slices, result } = read(sliceBytes)
    expect(result).toEqual(read(Infinity).result)
    expect(slices).toBeGreaterThanOrEqual(body.length / sliceBytes / 16)
    expect(read(1_000).result).toEqual(result)
  })

  test('of blank lines between two bad ones is gone over once', () => {
    const body = Buffer.from(`x\n${filledWith('\n')}y`)
    let scans = 0
    const errors: string[] = []
    const sink: EventSink = {
      scan: () => (scans++, -1),
      scanned: () => {},
      restart: () => {},
      event: () => {},
      largeEvent: () => undefined,
      invalidJson: (_start, _end, tell) => errors.push(tell()),
    }
    decodeEvents(body, 'ndjson', sink)
    expect({ scans, errors }).toEqual({
      scans: 2,
      errors: ['"x" at byte 0 is not JSON', '"y" at byte 0 is not JSON'],
    })
  })
})

test('a body of 20 KB is taken in slices, too, if it is an array of many small events, with the result of one go', () => {
  const body = Buffer.from(`[${'1,'.repeat(9_998)}{"name":"a","value":1}]`)
  const read = (bytes: number): { slices: number; result: unknown } => {
    const batch = new EventBatch(body, {
      schema: compileEventSchema('reports'),
      limits: { eventBytes: 1e6, eventsPerRequest: 10_000, depth: 32 },
      maxRecordBytes: 1e6,
    })
    let slices = 1
    for (let left = decodeEvents(body, 'json', batch, bytes); left !== undefined; left = left()) slices++
    return { slices, result: [batch.received, batch.rejectedByCode, batch.errors] }
  }
  const { slices, result } = read(8_192)
  expect(slices).toBeGreaterThan(30)
  expect(result).toEqual(read(Infinity).result)
  expect(result).toMatchObject([9_999, new Map([['invalid_event', 9_999]]), { length: 100 }])
})

import { describe, expect, test } from 'vitest'
import { bodyKindOf } from '../../../src/events/content-type.ts'

describe('bodyKindOf', () => {
  test.each([
    ['application/json', 'json'],
    ['Application/JSON; charset=UTF-8', 'json'],
    ['application/json;charset="utf-8"', 'json'],
    ['application/json;charset="u\\tf-8"', 'json'],
    ['application/json; profile="https://a.example/;charset=utf-16"', 'json'],
    ['application/json; profile="\\";charset=utf-16;\\""; charset=utf-8', 'json'],
    ['application/json; profile="a;b"; charset=utf-16', 'unsupported'],
    ['application/json; xcharset=utf-16', 'json'],
    ['application/json; a=b ;charset = utf-16', 'unsupported'],
    ['application/vnd.device+json', 'json'],
    ['application/reports+json', 'json'],
    ['application/csp-report', 'json'],
    ['application/x-ndjson', 'ndjson'],
    ['application/jsonl', 'ndjson'],
    ['text/plain;charset=UTF-8', 'text'],
    ['application/x-www-form-urlencoded', 'form'],
    [undefined, 'text'],
    ['', 'text'],
    ['image/png', 'unsupported'],
    ['multipart/form-data; boundary=x', 'unsupported'],
    ['application/json; charset=utf-16', 'unsupported'],
    ['application/json; charset=iso-8859-1', 'unsupported'],
    ['__proto__', 'unsupported'],
    [';;;', 'unsupported'],
  ])('reads %s as %s', (contentType, kind) => {
    expect(bodyKindOf(contentType)).toBe(kind)
    expect(bodyKindOf(contentType), 'the second time, from memory').toBe(kind)
  })
})

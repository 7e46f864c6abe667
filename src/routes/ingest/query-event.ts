import { isUtf8 } from 'node:buffer'
import { GatewayError } from '../../errors.ts'
import { keyParameter } from '../http/access-key.ts'

/** The most fields of a query or a form, empty ones between two ampersands included. It is more than an event with all its labels has. */
export const maxFields = 256

/**
 * Makes the JSON of an event of the fields of a query or a form (`application/x-www-form-urlencoded`, URL Standard, section 5.1). If `value` or
 * `timestamp` is a JSON number, it is in the JSON as it came. `labels.x` becomes the entry `x` of `labels`. All other fields become texts. If a
 * field is given twice, the last one counts. The schema of the stream judges the event later.
 * @throws GatewayError `too_many_fields`, or `invalid_utf8` with the name of the field.
 */
export function eventFromFields(fields: Buffer): Buffer {
  const event = new Map<string, string>()
  const labels = new Map<string, string>()
  let count = 0
  for (let start = 0; start < fields.length;) {
    // An empty field counts too: a form has room for a million of them.
    if (++count > maxFields) throw tooManyFields()
    const found = fields.indexOf(ampersand, start)
    const end = found === -1 ? fields.length : found
    if (end > start) {
      const equals = fields.subarray(start, end).indexOf(equalsSign)
      const nameEnd = equals === -1 ? end : start + equals
      const name = decoded(fields.subarray(start, nameEnd), null)
      const text = decoded(fields.subarray(Math.min(nameEnd + 1, end), end), name)
      if (name === keyParameter) {
        // It is the sender's key (policy/keys.ts), and must not be stored.
      } else if (name.startsWith('labels.')) labels.set(name.slice('labels.'.length), JSON.stringify(text))
      else event.set(name, isNumeric(name, text) ? text : JSON.stringify(text))
    }
    start = end + 1
  }
  // Beside a field of that name, which is no object, the labels are fields of their own, so that nothing is lost.
  if (event.has('labels')) for (const [name, json] of labels) event.set(`labels.${name}`, json)
  else if (labels.size > 0) event.set('labels', objectOf(labels))
  return Buffer.from(objectOf(event))
}

function objectOf(members: ReadonlyMap<string, string>): string {
  return `{${Array.from(members, ([name, json]) => `${JSON.stringify(name)}:${json}`).join(',')}}`
}

/** Whether a field is a JSON number (RFC 8259, section 6). `Number` would also accept '', ' 1', '0x1' and 'Infinity', and change the digits. */
function isNumeric(name: string, text: string): boolean {
  if (name !== 'value' && name !== 'timestamp') return false
  return /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text)
}

/** Decodes the percent encoding. A percent sign without two hexadecimal digits behind it stays as it is. */
function decoded(bytes: Buffer, field: string | null): string {
  const plain = Buffer.allocUnsafe(bytes.length)
  const text = plain.subarray(0, decodeInto(plain, bytes))
  if (isUtf8(text)) return text.toString()
  const what = field === null ? 'the name of a field' : `the field ${JSON.stringify(field.slice(0, 64))}`
  throw new GatewayError('invalid_utf8', `${what} is not UTF-8, percent-encoded`)
}

/** A field can be as large as a body, so this loop makes no object. @returns how many bytes were written. */
function decodeInto(plain: Buffer, bytes: Buffer): number {
  const last = bytes.length - 1
  let length = 0
  for (let at = 0; at <= last; at++) {
    let byte = bytes[at]!
    if (byte === plus) byte = 0x20
    else if (byte === percent && at + 1 < last) {
      // -1 in one of them makes the result negative.
      const escaped = (hexDigits[bytes[at + 1]!]! << 4) | hexDigits[bytes[at + 2]!]!
      if (escaped >= 0) {
        byte = escaped
        at += 2
      }
    }
    plain[length++] = byte
  }
  return length
}

/** The value of each byte that is a hexadecimal digit; of others -1. */
const hexDigits = Int8Array.from({ length: 256 }, (_, byte) => {
  const digit = Number.parseInt(String.fromCharCode(byte), 16)
  return Number.isNaN(digit) ? -1 : digit
})

function tooManyFields(): GatewayError {
  const detail = `a form or a query may have ${maxFields} fields; send events as JSON`
  return new GatewayError('too_many_fields', detail, { extensions: { limit: maxFields } })
}

const ampersand = 0x26
const equalsSign = 0x3d
const percent = 0x25
const plus = 0x2b

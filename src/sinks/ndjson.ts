import { isUtf8 } from 'node:buffer'
import type { ConsumedRecord } from '../kafka/consumer/consumer.ts'

/**
 * One record as one line of NDJSON, newline included:
 * `{"topic","partition","offset","timestamp","key","value","headers"}`.
 *
 * A value that is JSON is copied as it was written, so that big numbers keep their digits and their form. For another value
 * `valueEncoding` names the form: `utf8` (a text), `base64` (bytes), `none` (null: a tombstone). Keys and headers are texts.
 * Bytes that are no UTF-8 are `{"base64": "…"}`.
 */
export function ndjsonLine(record: ConsumedRecord): string {
  const { topic, partition, offset, timestampMs, key, headers } = record
  const headerTexts = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Buffer.isBuffer(value) ? text(value) : (value as Buffer[]).map(text),
    ]),
  )
  const head = JSON.stringify({
    topic,
    partition,
    offset,
    timestamp: timestampMs,
    key: key === null ? null : text(key),
  })
  return `${head.slice(0, -1)},${valueFields(record.value)},"headers":${JSON.stringify(headerTexts)}}\n`
}

function valueFields(value: Buffer | null): string {
  if (value === null) return '"value":null,"valueEncoding":"none"'
  if (!isUtf8(value)) return `"value":"${value.toString('base64')}","valueEncoding":"base64"`
  const written = value.toString()
  if (!isJson(written)) return `"value":${JSON.stringify(written)},"valueEncoding":"utf8"`
  // In JSON a line break can only stand between tokens, so a blank can take its place.
  return `"value":${written.replaceAll(/[\r\n]/g, ' ')}`
}

function isJson(written: string): boolean {
  try {
    JSON.parse(written)
    return true
  } catch {
    return false
  }
}

function text(bytes: Buffer): string | { base64: string } {
  return isUtf8(bytes) ? bytes.toString() : { base64: bytes.toString('base64') }
}

import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  auditValueBytes,
  readAuditMark,
  writeAuditMark,
} from '../../../../src/kafka/protocol/audit-header.ts'

test('any instance and sequence come back as they were written', () => {
  const instances = fc
    .uint8Array({ minLength: 6, maxLength: 6 })
    .map((bytes) => Buffer.from(bytes).toString('hex'))
  fc.assert(
    fc.property(instances, fc.integer({ min: 0, max: 2 ** 48 - 1 }), (instance, sequence) => {
      const value = writeAuditMark({ instance, sequence })
      expect(value).toHaveLength(auditValueBytes)
      expect(readAuditMark(value)).toEqual({ instance, sequence })
    }),
  )
})

test('another version, and a value of another length, are not read', () => {
  const value = writeAuditMark({ instance: '0123456789ab', sequence: 7 })
  expect(readAuditMark(value.subarray(0, 12))).toBeNull()
  expect(readAuditMark(Buffer.concat([value, Buffer.alloc(1)]))).toBeNull()
  value[0] = 2
  expect(readAuditMark(value)).toBeNull()
})

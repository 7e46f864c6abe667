import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  auditValueBytes,
  readAuditHeader,
  writeAuditHeader,
} from '../../../../src/kafka/protocol/audit-header.ts'

test('any instance and sequence come back as they were written', () => {
  const instances = fc
    .uint8Array({ minLength: 6, maxLength: 6 })
    .map((bytes) => Buffer.from(bytes).toString('hex'))
  fc.assert(
    fc.property(instances, fc.integer({ min: 0, max: 2 ** 48 - 1 }), (instance, sequence) => {
      const value = writeAuditHeader({ instance, sequence })
      expect(value).toHaveLength(auditValueBytes)
      expect(readAuditHeader(value)).toEqual({ instance, sequence })
    }),
  )
})

test('another version, and a value of another length, are not read', () => {
  const value = writeAuditHeader({ instance: '0123456789ab', sequence: 7 })
  expect(readAuditHeader(value.subarray(0, 12))).toBeNull()
  expect(readAuditHeader(Buffer.concat([value, Buffer.alloc(1)]))).toBeNull()
  value[0] = 2
  expect(readAuditHeader(value)).toBeNull()
})

/**
 * The header of records that are written under `audit: true`. It names the record's writer, and numbers the writer's records of the
 * partition. So a reader of the topic can tell which records are missing, repeated or out of order, without asking the writer.
 *
 * The value of `chute-audit` has 13 bytes: version (1 byte), instance (6 bytes, drawn at random at each start of a stream's producer), and
 * sequence (6 bytes, big-endian, from 0 on and without gaps, in the order of sending).
 *
 * The header has to be the last one of its record: `producer/record-headers.ts` writes the sequence at a fixed distance from the record's
 * end.
 */
export const auditHeaderKey = 'chute-audit'

/** A writer's name: 12 hexadecimal digits. */
export type AuditInstance = string

/** The content of the header. */
export interface AuditHeader {
  readonly instance: AuditInstance
  readonly sequence: number
}

/** Place of the sequence in the value. */
export const sequenceOffset = 7

/** Size of the value, in bytes. */
export const auditValueBytes = 13

/** Encodes the value of the header. */
export function writeAuditHeader({ instance, sequence }: AuditHeader): Buffer {
  const value = Buffer.alloc(auditValueBytes)
  value[0] = auditVersion
  value.write(instance, 1, 'hex')
  value.writeUIntBE(sequence, sequenceOffset, 6)
  return value
}

/** Decodes the value of the header. null if the value is not one of this version. */
export function readAuditHeader(value: Buffer): AuditHeader | null {
  if (value.length !== auditValueBytes || value[0] !== auditVersion) return null
  return {
    instance: value.toString('hex', 1, sequenceOffset),
    sequence: value.readUIntBE(sequenceOffset, 6),
  }
}

const auditVersion = 1

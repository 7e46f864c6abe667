/**
 * The header of a record that is written under `audit: true`: its writer, and its number among the records that this writer had for this
 * partition. From the headers a reader of the topic can tell which records are missing, repeated or out of order, without asking the
 * writer.
 *
 * `chute-audit`, 13 bytes: version (1), instance (6 bytes, drawn at random at each start of a stream's producer), and
 * sequence (6 bytes, big-endian, from 0 and without gaps, in the order of sending).
 *
 * The header has to be the last one of its record: `producer/record-headers.ts` writes the sequence at a fixed distance from the record's
 * end.
 */
export const auditHeaderKey = 'chute-audit'

/** A writer's name: 12 hexadecimal digits. */
export type AuditInstance = string

/** What the header says. */
export interface AuditHeader {
  readonly instance: AuditInstance
  readonly sequence: number
}

/** Where the sequence stands in the value. */
export const sequenceOffset = 7

/** Bytes of the value. */
export const auditValueBytes = 13

/** The value of the header. */
export function writeAuditHeader({ instance, sequence }: AuditHeader): Buffer {
  const value = Buffer.alloc(auditValueBytes)
  value[0] = auditVersion
  value.write(instance, 1, 'hex')
  value.writeUIntBE(sequence, sequenceOffset, 6)
  return value
}

/** Reads the value of the header; null if it is none of this version. */
export function readAuditHeader(value: Buffer): AuditHeader | null {
  if (value.length !== auditValueBytes || value[0] !== auditVersion) return null
  return {
    instance: value.toString('hex', 1, sequenceOffset),
    sequence: value.readUIntBE(sequenceOffset, 6),
  }
}

const auditVersion = 1

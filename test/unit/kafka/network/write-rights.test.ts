import { expect, test } from 'vitest'
import type { BrokerConnection } from '../../../../src/kafka/network/transport.ts'
import { kafkaErrors } from '../../../../src/kafka/protocol/kafka-error.ts'
import { WriteRights } from '../../../../src/kafka/network/write-rights.ts'

test('a leader whose answer was cut off, or has no result, is asked again', () => {
  const answers: ((payload: Buffer) => void)[] = []
  const connection = {
    call: (_request: unknown, onResponse: (payload: Buffer) => void) => answers.push(onResponse),
  } as unknown as BrokerConnection
  const rights = new WriteRights('events', () => {}, false)
  rights.ask(connection, 0)
  expect(() => answers[0]!(Buffer.alloc(2))).toThrow(RangeError)
  rights.ask(connection, 0)
  expect(answers.length).toBe(2)
  // An answer to a produce request of no topic, and the pause that the broker asks for: 0.
  expect(() => answers[1]!(Buffer.alloc(8))).toThrow('no result')
  rights.ask(connection, 0)
  expect(answers.length).toBe(3)
})

test.each([
  [true, 'IDEMPOTENT_WRITE on the cluster'],
  [false, 'WRITE on topic events'],
])(
  'a refusal of the cluster is forgotten when the right is there, with identities: %s',
  (needsIdentity, right) => {
    const calls: ((payload: Buffer) => void)[] = []
    const connection = {
      call: (_request: unknown, onResponse: (payload: Buffer) => void) => calls.push(onResponse),
    } as unknown as BrokerConnection
    const rights = new WriteRights('events', () => {}, needsIdentity)
    rights.metadataSays(true)
    rights.answered(kafkaErrors.clusterAuthorizationFailed)
    expect(rights.missing?.right).toContain(right)
    rights.ask(connection, 0)
    // Where there are identities, a broker that gives one shows the right.
    if (needsIdentity) rights.identified()
    else {
      expect(calls).toHaveLength(1)
      rights.answered(kafkaErrors.none)
    }
    expect(rights.missing).toBeNull()
  },
)

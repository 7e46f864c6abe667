import { createRequire } from 'node:module'
import { expect, test } from 'vitest'
import {
  isRetriable,
  isStaleMetadata,
  kafkaErrorName,
  kafkaErrors,
  mayBeStored,
} from '../../../../src/kafka/protocol/kafka-error.ts'

const require = createRequire(import.meta.url)
const { errorCodes } = require('kafkajs/src/protocol/error.js') as {
  errorCodes: { type: string; code: number; retriable: boolean }[]
}

/** What kafkajs 2.2.4 lacks, or has otherwise than `org.apache.kafka.common.protocol.Errors`. */
const unknownToKafkajs = new Set(['invalidRecord', 'producerFenced', 'unknownServerError'])

test.each(Object.entries(kafkaErrors))('%s has the code that kafkajs gives it', (name, code) => {
  if (name === 'none' || unknownToKafkajs.has(name)) return
  const type = name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
  const theirs = errorCodes.find((error) => error.code === code)
  const renamed: Record<string, string> = { NOT_LEADER_OR_FOLLOWER: 'NOT_LEADER_FOR_PARTITION' }
  expect([type, renamed[type], `${type}_EXCEPTION`, type.replace('_EXCEPTION', '')]).toContain(theirs?.type)
})

test('what is stale can be tried again; what is final is neither', () => {
  for (const code of Object.values(kafkaErrors))
    if (isStaleMetadata(code)) expect(isRetriable(code)).toBe(true)
  for (const code of [10, 18, 29, 31, 32, 87, 17]) expect(isRetriable(code)).toBe(false)
  for (const code of [3, 5, 6, 7, 13, 19, 20]) expect(isRetriable(code)).toBe(true)
})

test('only errors that can follow an append leave it open whether a batch is stored', () => {
  const open = (acks: 1 | -1) =>
    Object.values(kafkaErrors)
      .filter((code) => mayBeStored(code, acks))
      .toSorted((a, b) => a - b)
  expect(open(1)).toEqual([-1, 7, 13, 20, 56])
  // A leader that loses the partition while it waits for replicas.
  expect(open(-1)).toEqual([-1, 6, 7, 13, 20, 56])
})

test("names are Kafka's own, also of errors that nothing here acts on", () => {
  expect([29, 17, -1, 0, 83, 136].map(kafkaErrorName)).toEqual([
    'TOPIC_AUTHORIZATION_FAILED',
    'INVALID_TOPIC_EXCEPTION',
    'UNKNOWN_SERVER_ERROR',
    'NONE',
    'ELIGIBLE_LEADERS_NOT_AVAILABLE',
    'CONTROLLER_ID_NOT_REGISTERED',
  ])
  expect(kafkaErrorName(137)).toBe('UNKNOWN_ERROR_137')
  expect(kafkaErrorName(1234)).toBe('UNKNOWN_ERROR_1234')
})

test.each(Object.entries(kafkaErrors))('%s has the name that Kafka gives its code', (name, code) => {
  expect(kafkaErrorName(code)).toBe(name.replaceAll(/[A-Z]/g, '_$&').toUpperCase())
})

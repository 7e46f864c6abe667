import { describe, expect, test } from 'vitest'
import { describeComparison, totalsOf } from '../../../../src/kafka/audit/audit-report.ts'
import { compareAccount, type StreamAccount } from '../../../../src/kafka/audit/compare-account.ts'
import { TopicAudit } from '../../../../src/kafka/audit/topic-audit.ts'
import { auditHeaderKey, writeAuditHeader } from '../../../../src/kafka/protocol/audit-header.ts'

const one = '0123456789ab'
const other = 'ffffffffffff'
const start = 1_700_000_000_000

/** Reads records of one partition: sequences of a writer, or null for one without a mark. */
function read(
  audit: TopicAudit,
  sequences: readonly (number | null)[],
  { instance = one, partition = 0, everyMs = 10 } = {},
): void {
  sequences.forEach((sequence, nth) =>
    audit.take({
      partition,
      timestampMs: start + nth * everyMs,
      headers: sequence === null ? {} : { [auditHeaderKey]: writeAuditHeader({ instance, sequence }) },
    }),
  )
}

function auditOf(sequences: readonly (number | null)[] = [], low = 0): TopicAudit {
  const audit = new TopicAudit('t', new Map([[0, low]]))
  read(audit, sequences)
  return audit
}

describe('findings', () => {
  test('are by writer and partition', () => {
    const audit = new TopicAudit(
      't',
      new Map([
        [0, 0],
        [1, 0],
      ]),
    )
    read(audit, [0, 1, 3, null])
    read(audit, [0, 0], { instance: other, partition: 1 })
    expect(audit.findings.writers).toEqual([
      expect.objectContaining({
        instance: one,
        partition: 0,
        first: 0,
        last: 3,
        records: 3,
        lost: 1,
        duplicated: 0,
      }),
      expect.objectContaining({
        instance: other,
        partition: 1,
        first: 0,
        last: 0,
        records: 2,
        lost: 0,
        duplicated: 1,
      }),
    ])
    expect(audit.findings.partitions).toEqual([
      { partition: 0, low: 0, records: 4, unmarked: 1 },
      { partition: 1, low: 0, records: 2, unmarked: 0 },
    ])
    expect(totalsOf(audit.findings)).toEqual({
      records: 6,
      unmarked: 1,
      lost: 1,
      unseen: 0,
      duplicated: 1,
      reordered: 0,
      lossRatio: 1 / 5,
    })
  })

  test('a writer that begins late is lost at its beginning, unless the log has lost its own', () => {
    expect(auditOf([5, 6]).findings.writers[0]).toMatchObject({
      lost: 5,
      unseen: 0,
      gaps: [{ from: 0, to: 4 }],
    })
    expect(auditOf([5, 6, 8], 100).findings.writers[0]).toMatchObject({
      lost: 1,
      unseen: 5,
      gaps: [{ from: 7, to: 7 }],
    })
  })

  test('losses are in the timeline where they were noticed, and leave it when the record comes late', () => {
    const audit = new TopicAudit('t', new Map([[0, 0]]))
    read(audit, [0, 3, 4, 2], { everyMs: 1_000 })
    const { buckets, widthMs } = audit.findings.timeline
    expect(widthMs).toBe(1_000)
    expect(buckets.map(({ records, lost }) => [records, lost])).toEqual([
      [1, 0],
      [1, 1],
      [1, 0],
      [1, 0],
    ])
  })

  test('the timeline keeps its size, however long the time', () => {
    const audit = auditOf()
    read(
      audit,
      Array.from({ length: 1_000 }, (_, nth) => nth * 2),
      { everyMs: 60_000 },
    )
    const { buckets } = audit.findings.timeline
    expect(buckets.length).toBeLessThanOrEqual(240)
    expect(buckets.reduce((sum, { records }) => sum + records, 0)).toBe(1_000)
    expect(buckets.reduce((sum, { lost }) => sum + lost, 0)).toBe(999)
  })

  test('a header of another form is no mark', () => {
    const audit = auditOf()
    const headers = { [auditHeaderKey]: Buffer.from('nonsense') }
    audit.take({ partition: 0, timestampMs: start, headers })
    expect(audit.findings).toMatchObject({ writers: [], partitions: [{ records: 1, unmarked: 1 }] })
    expect(totalsOf(audit.findings).lossRatio).toBeNull()
  })
})

test('a topic with very many gaps is read as fast as one without', () => {
  // Had each record to look at all gaps before it, this would take a minute.
  const every = 100_000
  const audit = auditOf()
  for (let nth = 0; nth < every; nth++) read(audit, [nth * 2])
  expect(totalsOf(audit.findings)).toMatchObject({ records: every, lost: every - 1 })
})

describe('against an account', () => {
  /** Ten records have a number. */
  function accountOf(changes: Partial<StreamAccount>): StreamAccount {
    return {
      stream: 's',
      topic: 't',
      recovered: 0,
      confirmed: 0,
      acked: 0,
      sent: 0,
      deadLettered: 0,
      suspectedLost: 0,
      buffered: 0,
      inFlight: 0,
      audit: [{ instance: one, partition: 0, stamped: 10 }],
      ...changes,
    }
  }
  const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  /** Seven of the ten: one gap of two, and the last. */
  const seven = [0, 1, 2, 5, 6, 7, 8]

  test.each([
    ['all arrived', all, { confirmed: 10 }, { verdict: 'agrees', missing: 0, dropped: 0, suspectsLanded: 0 }],
    ['drops are gaps', seven, { confirmed: 7 }, { verdict: 'agrees', missing: 3, dropped: 3 }],
    [
      'suspects that are lost',
      seven,
      { confirmed: 7, suspectedLost: 3 },
      { verdict: 'agrees', dropped: 0, suspectsLanded: 0 },
    ],
    [
      'suspects that landed',
      seven,
      { confirmed: 5, suspectedLost: 5 },
      { verdict: 'agrees', missing: 3, suspectsLanded: 2 },
    ],
    [
      'drops beside suspects',
      seven,
      { confirmed: 6, suspectedLost: 2 },
      { verdict: 'agrees', dropped: 2, suspectsLanded: 1 },
    ],
    [
      'what is on its way may be missing',
      seven,
      { acked: 7, inFlight: 2, buffered: 1 },
      { verdict: 'agrees', suspectsLanded: null },
    ],
    ['without confirmation nobody knows', seven, { sent: 10 }, { verdict: 'agrees', doubtful: 10 }],
    [
      'confirmed, and not there',
      seven,
      { confirmed: 9, suspectedLost: 1 },
      { verdict: 'more_missing_than_told', difference: 2 },
    ],
    ['dropped, and there', all, { confirmed: 8 }, { verdict: 'less_missing_than_told', difference: 2 }],
  ] as const)('%s', (_, sequences, account, expected) => {
    expect(compareAccount(accountOf(account), auditOf(sequences))).toMatchObject({ stamped: 10, ...expected })
  })

  test('what may have been in a part of the log that is gone is neither lost nor there', () => {
    const audit = [{ instance: one, partition: 0, stamped: 13 }]
    const late = auditOf([10, 11, 12], 5)
    const suspects = { ...accountOf({ confirmed: 3, suspectedLost: 10 }), audit }
    expect(compareAccount(suspects, late)).toMatchObject({ verdict: 'agrees', suspectsLanded: null })
    const drops = { ...accountOf({ confirmed: 3 }), audit }
    expect(compareAccount(drops, late)).toMatchObject({ verdict: 'agrees', dropped: 10, difference: 0 })
    const none = compareAccount(drops, auditOf([], 5))!
    expect(none).toMatchObject({ verdict: 'agrees', difference: 0, unseen: 13 })
    expect(describeComparison(none)).toContain(
      '; 13 cannot be judged, since the beginning of the log is gone',
    )
    // All that the account speaks of, and more, is before the first one that is there.
    expect(compareAccount(drops, auditOf([100], 5))).toMatchObject({
      verdict: 'agrees',
      missing: 0,
      unseen: 13,
    })
    const resumed = { ...drops, audit: [{ instance: one, partition: 0, first: 3, stamped: 4 }] }
    expect(compareAccount(resumed, auditOf([5, 6], 5))).toMatchObject({
      verdict: 'agrees',
      missing: 0,
      unseen: 2,
    })
  })

  test('what a start found on disk is told', () => {
    const comparison = compareAccount(accountOf({ acked: 10, recovered: 4 }), auditOf(all))!
    expect(comparison).toMatchObject({ verdict: 'agrees', recovered: 4, missing: 0 })
    expect(describeComparison(comparison)).toContain('; its start found 4 on disk')
  })

  test('records that keep the numbers of an earlier process are held against these numbers', () => {
    const { instance, partition } = accountOf({}).audit[0]!
    const audit = [{ instance, partition, first: 3, stamped: 4 }]
    expect(compareAccount({ ...accountOf({ acked: 4 }), audit }, auditOf([0, 3, 4, 5, 6]))).toMatchObject({
      stamped: 4,
      missing: 0,
      verdict: 'agrees',
    })
    expect(compareAccount({ ...accountOf({ acked: 4 }), audit }, auditOf([0, 3, 5, 6]))).toMatchObject({
      missing: 1,
      verdict: 'more_missing_than_told',
    })
  })

  test('records that came behind the account do not count', () => {
    const audit = auditOf([...all, 12, 13])
    expect(compareAccount(accountOf({ confirmed: 10 }), audit)).toMatchObject({
      verdict: 'agrees',
      missing: 0,
    })
  })

  test('a writer of which nothing is there is missing as a whole', () => {
    expect(compareAccount(accountOf({ suspectedLost: 10 }), auditOf())).toMatchObject({
      verdict: 'agrees',
      missing: 10,
    })
  })

  test('streams of other topics are left out', () => {
    expect(compareAccount(accountOf({ topic: 'u' }), auditOf())).toBeNull()
  })

  test('a stream that has numbered nothing is compared as 0, whatever else is in the topic and in its account', () => {
    const numbered = [[], [{ instance: one, partition: 0, stamped: 0 }]]
    for (const audit of numbered) {
      const account = accountOf({ audit, confirmed: 10, suspectedLost: 3, buffered: 2 })
      const comparison = compareAccount(account, auditOf(all))!
      expect(comparison).toMatchObject({ stamped: 0, missing: 0, dropped: 0, verdict: 'agrees' })
      expect(describeComparison(comparison)).toContain('numbered 0 records')
    }
  })
})

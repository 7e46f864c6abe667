import { expect, test } from 'vitest'
import { totalsOf, type AuditReport } from '../../../src/kafka/audit/audit-report.ts'
import { SessionBook, type ClientReport } from '../../../src/kafka/audit/session-book.ts'
import { TopicAudit } from '../../../src/kafka/audit/topic-audit.ts'
import { auditHeaderKey, writeAuditHeader } from '../../../src/kafka/protocol/audit-header.ts'
import { auditHtml } from '../../../src/reports/audit-html.ts'
import { auditText } from '../../../src/reports/audit-text.ts'
import { clientAuditHtml, clientAuditText } from '../../../src/reports/client-audit.ts'

function reportOf(changes: Partial<AuditReport> = {}): AuditReport {
  const audit = new TopicAudit('a<b', new Map([[0, 0]]))
  for (const sequence of [0, 1, 4]) {
    const headers = { [auditHeaderKey]: writeAuditHeader({ instance: '0123456789ab', sequence }) }
    const timestampMs = 1_700_000_000_000 + sequence * 1_000
    audit.take({ partition: 0, timestampMs, headers })
  }
  const { findings } = audit
  const none = { gateways: [], comparisons: [], unknownWriters: [] }
  return { ...findings, readAtMs: 1_700_000_009_000, totals: totalsOf(findings), ...none, ...changes }
}

const differing: AuditReport['comparisons'] = [
  {
    gateway: 'http://gateway',
    stream: 's',
    stamped: 5,
    recovered: 0,
    missing: 2,
    unseen: 0,
    dropped: 0,
    doubtful: 1,
    suspectedLost: 1,
    suspectsLanded: null,
    verdict: 'more_missing_than_told',
    difference: 1,
  },
]

const asked = { gateway: 'http://gateway', stamped: 5 }

test('the text has a row a writer, and says what an account makes of it', () => {
  const text = auditText(
    reportOf({ gateways: [asked], comparisons: differing, unknownWriters: ['0123456789ab'] }),
  )
  expect(text).toContain('Lost 2 (40.0000 %), duplicated 0, reordered 0.')
  expect(text).toMatch(/^writer +partition +first +last +records +lost/m)
  expect(text).toMatch(/^0123456789ab +0 +0 +4 +3 +2 +0 +0 +0$/m)
  expect(text).toContain('http://gateway, stream s: differs by 1: 2 are missing')
  expect(text).toContain('does not know (an earlier run, or another gateway): 0123456789ab')
})

test('a gateway that has numbered nothing is named, with 0, whether or not a stream of it writes to the topic', () => {
  const idle = {
    ...differing[0]!,
    gateway: 'http://idle',
    stamped: 0,
    missing: 0,
    verdict: 'agrees' as const,
    difference: 0,
  }
  const gateways = ['http://gateway', 'http://idle', 'http://a<part'].map((gateway) => ({
    gateway,
    stamped: 0,
  }))
  const report = reportOf({ gateways, comparisons: [...differing, idle] })
  for (const text of [auditText(report), auditHtml(report)]) {
    expect(text).toMatch(/http:\/\/idle(, stream s:)? has numbered 0 records/)
    expect(text).toMatch(/http:\/\/a(<|&lt;)part has numbered 0 records here/)
    expect(text.match(/has numbered 0/g)).toHaveLength(2)
  }
})

test('the text of a topic without marks says that nothing can be said', () => {
  const totals = { ...reportOf().totals, lossRatio: null }
  expect(auditText(reportOf({ writers: [], totals }))).toContain('Nothing can be said of loss')
  const empty = { ...totals, records: 0, unmarked: 0 }
  expect(auditText(reportOf({ writers: [], totals: empty }))).toContain('the topic is empty')
})

test('the page needs nothing from anywhere, shows the plot, and escapes what is not its own', () => {
  const html = auditHtml(reportOf({ gateways: [asked], comparisons: differing }))
  expect(html).not.toMatch(/<script|<link|src=|url\(|@import/)
  expect(html).toContain('<title>Audit of a&lt;b</title>')
  expect(html).not.toContain('a<b')
  expect(html.match(/<rect class="found"/g)).toHaveLength(5)
  expect(html.match(/<rect class="lost"/g)).toHaveLength(1)
  expect(html).toContain('2–3')
})

test('the page of an empty topic says so', () => {
  const empty = new TopicAudit('t', new Map()).findings
  expect(auditHtml(reportOf({ ...empty, totals: totalsOf(empty) }))).toContain('There is nothing to show')
})

function clientReport(maxSessions: number): ClientReport {
  const options = { sessionGapMs: 60_000, maxSessions, keyHeader: 'key', browserHeader: 'ua' }
  const book = new SessionBook('a<b', new Map([[0, 0]]), options)
  const take = (id: string, before?: readonly string[]): void => {
    const value = Buffer.from(JSON.stringify({ session: id.split('-')[0], id, before }))
    const headers = { key: Buffer.from('<shop\u001b'), ua: Buffer.from('Firefox/147.0') }
    book.take({ partition: 0, timestampMs: 1_700_000_000_000, headers, value })
  }
  take('1-1')
  take('1-4')
  take('2-1', ['1-6'])
  return book.report(1_700_000_900_000)
}

test('the text about clients says what is missing inside and at the ends, by key, browser and day', () => {
  const text = clientAuditText(clientReport(10))
  expect(text).toContain(
    'Lost 4 (57.1429 %): 2 inside sessions, 2 at the ends that are told (1 of 2 sessions).',
  )
  for (const name of ['<shop\\?', 'Firefox', '2023-11-14', 'all'])
    expect(text).toMatch(new RegExp(`^${name} +2 +1 +0 +3 +2 +2 +0 +0 +0 +0 +0$`, 'm'))
  expect(text).not.toContain('\u001b')
})

test('the report about clients says what it cannot know', () => {
  expect(clientAuditText(clientReport(1))).toContain('1 sessions were forgotten for want of room')
})

test('the page about clients has the losses in its plot and tables, and every name is escaped', () => {
  const page = clientAuditHtml(clientReport(10))
  expect(page).toContain('class="lost"')
  expect(page).toContain('&lt;shop')
  expect(page).not.toContain('<shop')
  expect(page).not.toMatch(/<script|https?:/)
})

test('a record of any time is a part of the page', () => {
  const audit = new TopicAudit('t', new Map([[0, 0]]))
  for (const [sequence, timestampMs] of [
    [0, 1_700_000_000_000],
    // Nanoseconds in place of milliseconds: no date has them.
    [1, 1_700_000_000_000_000_000],
  ] as const) {
    const headers = { [auditHeaderKey]: writeAuditHeader({ instance: '0123456789ab', sequence }) }
    audit.take({ partition: 0, timestampMs, headers })
  }
  const { findings } = audit
  const html = auditHtml(reportOf({ ...findings, totals: totalsOf(findings) }))
  expect(html).toContain('<rect class="found"')
})

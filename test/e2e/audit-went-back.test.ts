import { randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { AuditReport } from '../../src/kafka/audit/audit-report.ts'
import type { ClientReport } from '../../src/kafka/audit/session-book.ts'
import { auditHeaderKey, writeAuditHeader } from '../../src/kafka/protocol/audit-header.ts'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { startReader, type ReaderProcess } from '../support/consume-process.ts'
import { createTopic, testClient } from '../support/independent-reader.ts'
import { until } from '../support/numbered-records.ts'
import { parseExposition } from '../support/parse-exposition.ts'

/** A topic of one partition, whose records are numbered both as a gateway and as a browser numbers them. */
class Audited {
  readonly topic = `went-back-${randomUUID()}`
  readonly broker: string

  constructor(broker: string) {
    this.broker = broker
  }

  async create(): Promise<void> {
    await createTopic(this.broker, this.topic, { partitions: 1 })
  }

  async write(from: number, count: number): Promise<void> {
    const producer = testClient(this.broker).producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    const messages = Array.from({ length: count }, (_, nth) => ({
      partition: 0,
      value: JSON.stringify({ session: 's', id: `s-${from + nth + 1}` }),
      headers: { [auditHeaderKey]: writeAuditHeader({ instance: '00112233aabb', sequence: from + nth }) },
    }))
    await producer.send({ topic: this.topic, messages, acks: -1 })
    await producer.disconnect()
  }

  follow(...args: string[]): ReaderProcess {
    const follow = ['--follow', '--metrics-port=0', '--json=-']
    const env = { KAFKA_BROKERS: this.broker }
    const reader = startReader(['audit', `--topic=${this.topic}`, ...follow, ...args], env)
    onTestFinished(() => reader.signal('SIGKILL'))
    return reader
  }
}

/** Waits until the metrics of an audit say so many records. */
async function hasRead(reader: ReaderProcess, metric: string, count: number): Promise<void> {
  const { metricsUrl } = (await reader.logged('auditing')) as { readonly metricsUrl?: string }
  await until(async () => {
    const families = parseExposition(await (await fetch(metricsUrl!)).text(), 'prometheus')
    const samples = families.get(metric)?.samples ?? []
    return samples.reduce((sum, { value }) => sum + value, 0) === count
  })
}

const wentBack = 'logs went back behind what was read of them'

test(
  'an audit that follows counts the records as lost that a broker has lost behind it',
  { timeout: 120_000 },
  async () => {
    const kafka = await startKafka()
    onTestFinished(async () => await kafka.stop())
    const node = kafka.nodes[0]!
    const audited = new Audited(kafka.brokers[0]!)
    await audited.create()
    await audited.write(0, 20)
    const [records, clients] = [audited.follow(), audited.follow('--clients', '--session-gap=1s')]
    await hasRead(records, 'chute_audit_records_total', 20)
    await hasRead(clients, 'chute_audit_client_seen_events', 20)
    // The broker comes back without what its disk had of the partition, as a replica that lags behind becomes the leader.
    await node.kill('SIGKILL')
    rmSync(join(node.dataDir, `${audited.topic}-0`), { recursive: true })
    node.start()
    await node.waitUntilReady()
    await audited.write(20, 5)
    for (const reader of [records, clients]) {
      const partitions = [{ partition: 0, position: 20 }]
      expect(await reader.logged(wentBack)).toMatchObject({ level: 'warn', partitions })
    }
    await hasRead(records, 'chute_audit_records_total', 5)
    await hasRead(clients, 'chute_audit_client_seen_events', 5)
    records.signal('SIGTERM')
    clients.signal('SIGTERM')
    expect(await records.ended()).toBe(0)
    expect(await clients.ended()).toBe(0)
    const report = JSON.parse(records.output.join('\n')) as AuditReport
    expect(report.totals).toMatchObject({ records: 5, lost: 20, duplicated: 0, reordered: 0 })
    const { totals } = JSON.parse(clients.output.join('\n')) as ClientReport
    expect(totals.missing + totals.missingOpen).toBe(20)
  },
)

test('an audit that follows a topic that is made anew counts what is there then', async () => {
  const audited = new Audited(inject('kafkaBroker'))
  await audited.create()
  await audited.write(0, 20)
  const reader = audited.follow()
  await hasRead(reader, 'chute_audit_records_total', 20)
  const admin = testClient(audited.broker).admin()
  await admin.connect()
  await admin.deleteTopics({ topics: [audited.topic] })
  await admin.disconnect()
  await until(async () => {
    try {
      await audited.create()
      return true
    } catch {
      return false
    }
  })
  await audited.write(20, 5)
  await reader.logged(wentBack)
  await hasRead(reader, 'chute_audit_records_total', 5)
  reader.signal('SIGTERM')
  expect(await reader.ended()).toBe(0)
  const report = JSON.parse(reader.output.join('\n')) as AuditReport
  expect(report.totals).toMatchObject({ records: 5, lost: 20, duplicated: 0 })
})

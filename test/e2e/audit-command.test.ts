import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { StreamConfig } from '../../src/config/config.ts'
import type { AuditReport } from '../../src/kafka/audit/audit-report.ts'
import { auditHeaderKey, writeAuditHeader } from '../../src/kafka/protocol/audit-header.ts'
import type { ProducerStats } from '../../src/kafka/producer/producer.ts'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { startReader, type ReaderProcess } from '../support/consume-process.ts'
import { byForm, isLong } from '../support/forms.ts'
import { startGatewayWith, testConfig, type TestGateway } from '../support/gateway.ts'
import { createTopic, testClient } from '../support/independent-reader.ts'
import { until } from '../support/numbered-records.ts'
import { parseExposition } from '../support/parse-exposition.ts'
import { streamConfig } from '../support/producer-fixture.ts'

/** A gateway with one audited stream, and a topic of the test's own. */
async function startAudited(
  broker: string,
  changes: Partial<StreamConfig> = {},
): Promise<[TestGateway, StreamConfig]> {
  const topic = `audit-${randomUUID()}`
  const stream: StreamConfig = { ...streamConfig(topic, 'at-most-once'), audit: true, ...changes }
  const gateway = await startGatewayWith(testConfig({ brokers: [broker], streams: [stream] }))
  onTestFinished(async () => void (await gateway.stop()))
  return [gateway, stream]
}

async function post(gateway: TestGateway, stream: StreamConfig, count: number): Promise<void> {
  const body = Array.from({ length: count }, (_, id) => JSON.stringify({ id })).join('\n')
  const reply = await fetch(`${gateway.url}/v1/streams/${stream.name}`, { method: 'POST', body })
  expect(reply.status).toBe(202)
}

function startAudit(broker: string, topic: string, ...args: string[]): ReaderProcess {
  const reader = startReader(['audit', '--topic', topic, ...args], { KAFKA_BROKERS: broker })
  onTestFinished(() => reader.signal('SIGKILL'))
  return reader
}

/** Runs `chute audit` to its end. */
async function auditOf(
  broker: string,
  topic: string,
  ...args: string[]
): Promise<{ code: number | null; report: AuditReport }> {
  const reader = startAudit(broker, topic, '--json', '-', ...args)
  const code = await reader.ended()
  return { code, report: JSON.parse(reader.output.join('\n')) as AuditReport }
}

const statsOf = ({ gateway }: TestGateway): ProducerStats => gateway.stats[0]!

test('a calm run: nothing is missing, and the account agrees', async () => {
  const broker = inject('kafkaBroker')
  const [gateway, stream] = await startAudited(broker)
  for (let i = 0; i < 5; i++) await post(gateway, stream, 400)
  await until(() => statsOf(gateway).confirmed === 2_000)
  const folder = mkdtempSync(join(tmpdir(), 'chute-audit-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const page = join(folder, 'audit.html')
  const { code, report } = await auditOf(broker, stream.topic, '--gateway', gateway.url, '--html', page)
  expect(code).toBe(0)
  expect(report.totals).toEqual({
    records: 2_000,
    unmarked: 0,
    lost: 0,
    unseen: 0,
    duplicated: 0,
    reordered: 0,
    lossRatio: 0,
  })
  expect(report.comparisons).toMatchObject([
    { verdict: 'agrees', stamped: 2_000, missing: 0, suspectsLanded: 0 },
  ])
  expect(report.unknownWriters).toEqual([])
  expect(
    report.writers.map(({ instance, partition, last }) => ({ instance, partition, stamped: last + 1 })),
  ).toEqual(expect.arrayContaining(statsOf(gateway).audit.filter(({ stamped }) => stamped > 0)))
  expect(readFileSync(page, 'utf8')).toContain(report.writers[0]!.instance)
})

test.runIf(isLong)('a gateway that has numbered nothing is named, with 0, beside one that has', async () => {
  const broker = inject('kafkaBroker')
  const [busy, stream] = await startAudited(broker)
  const idle = await startGatewayWith(testConfig({ brokers: [broker], streams: [stream] }))
  onTestFinished(async () => void (await idle.stop()))
  const [elsewhere] = await startAudited(broker)
  await post(busy, stream, 100)
  await until(() => statsOf(busy).confirmed === 100)
  const urls = [busy, idle, elsewhere].map(({ url }) => url)
  const { code, report } = await auditOf(broker, stream.topic, ...urls.flatMap((url) => ['--gateway', url]))
  expect(code).toBe(0)
  expect(report.gateways).toEqual(urls.map((gateway, nth) => ({ gateway, stamped: nth === 0 ? 100 : 0 })))
  expect(report.comparisons.map(({ gateway, stamped }) => [gateway, stamped])).toEqual([
    [busy.url, 100],
    [idle.url, 0],
  ])
})

test('what is lost, repeated, out of order or not marked is found, whoever wrote it', async () => {
  const broker = inject('kafkaBroker')
  const topic = `audit-${randomUUID()}`
  await createTopic(broker, topic, { partitions: 2 })
  const producer = testClient(broker).producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const instance = '00112233aabb'
  const marked = (sequence: number) => ({
    partition: 1,
    value: 'x',
    headers: { [auditHeaderKey]: writeAuditHeader({ instance, sequence }) },
  })
  const messages = [...[0, 1, 1, 5, 4, 9].map(marked), { partition: 0, value: 'x' }]
  await producer.send({ topic, messages, acks: -1 })
  await producer.disconnect()
  const reader = startAudit(broker, topic)
  expect(await reader.ended()).toBe(0)
  const text = reader.output.join('\n')
  expect(text).toContain('7 records, 1 of them without a mark')
  expect(text).toMatch(new RegExp(`^${instance} +1 +0 +9 +6 +5 +0 +1 +1$`, 'm'))
})

test('--follow serves metrics while it reads, and reports at the end', async () => {
  const broker = inject('kafkaBroker')
  const [gateway, stream] = await startAudited(broker)
  await post(gateway, stream, 100)
  const reader = startAudit(broker, stream.topic, '--follow', '--metrics-port', '0', '--gateway', gateway.url)
  const { metricsUrl } = (await reader.logged('auditing')) as { readonly metricsUrl?: string }
  const marked = async (): Promise<number> => {
    const families = parseExposition(await (await fetch(metricsUrl!)).text(), 'prometheus')
    const samples = families.get('chute_audit_records_total')?.samples ?? []
    return samples
      .filter(({ labels }) => labels['marked'] === 'true')
      .reduce((sum, { value }) => sum + value, 0)
  }
  await until(async () => (await marked()) === 100)
  await post(gateway, stream, 50)
  await until(async () => (await marked()) === 150)
  reader.signal('SIGTERM')
  const code = await reader.ended()
  expect(code, JSON.stringify([...reader.log.slice(-3), ...reader.output])).toBe(0)
  expect(reader.output.join('\n')).toMatch(/150 records[^]*Lost 0 [^]*agrees: 0 are missing/)
})

test('--follow waits for a gateway that does not answer, until a second signal', async () => {
  const broker = inject('kafkaBroker')
  const [, { topic }] = await startAudited(broker)
  const silent = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void silent.close())
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const reader = startAudit(
    broker,
    topic,
    '--follow',
    '--metrics-port',
    '0',
    '--gateway',
    `http://127.0.0.1:${port}`,
  )
  await reader.logged('auditing')
  reader.signal('SIGINT')
  await once(silent, 'connection')
  reader.signal('SIGINT')
  expect(await reader.ended()).toBe(1)
  expect(reader.log.at(-1)).toMatchObject({ msg: 'ended at once by a second signal: there is no report' })
})

test.runIf(isLong)('a gateway that cannot be asked, and a topic that is not there, are told', async () => {
  const broker = inject('kafkaBroker')
  const topic = `none-${randomUUID()}`
  const missing = startAudit(broker, topic)
  expect(await missing.ended()).toBe(1)
  expect(missing.log.at(-1)!['msg']).toBe(
    `The topic ${topic} cannot be audited: there is no topic ${topic}: correct --topic, or create it`,
  )
  const alone = startAudit(broker, 'any', '--gateway', 'http://127.0.0.1:1')
  expect(await alone.ended()).toBe(1)
  expect(alone.log.map(({ msg }) => msg).join('\n')).toMatch(
    /http:\/\/127\.0\.0\.1:1\/live\.json: .*\nIs the gateway there\? --gateway names another one\.$/,
  )
})

const kills = byForm({ short: 1, full: 3 })

test(
  'after a broker was killed under load, the account agrees: what is missing was dropped or suspected',
  { timeout: 180_000 },
  async () => {
    const kafka = await startKafka()
    onTestFinished(async () => await kafka.stop())
    const broker = kafka.brokers[0]!
    const [gateway, stream] = await startAudited(broker)
    const end = new AbortController()
    const sending = (async () => {
      while (!end.signal.aborted) {
        await post(gateway, stream, 20)
        await pause(5)
      }
    })()
    const node = kafka.nodes[0]!
    for (let round = 0; round < kills; round++) {
      const { confirmed } = statsOf(gateway)
      await until(() => statsOf(gateway).confirmed > confirmed + 500)
      await node.kill('SIGKILL')
      await pause(500)
      node.start()
      await node.waitUntilReady()
    }
    const { confirmed } = statsOf(gateway)
    await until(() => statsOf(gateway).confirmed > confirmed + 500)
    end.abort()
    await sending
    await until(() => statsOf(gateway).buffered + statsOf(gateway).inFlight === 0)
    const { code, report } = await auditOf(broker, stream.topic, '--gateway', gateway.url)
    const [comparison] = report.comparisons
    process.stderr.write(`audit after ${kills} kills: ${JSON.stringify(comparison)}\n`)
    expect(comparison).toMatchObject({ verdict: 'agrees', stamped: statsOf(gateway).accepted })
    expect(code).toBe(0)
    expect(report.totals).toMatchObject({ duplicated: 0, reordered: 0, unmarked: 0 })
  },
)

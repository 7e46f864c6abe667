import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Kafka, logLevel } from 'kafkajs'
import { expect, onTestFinished, test } from 'vitest'
import { startKafka, type LocalKafka } from '../../src/local-kafka/local-kafka.ts'
import { startConsumer, startReader } from '../support/consume-process.ts'
import { isLong } from '../support/forms.ts'
import { freePorts } from '../support/free-ports.ts'
import { startNdjsonEndpoint } from '../support/ndjson-endpoint.ts'
import { hasPrometheus, hourMs, startPrometheus } from '../support/prometheus.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'
import { BrokerProxy } from './harness/broker-proxy.ts'

const streams = `
streams:
  steady: { topic: steady, delivery: at-most-once }
  small: { topic: small, delivery: at-most-once, producer: { batch.size: 512 } }
  lossy: { topic: lossy, delivery: at-most-once, onBufferFull: drop, producer: { buffer.memory: 262144 } }
  stuck: { topic: stuck, delivery: at-least-once }
  kept: { topic: kept, delivery: at-least-once, spool.max.bytes: 262144, producer: { buffer.memory: 262144 } }
`

/** All but `ChuteAccountOpen`, which would be a bug, and those of certificates, configurations and Redis; promtool tests them. */
const allAlerts = [
  'ChuteBatchesSmall',
  'ChuteKafkaAway',
  'ChuteStreamUnavailable',
  'ChuteCircuitOpen',
  'ChuteLossSuspected',
  'ChuteErrorRateHigh',
  'ChuteBufferLow',
  'ChuteRecordsDropped',
  'ChuteFleetLossHigh',
  'ChuteSendRateDropped',
  'ChuteSpoolStuck',
  'ChuteSpoolFailing',
  'ChuteSpoolFilling',
  'ChuteWorkersMissing',
  'ChuteWorkersCrashing',
  'ChuteClientsRefused',
  'ChuteDown',
  'ChuteConsumerDown',
  'ChuteConsumedLow',
  'ChuteCommitLatencyHigh',
  'ChuteConsumerLagGrowing',
  'ChuteConsumerLosing',
  'ChuteConsumerOutOfGroup',
]

test.runIf(hasPrometheus && isLong)(
  'each alert is quiet in a calm run, and fires in the fault that it is for',
  { timeout: 300_000 },
  async () => {
    const { kafka, proxy } = await startKafkaWithSlowDoor()
    const broker = kafka.brokers[0]!
    const [readerPort, latePort] = await freePorts(2)
    let hangs = false
    const end = await startNdjsonEndpoint((_, response) => {
      if (!hangs) response.writeHead(204).end()
    })
    const args = ['--http', end.url, '--http-timeout-ms', '5000', '--metrics-port', String(readerPort)]
    const reader = startConsumer({ broker, topic: 'steady', group: 'reader' }, args)
    onTestFinished(() => reader.signal('SIGKILL'))
    const [gateway, workers] = await Promise.all([
      serve(broker, streams, { CHUTE_DATA_DIR: temporaryFolder(), CHUTE_DATA_DIR_EPHEMERAL: 'true' }),
      serve(broker, 'streams: { idle: { topic: idle, delivery: at-most-once } }\n', { WORKERS: '2' }),
      reader.logged('joined the group'),
    ])
    const prometheus = await startPrometheus({
      chute: new URL(gateway.url).host,
      workers: new URL(workers.url).host,
      consumer: `127.0.0.1:${readerPort}`,
      late: `127.0.0.1:${latePort}`,
    })
    onTestFinished(async () => await prometheus.stop())

    // Calm, for longer than what is held against an hour before takes to fire.
    const steady = sendSteadily(gateway.url, 'steady', 20)
    await pause(1.4 * hourMs)
    expect(await prometheus.everFired()).toEqual(new Set())
    expect(end.requests.length).toBeGreaterThan(10)

    // What does not need a broker that is down, side by side. At first the topic, which must not wait for the disk.
    await deleteUnderLoad(gateway.url, broker, 'stuck')
    hangs = true
    await Promise.all([
      prometheus.fired('ChuteSpoolStuck', 'ChuteStreamUnavailable'),
      prometheus.fired('ChuteConsumerLosing', 'ChuteConsumerLagGrowing', 'ChuteConsumedLow'),
      answerCommitsLate(proxy, latePort!, async () => await prometheus.fired('ChuteCommitLatencyHigh')),
      refuseWrites(gateway, async () => await prometheus.fired('ChuteSpoolFailing')),
      killWorker(workers, async () => await prometheus.fired('ChuteWorkersMissing')),
      prometheus.fired('ChuteWorkersCrashing'),
      sendWhile(gateway.url, 'small', async () => await prometheus.fired('ChuteBatchesSmall')),
      refuseClients(gateway.url, async () => await prometheus.fired('ChuteClientsRefused')),
    ])

    // The broker dies under load, and the load goes on.
    const lossy = sendSteadily(gateway.url, 'lossy', 100)
    await prometheus.untilSome('kafka_producer_record_send_total{stream="lossy"} > 0')
    await kafka.nodes[0]!.kill('SIGKILL')
    const kept = sendSteadily(gateway.url, 'kept', 100)
    await prometheus.fired('ChuteKafkaAway', 'ChuteCircuitOpen', 'ChuteLossSuspected', 'ChuteErrorRateHigh')
    await prometheus.fired('ChuteBufferLow', 'ChuteRecordsDropped', 'ChuteFleetLossHigh', 'ChuteSpoolFilling')
    await prometheus.untilSome(
      'ALERTS{alertname="ChuteConsumerOutOfGroup",group="reader",alertstate="firing"}',
    )
    await Promise.all([lossy.stop(), kept.stop()])

    // Clients stay away.
    await steady.stop()
    await prometheus.fired('ChuteSendRateDropped')

    gateway.signal('SIGKILL')
    reader.signal('SIGKILL')
    await prometheus.fired('ChuteDown', 'ChuteConsumerDown')
    expect(await prometheus.everFired()).toEqual(new Set(allAlerts))
  },
)

/** A broker with a second listener, of which the answers can be held up: those who come by it and nobody else wait. */
async function startKafkaWithSlowDoor(): Promise<{ kafka: LocalKafka; proxy: BrokerProxy }> {
  const [slowPort] = await freePorts(1)
  const proxy = await BrokerProxy.start(slowPort!)
  onTestFinished(() => proxy.stop())
  const kafka = await startKafka({
    properties: {
      listeners: `PLAINTEXT://127.0.0.1:{port},SLOW://127.0.0.1:${slowPort},CONTROLLER://127.0.0.1:{controllerPort}`,
      'advertised.listeners': `PLAINTEXT://127.0.0.1:{port},SLOW://127.0.0.1:${proxy.port}`,
      'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,SLOW:PLAINTEXT,CONTROLLER:PLAINTEXT',
    },
  })
  onTestFinished(async () => await kafka.stop())
  return { kafka, proxy }
}

async function serve(broker: string, config: string, env: NodeJS.ProcessEnv): Promise<ServedGateway> {
  const file = join(temporaryFolder(), 'chute.yaml')
  writeFileSync(file, config)
  const settings = { KAFKA_BROKERS: broker, CHUTE_CONFIG: file, KAFKA_TOPIC_PARTITIONS: '1' }
  const gateway = await serveGateway({ ...settings, ...env })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return gateway
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'chute-alerts-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/**
 * The broker begins to answer a group late once that has committed for the first time, until `until` resolves: from the
 * second commit on the mean is above a second.
 */
async function answerCommitsLate(
  proxy: BrokerProxy,
  metricsPort: number,
  until: () => Promise<void>,
): Promise<void> {
  const end = await startNdjsonEndpoint((_, response) => {
    proxy.delayMs = 2_500
    response.writeHead(204).end()
  })
  const group = ['--topic=steady', '--group=late', '--set=auto.offset.reset=earliest']
  const consumer = startReader(
    ['consume', ...group, '--http', end.url, '--metrics-port', String(metricsPort)],
    { KAFKA_BROKERS: `127.0.0.1:${proxy.port}` },
  )
  onTestFinished(() => consumer.signal('SIGKILL'))
  await until()
}

/** A topic is deleted while its durable stream takes events: what was taken last waits on disk. */
async function deleteUnderLoad(url: string, broker: string, topic: string): Promise<void> {
  const load = sendSteadily(url, topic, 5)
  const admin = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  await admin.deleteTopics({ topics: [topic] })
  await admin.disconnect()
  await expect.poll(() => load.status, { timeout: 60_000 }).toBe(503)
  await load.stop()
}

/** No file of the gateway may grow, until `until` resolves. */
async function refuseWrites(gateway: ServedGateway, until: () => Promise<void>): Promise<void> {
  const limit = (fileBytes: string): void =>
    void execFileSync('prlimit', [`--pid=${gateway.pid}`, `--fsize=${fileBytes}:unlimited`])
  limit('1')
  await sendWhile(gateway.url, 'kept', until)
  limit('unlimited')
}

/** Stops a worker, and kills it once `until` resolves. */
async function killWorker(workers: ServedGateway, until: () => Promise<void>): Promise<void> {
  const start = await workers.logged('listening on')
  const [{ pid }] = start['workers'] as [{ pid: number }]
  process.kill(pid, 'SIGSTOP')
  await until()
  process.kill(pid, 'SIGKILL')
}

/** A client sends what is no JSON, until `until` resolves. */
async function refuseClients(url: string, until: () => Promise<void>): Promise<void> {
  const stopped = new AbortController()
  const sending = (async () => {
    while (!stopped.signal.aborted) {
      const reply = await fetch(`${url}/v1/streams/steady`, { method: 'POST', body: '{' })
      await reply.text()
      await pause(20)
    }
  })()
  await until()
  stopped.abort()
  await sending
}

/** Sends until `until` resolves. */
async function sendWhile(url: string, stream: string, until: () => Promise<void>): Promise<void> {
  const load = sendSteadily(url, stream, 100)
  await until()
  await load.stop()
}

/** Sends requests of `events` events, 50 a second at the most, so that a rate keeps up on a busy machine too. */
function sendSteadily(url: string, stream: string, events: number): Load {
  const body = `{"name":"load","value":1}\n`.repeat(events)
  const stopped = new AbortController()
  let status = 0
  const sending = (async () => {
    while (!stopped.signal.aborted) {
      const reply = await fetch(`${url}/v1/streams/${stream}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body,
      })
      await reply.text()
      status = reply.status
      await pause(20)
    }
  })()
  // Of a test that fails the gateway is gone first.
  sending.catch(() => {})
  return {
    get status() {
      return status
    },
    async stop() {
      stopped.abort()
      await sending
    },
  }
}

interface Load {
  /** Of the last reply. */
  readonly status: number
  stop(): Promise<void>
}

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { startKafka } from '../../src/local-kafka/local-kafka.ts'
import { hasPrometheus, hourMs, startPrometheus } from '../support/prometheus.ts'
import { serveGateway, type ServedGateway } from '../support/served-gateway.ts'

const streams = `
streams:
  steady: { topic: steady, delivery: at-most-once }
  small: { topic: small, delivery: at-most-once, producer: { linger.ms: 0 } }
  lossy: { topic: lossy, delivery: at-most-once, onBufferFull: drop, producer: { buffer.memory: 262144 } }
`

/** Alerts that a gateway can have. `ChuteAccountOpen` would be a bug; promtool tests it. */
const gatewayAlerts = [
  'ChuteBatchesSmall',
  'ChuteKafkaAway',
  'ChuteCircuitOpen',
  'ChuteLossSuspected',
  'ChuteErrorRateHigh',
  'ChuteBufferLow',
  'ChuteRecordsDropped',
  'ChuteFleetLossHigh',
  'ChuteSendRateDropped',
  'ChuteDown',
]

test.skipIf(!hasPrometheus)(
  'each alert is quiet in a calm run, and fires in the fault that it is for',
  async () => {
    const kafka = await startKafka({})
    onTestFinished(async () => await kafka.stop())
    const gateway = await serveStreams(kafka.brokers[0]!)
    const prometheus = await startPrometheus({ chute: new URL(gateway.url).host })
    onTestFinished(async () => await prometheus.stop())
    const fired = async (...alerts: string[]): Promise<void> => {
      await Promise.all(alerts.map(async (alert) => await prometheus.fired(alert)))
    }

    // Calm, for longer than the hour that the rate is held against.
    const steady = sendSteadily(gateway.url, 'steady', 20)
    await pause(1.2 * hourMs)
    expect(await prometheus.everFired()).toEqual(new Set())

    // Many batches of a few records.
    const small = sendSteadily(gateway.url, 'small', 5)
    await fired('ChuteBatchesSmall')
    await small.stop()

    // The broker dies under load, and the load goes on.
    const lossy = sendSteadily(gateway.url, 'lossy', 50)
    await prometheus.untilSome('kafka_producer_record_send_total{stream="lossy"} > 0')
    await kafka.nodes[0]!.kill('SIGKILL')
    await fired('ChuteKafkaAway', 'ChuteCircuitOpen', 'ChuteLossSuspected', 'ChuteErrorRateHigh')
    await fired('ChuteBufferLow', 'ChuteRecordsDropped', 'ChuteFleetLossHigh')
    await lossy.stop()

    // Clients stay away.
    await steady.stop()
    await fired('ChuteSendRateDropped')

    gateway.signal('SIGKILL')
    await fired('ChuteDown')
    expect(await prometheus.everFired()).toEqual(new Set(gatewayAlerts))
  },
)

async function serveStreams(broker: string): Promise<ServedGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'chute-alerts-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'chute.yaml')
  writeFileSync(file, streams)
  const gateway = await serveGateway({
    KAFKA_BROKERS: broker,
    CHUTE_CONFIG: file,
    KAFKA_TOPIC_PARTITIONS: '1',
  })
  onTestFinished(() => gateway.signal('SIGKILL'))
  await gateway.ready()
  return gateway
}

/** Sends requests of `events` events, one after the other, until it is stopped. */
function sendSteadily(url: string, stream: string, events: number): { stop(): Promise<void> } {
  const body = `{"name":"load","value":1}\n`.repeat(events)
  const stopped = new AbortController()
  const sending = (async () => {
    while (!stopped.signal.aborted) {
      const reply = await fetch(`${url}/v1/streams/${stream}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body,
      })
      await reply.text()
      await pause(2)
    }
  })()
  return {
    async stop() {
      stopped.abort()
      await sending
    },
  }
}

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Producers } from '../../src/kafka/producer/producers.ts'
import { readinessOf } from '../../src/readiness.ts'
import { ModelCluster } from '../support/model-broker.ts'
import { append, ProducerFixture, streamConfig } from '../support/producer-fixture.ts'
import { pass, useVirtualClock } from '../support/virtual-clock.ts'

let cluster: ModelCluster
let fixture: ProducerFixture

beforeEach(async () => {
  useVirtualClock()
  cluster = new ModelCluster([1, 2])
  cluster.createTopic('events', 1)
  fixture = new ProducerFixture(cluster, [streamConfig('events', 'at-most-once')])
})
afterEach(() => {
  fixture.stop()
  vi.useRealTimers()
})

/** What `/readyz` says of one check. */
function said(name: string): { ok: boolean; detail: string } {
  const { metadata, producer } = fixture
  const producers: Pick<Producers, 'byStream' | 'everConnected' | 'failure' | 'topicStatus'> = {
    byStream: new Map([['events', producer]]),
    everConnected: metadata.everConnected,
    failure: metadata.failure,
    topicStatus: (topic) => metadata.topic(topic).status,
  }
  const { ok, detail } = readinessOf({ producers, draining: false }).checks.find(
    (check) => check.name === name,
  )!
  return { ok, detail }
}

async function writeSome(): Promise<void> {
  for (let i = 0; i < 100; i++) {
    append(fixture.producer, `${i}`)
    await pass(5)
  }
}

test('a broker that does not tell where its log ends is named by what it costs, and leaves the gateway ready', async () => {
  cluster.tellsLogEnd = false
  cluster.replicationMs = 10
  await fixture.start()
  await writeSome()
  expect(said('confirmation')).toEqual({
    ok: true,
    detail: 'a broker has not shown where its log ends, so each write is answered (acks=1): events',
  })
})

test('of brokers that do, nothing is said', async () => {
  cluster.replicationMs = 10
  await fixture.start()
  await writeSome()
  expect(said('confirmation')).toEqual({ ok: true, detail: 'every stream confirms as it is configured to' })
})

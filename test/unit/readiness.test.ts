import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Producers } from '../../src/kafka/producers.ts'
import { readinessOf } from '../../src/readiness.ts'
import { ModelCluster } from '../support/model-broker.ts'
import { FakeInnerProducer } from '../support/fake-inner-producer.ts'
import { append, ProducerFixture, streamConfig } from '../support/producer-fixture.ts'
import { pass, passUntil, useVirtualClock } from '../support/virtual-clock.ts'

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
  const producers: Pick<Producers, 'byStream' | 'everConnected' | 'failure' | 'obstructed'> = {
    byStream: new Map([['events', producer]]),
    everConnected: metadata.everConnected,
    failure: metadata.failure,
    obstructed: [],
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

test('what was not looked at, since Kafka was not reached, is not called good', () => {
  for (const name of ['topics', 'rights', 'leaders', 'versions'])
    expect(said(name).detail).toBe('nothing was looked at, since Kafka was not reached yet')
})

describe('a broker that serves too old a ListOffsets', () => {
  const lacking = 'node-1:9092 serves ListOffsets 0 to 2, Chute needs 4'

  beforeEach(() => void cluster.nodes.get(1)!.served.set(2, { min: 0, max: 2 }))

  test('is named with what is missing, in the log once, and is sent nothing by an at-most-once stream', async () => {
    fixture.metadata.start()
    await pass(60_000)
    expect(fixture.producer.admission).toBe('no_leader_yet')
    expect(fixture.producer.obstacle?.cause).toBe(lacking)
    expect(said('versions')).toEqual({ ok: false, detail: lacking })
    const told = fixture.logs.lines.filter(({ level }) => level === 'warn')
    expect(told).toMatchObject([
      {
        fields: { cause: lacking },
        message: 'broker does not serve what is needed; records wait in the buffer',
      },
    ])
    expect(cluster.requests.filter(({ api }) => api === 'Produce' || api === 'ListOffsets')).toEqual([])
  })

  test('gets events once it serves what is needed', async () => {
    fixture.metadata.start()
    await pass(1_000)
    cluster.nodes.get(1)!.served.set(2, { min: 0, max: 5 })
    await passUntil(() => fixture.producer.admission === 'open', 2_000)
    await writeSome()
    await passUntil(() => fixture.producer.stats.confirmed === 100, 5_000)
    expect(said('versions')).toEqual({ ok: true, detail: 'brokers serve what Chute sends' })
  })

  test('is good enough for an at-least-once stream, which sends none', async () => {
    fixture.stop()
    fixture = new ProducerFixture(cluster, [streamConfig('events', 'at-least-once')])
    await fixture.start()
    await writeSome()
    await passUntil(() => fixture.producer.stats.acked === 100, 5_000)
    expect(said('versions').ok).toBe(true)
  })
})

test('of brokers that do, nothing is said', async () => {
  cluster.replicationMs = 10
  await fixture.start()
  await writeSome()
  expect(said('confirmation')).toEqual({ ok: true, detail: 'every stream confirms as it is configured to' })
})

test('readiness is told without reading the accounts of all streams', () => {
  class WithoutStats extends FakeInnerProducer {
    override get stats(): never {
      throw new Error('hundreds of accounts take too long for a question that comes twice a second')
    }
  }
  const producers = {
    byStream: new Map([['critical', new WithoutStats()]]),
    everConnected: true,
    failure: null,
    obstructed: [],
  }
  expect(readinessOf({ producers, draining: false }).ready).toBe(true)
})

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { BrokerSession } from '../../../../src/kafka/network/broker-session.ts'
import type { BrokerAddress } from '../../../../src/kafka/network/cluster-metadata.ts'
import { ModelCluster } from '../../../support/model-broker.ts'
import { pass, passUntil, useVirtualClock } from '../../../support/virtual-clock.ts'

let cluster: ModelCluster
let address: BrokerAddress | null
let session: BrokerSession
const onUp = vi.fn()
const onNext = vi.fn()
const onDown = vi.fn()

beforeEach(async () => {
  useVirtualClock()
  vi.clearAllMocks()
  cluster = new ModelCluster([1, 2])
  address = { host: 'node-1', port: 9092 }
  session = new BrokerSession({
    transport: cluster,
    requestTimeoutMs: 5_000,
    needs: ['Produce', 'ListOffsets', 'Metadata'],
    address: () => address,
    onUp,
    onNext,
    onDown,
  })
  await passUntil(() => session.connection !== null)
})
afterEach(() => {
  session.stop(new Error('the test is over'))
  vi.useRealTimers()
})

/** As its owner does, once a second. */
async function tendFor(seconds: number): Promise<void> {
  for (let i = 0; i < seconds; i++) {
    await pass(1_000)
    session.everySecond(performance.now())
  }
}

test('a connection with nothing to do says something once a minute', async () => {
  await tendFor(600)
  expect(cluster.requests.length).toBeGreaterThanOrEqual(9)
  expect(cluster.requests.length).toBeLessThanOrEqual(10)
  expect(onDown).not.toHaveBeenCalled()
  expect(onUp).toHaveBeenCalledTimes(1)
})

test('a broker that is gone without a word is noticed', async () => {
  cluster.kill(1, false)
  await tendFor(70)
  expect(onDown).toHaveBeenCalled()
  expect(session.connection).toBeNull()
})

test('a broker that has another address is connected to there', async () => {
  session.follow()
  expect(onDown).not.toHaveBeenCalled()
  address = { host: 'node-2', port: 9092 }
  session.follow()
  expect(onDown).toHaveBeenCalledTimes(1)
  await passUntil(() => session.connection !== null, 2_000)
  expect(cluster.connects.map(({ nodeId }) => nodeId)).toEqual([1, 2])
  session.follow()
  expect(onDown).toHaveBeenCalledTimes(1)
})

test('a broker that is not in the cluster for the moment keeps its connection', () => {
  address = null
  session.follow()
  expect(session.connection).not.toBeNull()
})

test('a renewal that ends late does not take the place of a connection to another address', async () => {
  const connect = cluster.connect.bind(cluster)
  let goOn: (() => void) | null = null
  cluster.connect = async (host, ...rest) => {
    if (host === 'node-1') await new Promise<void>((resolve) => (goOn = resolve))
    return await connect(host, ...rest)
  }
  const before = session.connection!
  Object.assign(before, { renewAtMs: performance.now() })
  session.renewAtOnce()
  await passUntil(() => goOn !== null)
  address = { host: 'node-2', port: 9092 }
  session.follow()
  await passUntil(() => session.connection !== null && session.connection !== before, 5_000)
  goOn!()
  await passUntil(() => cluster.connects.length === 3)
  await pass(1_000)
  expect(onNext).not.toHaveBeenCalled()
})

import type { FastifyInstance } from 'fastify'
import { afterEach, describe, expect, test } from 'vitest'
import { Deduplicator } from '../../src/dedupe/deduplicator.ts'
import type { DedupeStore } from '../../src/dedupe/dedupe-store.ts'
import { MemoryDedupeStore } from '../../src/dedupe/memory-dedupe-store.ts'
import type { CommitListener } from '../../src/kafka/producer/producer.ts'
import { buildEdge, type Edge } from '../support/edge.ts'
import { FakeProducer } from '../support/fake-producer.ts'

let edge: Edge
afterEach(async () => await edge.app.close())

const dedupe = { windowMs: 600_000, maxEntries: 1_000 }

function start(options: { producer?: FakeProducer; store?: DedupeStore; isOn?: boolean } = {}): FakeProducer {
  const { producer = new FakeProducer({ dedupe }), isOn = true } = options
  const store = options.store ?? new MemoryDedupeStore(1_000)
  const deduplicator = new Deduplicator({
    store,
    windowMs: 600_000,
    journal: producer.durability,
    isShared: false,
  })
  edge = buildEdge({}, [producer], { dedupe: new Map(isOn ? [['metrics-realtime', deduplicator]] : []) })
  return producer
}

const routes = {
  streams: '/v1/streams/metrics-realtime',
  beacon: '/v1/beacon/metrics-realtime',
  pixel: '/v1/beacon/metrics-realtime.gif',
}

type Reply = Awaited<ReturnType<FastifyInstance['inject']>>

async function send(
  body: unknown,
  headers: Record<string, string> = {},
  path = routes.streams,
): Promise<Reply> {
  if (path === routes.pixel) {
    const url = `${path}?${new URLSearchParams(body as Record<string, string>).toString()}`
    return await edge.app.inject({ url, headers })
  }
  const payload = typeof body === 'string' ? body : JSON.stringify(body)
  return await edge.app.inject({
    method: 'POST',
    url: path,
    headers: { 'content-type': 'application/json', ...headers },
    payload,
  })
}

const event = (value: number, id?: string) => ({ name: 'a', value, ...(id === undefined ? {} : { id }) })
const key = { 'idempotency-key': '"k-1"' }

describe('an Idempotency-Key', () => {
  test('that comes again is answered as the first was, and nothing is written again', async () => {
    const producer = start()
    const body = [event(1), { name: 'bad' }, event(2)]
    const first = await send(body, key)
    const second = await send(body, key)
    expect([first.statusCode, second.statusCode]).toEqual([202, 202])
    expect(second.json()).toEqual({ ...first.json<object>(), duplicates: 2 })
    expect([first.headers['idempotency-replayed'], second.headers['idempotency-replayed']]).toEqual([
      undefined,
      'true',
    ])
    expect(producer.records).toHaveLength(2)
    expect(edge.telemetry).toMatchObject({ accepted: 4, rejected: 2, duplicates: 2 })
  })

  test('with another body is 422, and nothing of it is accepted', async () => {
    const producer = start()
    await send(event(1), key)
    const reply = await send(event(2), key)
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([422, 'idempotency_key_reused'])
    expect(producer.values).toEqual([JSON.stringify(event(1))])
    expect(edge.telemetry).toMatchObject({ accepted: 1, rejected: 1 })
  })

  test('that cannot be read is 400, and is not taken for none', async () => {
    const producer = start()
    const reply = await send(event(1), { 'idempotency-key': 'a, b' })
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([400, 'invalid_idempotency_key'])
    expect(producer.records).toHaveLength(0)
  })

  test('of a request that was refused does not stand in the way of the retry', async () => {
    const producer = start()
    producer.hasRoom = false
    expect((await send(event(1), key)).statusCode).toBe(503)
    producer.admission = 'not_known_yet'
    producer.hasRoom = true
    expect((await send(event(1), key)).statusCode).toBe(503)
    producer.admission = 'open'
    expect((await send({ name: 'bad' }, key)).statusCode).toBe(400)
    expect((await send(event(1), key)).statusCode).toBe(202)
    expect(producer.records).toHaveLength(1)
  })

  test('of events that were dropped for want of room does not either', async () => {
    const producer = start({ producer: new FakeProducer({ dedupe, onBufferFull: 'drop' }) })
    producer.hasRoom = false
    expect((await send(event(1), key)).statusCode).toBe(202)
    producer.hasRoom = true
    await send(event(1), key)
    expect([producer.dropped, producer.records.length]).toEqual([1, 1])
  })

  test('of a request that waits for room is 409 meanwhile, and does not write twice', async () => {
    const producer = start({ producer: new FakeProducer({ dedupe, onBufferFull: 'block' }) })
    producer.hasRoom = false
    const first = send(event(1), key)
    await new Promise((resolve) => setImmediate(resolve))
    const second = await send(event(1), key)
    expect([second.statusCode, second.json<{ code: string }>().code]).toEqual([409, 'request_in_progress'])
    expect(second.headers['retry-after']).toBe('1')
    await until(() => producer.waiters.length === 1)
    producer.waiters[0]!(true)
    expect((await first).statusCode).toBe(202)
    expect((await send(event(1), key)).headers['idempotency-replayed']).toBe('true')
    expect(producer.records).toHaveLength(1)
  })

  test.each(Object.entries(routes))(
    'has no effect where the stream tells no duplicates, and each reply says so: %s',
    async (_, path) => {
      const producer = start({ isOn: false })
      const replies = [
        await send(event(1, 'id'), key, path),
        await send(event(1, 'id'), key, path),
        await send(event(1), { 'idempotency-key': 'a, b' }, path),
      ]
      expect(producer.records).toHaveLength(3)
      expect(new Set(replies.map(({ headers }) => headers['chute-delivery']))).toEqual(
        new Set(['at-most-once; no-dedupe']),
      )
    },
  )

  test.each(Object.entries(routes))('is taken on each route that takes events: %s', async (_, path) => {
    const producer = start()
    const ok = path.endsWith('.gif') ? 200 : 202
    const first = await send(event(1), key, path)
    const second = await send(event(1), key, path)
    expect([first.statusCode, second.statusCode]).toEqual([ok, ok])
    expect([first, second].map(({ headers }) => headers['idempotency-replayed'])).toEqual([undefined, 'true'])
    expect(first.headers['chute-delivery']).toBe('at-most-once')
    expect(producer.records).toHaveLength(1)
    expect((await send(event(2), key, path)).statusCode).toBe(422)
    expect((await send(event(1), { 'idempotency-key': 'a, b' }, path)).statusCode).toBe(400)
    expect(producer.records).toHaveLength(1)
  })
})

describe('an event with an id', () => {
  test('is written once, whatever request it comes in, and the rest of the request as well', async () => {
    const producer = start()
    await send([event(1, 'a'), event(2, 'b')])
    const reply = await send([event(2, 'b'), event(3), event(4, 'c'), event(4, 'c')])
    expect(reply.statusCode).toBe(202)
    expect(reply.json()).toEqual({ accepted: 4, rejected: 0, duplicates: 2, errors: [] })
    expect(producer.values.map((value) => (JSON.parse(value) as { value: number }).value)).toEqual([
      1, 2, 3, 4,
    ])
    expect(edge.telemetry).toMatchObject({ accepted: 6, duplicates: 2 })
  })

  test('keeps its place in what is said of the others', async () => {
    const producer = start()
    await send(event(1, 'a'))
    const waiting = send([event(1, 'a'), { name: 'bad' }, event(2, 'b')], { prefer: 'wait=5' })
    await until(() => producer.records.length === 2)
    producer.batch.settle({ outcome: 'acked', baseOffset: 40n })
    const reply = await waiting
    expect(reply.statusCode).toBe(200)
    const { events, errors } = reply.json<{ events: object[]; errors: { index: number }[] }>()
    expect(errors.map(({ index }) => index)).toEqual([1])
    expect(events).toMatchObject([
      { index: 0, outcome: 'duplicate', offset: null },
      { index: 2, outcome: 'acked', offset: '41' },
    ])
  })

  test('that was accepted and lost, as its client was told, is written when it comes again', async () => {
    const producer = start()
    const waiting = send(event(1, 'a'), { prefer: 'wait=5', ...key })
    await until(() => producer.records.length === 1)
    producer.batch.settle({ outcome: 'suspected_lost' })
    expect((await waiting).statusCode).toBe(503)
    producer.batch.recordCount = 0
    await send(event(1, 'a'), key)
    expect(producer.records).toHaveLength(2)
  })

  test('of which some were delivered, and the others lost, is written for these alone', async () => {
    const producer = start()
    const body = [event(1, 'a'), event(2, 'b')]
    const waiting = send(body, { prefer: 'wait=5', ...key })
    await until(() => producer.records.length === 2)
    producer.batch.settle({ outcome: 'acked', firstPlace: 0, recordCount: 1 })
    producer.batch.settle({ outcome: 'dropped', reason: 'expired', firstPlace: 1, recordCount: 1 })
    expect((await waiting).statusCode).toBe(503)
    producer.batch.recordCount = 0
    expect((await send(body, key)).json()).toMatchObject({ accepted: 2, duplicates: 1 })
    expect(producer.values.map((value) => (JSON.parse(value) as { id: string }).id)).toEqual(['a', 'b', 'b'])
  })

  test('is told on the beacon routes too', async () => {
    const producer = start()
    for (let i = 0; i < 2; i++) await send(event(1, 'a'), {}, '/v1/beacon/metrics-realtime')
    for (let i = 0; i < 2; i++) await edge.app.inject('/v1/beacon/metrics-realtime.gif?name=a&value=1&id=b')
    expect(producer.records).toHaveLength(2)
  })

  test('is left alone in a request of which another event is invalid and handling is strict', async () => {
    const producer = start()
    const headers = { prefer: 'handling=strict' }
    expect((await send([event(1, 'a'), { name: 'bad' }], headers)).statusCode).toBe(400)
    expect((await send(event(1, 'a'))).statusCode).toBe(202)
    expect(producer.records).toHaveLength(1)
  })
})

describe('an id that comes again', () => {
  const from = (source: string, value: number, id = '1') => ({ name: 'a', value, id, source })

  test('from another source is another event', async () => {
    const producer = start()
    for (const source of ['a', 'b'])
      expect((await send(from(source, 1))).json()).toEqual({ accepted: 1, rejected: 0, errors: [] })
    expect((await send(from('b', 1))).json()).toMatchObject({ accepted: 1, duplicates: 1 })
    expect(producer.records).toHaveLength(2)
  })

  test('with other content is refused, named, and counted; the others of its request are written', async () => {
    const producer = start()
    await send(from('a', 1))
    const body = [from('a', 2), { name: 'bad' }, from('a', 1), from('a', 3, '2'), from('a', 4, '2')]
    const reply = await send(body)
    expect(reply.statusCode).toBe(202)
    expect(reply.json()).toMatchObject({
      accepted: 2,
      rejected: 3,
      duplicates: 1,
      errors: [
        {
          index: 0,
          code: 'id_conflict',
          pointer: '/id',
          detail: expect.stringContaining('"1" of source "a"'),
        },
        { index: 1, code: 'invalid_event' },
        { index: 4, code: 'id_conflict' },
      ],
    })
    expect(producer.values).toEqual([from('a', 1), from('a', 3, '2')].map((each) => JSON.stringify(each)))
    expect(edge.telemetry).toMatchObject({ accepted: 3, rejected: 3, duplicates: 1 })
    expect(edge.telemetry.rejectedBy).toEqual({ id_conflict: 2, invalid_event: 1 })
  })

  test.each(Object.entries(routes))('with other content, alone, is 422 id_conflict: %s', async (_, path) => {
    const producer = start()
    await send(from('a', 1), {}, path)
    const reply = await send(from('a', 2), key, path)
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([422, 'id_conflict'])
    expect(reply.json()).toMatchObject({ accepted: 0, rejected: 1, errors: [{ code: 'id_conflict' }] })
    // Nothing was accepted, so the key stands for nothing yet.
    expect((await send(from('a', 3, '2'), key, path)).headers['idempotency-replayed']).toBeUndefined()
    expect(producer.records).toHaveLength(2)
    expect(edge.telemetry.rejectedBy).toEqual({ id_conflict: 1 })
  })

  test('with other content beside a repetition is told, and so again when the request is repeated', async () => {
    const producer = start()
    await send([from('a', 1), from('a', 1, '2')])
    const body = [from('a', 2), from('a', 1, '2')]
    const first = await send(body, key)
    const second = await send(body, key)
    expect(first.json()).toMatchObject({ accepted: 1, rejected: 1, duplicates: 1 })
    expect(second.json()).toEqual(first.json())
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect(producer.records).toHaveLength(2)
  })

  test('with other content refuses the whole request where handling is strict, and claims nothing of it', async () => {
    const producer = start()
    await send(from('a', 1))
    const body = [from('a', 2), from('a', 3, '2')]
    const reply = await send(body, { prefer: 'handling=strict' })
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([400, 'strict_rejected'])
    expect((await send([from('a', 1), from('a', 2)], { prefer: 'handling=strict' })).statusCode).toBe(400)
    expect((await send(from('a', 3, '2'))).json()).toEqual({ accepted: 1, rejected: 0, errors: [] })
    expect(producer.records).toHaveLength(2)
  })

  test('of more conflicts than are listed lists the first, and counts all', async () => {
    start()
    const events = (value: number) => Array.from({ length: 150 }, (_, nth) => from('a', value, `${nth}`))
    await send(events(1))
    const mixed = events(2)
    mixed[149] = from('a', 2, 'new')
    const reply = (await send(mixed)).json<{ rejected: number; errors: { index: number }[] }>()
    expect(reply.rejected).toBe(149)
    expect(reply.errors.map(({ index }) => index)).toEqual(Array.from({ length: 100 }, (_, nth) => nth))
  })
})

describe('on a durable stream', () => {
  /** A disk that answers when the test says so. */
  function durable(): {
    producer: FakeProducer
    listeners: CommitListener[]
    notes: string[]
    /** Those who wait until the end of a commit is known after all. */
    undecided: (() => void)[]
  } {
    const producer = new FakeProducer({ dedupe })
    const listeners: CommitListener[] = []
    const undecided: (() => void)[] = []
    const notes: string[] = []
    const commit = (listener: CommitListener): void => void listeners.push(listener)
    const note = (name: string): void => void notes.push(name)
    producer.durability = {
      isLasting: true,
      commit,
      begin: () => ({ append: (record) => producer.append(record), note, commit }),
      note,
      noteLater: (name) => void notes.push(`later ${name}`),
      readNotes() {},
      whenDecided: (done) => void undecided.push(done),
    }
    return { producer, listeners, notes, undecided }
  }

  test('keys and ids are noted with the records, and known once these are on disk', async () => {
    const { producer, listeners, notes } = durable()
    start({ producer })
    const first = send(event(1, 'a'), key)
    await until(() => listeners.length === 1)
    expect(notes).toEqual(['kk-1', 'e1:a'])
    expect((await send(event(1, 'a'), key)).statusCode).toBe(409)
    expect((await send(event(1, 'a'))).statusCode).toBe(409)
    listeners[0]!.committed(null)
    expect((await first).statusCode).toBe(202)
    expect((await send(event(1, 'a'), key)).headers['idempotency-replayed']).toBe('true')
    expect(producer.records).toHaveLength(1)
  })

  test('of what was accepted, then lost and told so, the release is noted too', async () => {
    const { producer, listeners, notes } = durable()
    start({ producer })
    const waiting = send(event(1, 'a'), { prefer: 'wait=5', ...key })
    await until(() => listeners.length === 1)
    listeners[0]!.committed(null)
    producer.batch.settle({ outcome: 'dropped', reason: 'expired' })
    expect((await waiting).statusCode).toBe(503)
    expect(notes).toEqual(['kk-1', 'e1:a', 'later kk-1', 'later e1:a'])
  })

  test('where the disk takes neither the events nor the cut, the reply says that the end is not known', async () => {
    const { producer, listeners } = durable()
    start({ producer })
    const reply = send(event(1, 'a'), key)
    await until(() => listeners.length === 1)
    listeners[0]!.committed('EIO', true)
    expect((await reply).statusCode).toBe(504)
    expect((await reply).json()).toMatchObject({ code: 'spool_undecided' })
  })

  test.each(['open', 'closing'] as const)(
    'where the end is not known and the stream is %s, the keys stay claimed until it is: the next start may send the events',
    async (admission) => {
      const { producer, listeners, undecided } = durable()
      start({ producer })
      const reply = send(event(1, 'a'), key)
      await until(() => listeners.length === 1)
      producer.admission = admission
      listeners.pop()!.committed('EIO', true)
      expect((await reply).statusCode).toBe(504)
      expect((await send(event(1, 'a'), key)).json()).toMatchObject({ code: 'request_in_progress' })
      producer.admission = 'open'
      // The disk has removed the events.
      for (const decided of undecided) decided()
      const again = send(event(1, 'a'), key)
      await until(() => listeners.length === 1)
      listeners[0]!.committed(null)
      expect((await again).statusCode).toBe(202)
    },
  )

  test('a disk that refuses leaves no key behind', async () => {
    const { producer, listeners } = durable()
    start({ producer })
    for (const failure of ['ENOSPC', null]) {
      const reply = send(event(1, 'a'), key)
      await until(() => listeners.length === 1)
      listeners.pop()!.committed(failure)
      expect((await reply).statusCode).toBe(failure === null ? 202 : 503)
    }
    expect(producer.records).toHaveLength(2)
  })
})

test('while nobody knows what was sent before, keyed requests are 503 and others go on', async () => {
  const broken: DedupeStore = {
    claim: (_keys, done) => done(new Error('no connection'), [], 0),
    keep() {},
    release() {},
    learn() {},
    unlearn() {},
    size: null,
    forgotten: 0,
  }
  const producer = start({ store: broken })
  const reply = await send(event(1), key)
  expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([503, 'dedupe_unavailable'])
  expect(reply.headers['retry-after']).toBe('1')
  expect((await send(event(1))).statusCode).toBe(202)
  expect(producer.records).toHaveLength(1)
})

test('an exactly-once stream takes nothing that could not be told from its repetition', async () => {
  const producer = start({ producer: new FakeProducer({ dedupe, exactlyOnce: true }) })
  const reply = await send([event(1, 'a'), event(2)])
  expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([400, 'idempotency_key_missing'])
  expect((await send([event(1, 'a'), event(2)], key)).statusCode).toBe(202)
  expect((await send([event(1, 'b'), event(2, 'c')])).statusCode).toBe(202)
  expect(producer.records).toHaveLength(4)
  expect((await send(event(3), {}, routes.beacon)).statusCode).toBe(400)
  expect((await send(event(3), { 'idempotency-key': '"k-2"' }, routes.beacon)).statusCode).toBe(202)
  expect(producer.records).toHaveLength(5)
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}

describe('a request of thousands of ids', () => {
  const count = 3_500
  const many = (value = 1, from = 0): object[] =>
    Array.from({ length: count }, (_, nth) => event(value, `${from + nth}`))

  function startLarge(producer = new FakeProducer({ dedupe })): FakeProducer {
    return start({ producer, store: new MemoryDedupeStore(100_000) })
  }

  test('is taken once, and a part of it that comes again is not', async () => {
    const producer = startLarge()
    expect((await send(many())).json()).toMatchObject({ accepted: count, rejected: 0 })
    expect((await send(many())).json()).toMatchObject({ accepted: count, duplicates: count })
    expect((await send(many(1, 500))).json()).toMatchObject({ accepted: count, duplicates: count - 500 })
    expect(producer.values).toEqual(
      [...many(), ...many(1, count).slice(0, 500)].map((each) => JSON.stringify(each)),
    )
    expect(edge.telemetry).toMatchObject({ accepted: 3 * count, duplicates: 2 * count - 500, rejected: 0 })
    expect(edge.faults).toEqual([])
  })

  test('with a key is answered again as it was', async () => {
    const producer = startLarge()
    const first = await send([...many(), { name: 'bad' }], key)
    const second = await send([...many(), { name: 'bad' }], key)
    expect(second.json()).toEqual({ ...first.json<object>(), duplicates: count })
    expect(second.headers['idempotency-replayed']).toBe('true')
    expect(producer.records).toHaveLength(count)
  })

  test('that all stand for other content is refused, with its first errors', async () => {
    const producer = startLarge()
    await send(many(1))
    const reply = await send(many(2))
    expect(reply.statusCode).toBe(422)
    expect(reply.json()).toMatchObject({ code: 'id_conflict', accepted: 0, rejected: count })
    expect(reply.json<{ errors: object[] }>().errors).toHaveLength(100)
    expect(edge.telemetry).toMatchObject({ accepted: count, rejectedBy: { id_conflict: count } })
    expect(producer.records).toHaveLength(count)
    // Nothing of it stands in the way of the good content.
    expect((await send(many(1))).json()).toMatchObject({ accepted: count, duplicates: count })
  })

  test('that is refused for want of room can be sent again, as a whole and in part', async () => {
    const producer = startLarge()
    producer.hasRoom = false
    expect((await send(many())).statusCode).toBe(503)
    producer.hasRoom = true
    expect((await send(event(1, '7'))).statusCode).toBe(202)
    expect((await send(many())).json()).toMatchObject({ accepted: count, duplicates: 1 })
    expect(producer.records).toHaveLength(count)
  })

  test('beside small ones with its ids: each id is taken once, and who finds it busy is told so', async () => {
    const producer = startLarge()
    const large = send(many())
    const small = [1, count - 1, count].map(async (id) => await send(event(1, String(id))))
    const [reply, ...others] = await Promise.all([large, ...small])
    const accepted = [reply, ...others].flatMap((each) =>
      each.statusCode === 202 ? [each.json<{ accepted: number; duplicates?: number }>()] : [],
    )
    for (const each of [reply, ...others])
      if (each.statusCode !== 202)
        expect([each.statusCode, each.json<{ code: string }>().code]).toEqual([409, 'request_in_progress'])
    const written = accepted.reduce((sum, each) => sum + each.accepted - (each.duplicates ?? 0), 0)
    expect(producer.records).toHaveLength(written)
    expect(new Set(producer.values).size).toBe(written)
    await send(many())
    expect(new Set(producer.values).size).toBe(producer.values.length)
  })

  test('is told the outcome of each event', async () => {
    const producer = startLarge()
    const sent = send(many(), { prefer: 'wait=5' })
    while (producer.records.length < count) await new Promise((resolve) => setImmediate(resolve))
    producer.batch.settle({ outcome: 'confirmed', baseOffset: 0n })
    const { events } = (await sent).json<{ events: { index: number; outcome: string }[] }>()
    expect(events.map(({ index }) => index)).toEqual(Array.from({ length: count }, (_, nth) => nth))
    expect(new Set(events.map(({ outcome }) => outcome))).toEqual(new Set(['confirmed']))
  })
})
